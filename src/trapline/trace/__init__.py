"""What a program's system calls were: recorded files, and what is made of them."""

from trapline.trace.file import TraceFile, read

__all__ = ["TraceFile", "read"]
