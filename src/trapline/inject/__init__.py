"""Fault injection in strace's own syntax, and more."""

from trapline.inject.expression import parse, read_rules

__all__ = ["parse", "read_rules"]
