"""Filters for seccomp: conditions, the compiler, an assembler, and tools that explain what they made."""
