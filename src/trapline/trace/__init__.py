"""What a program's system calls were: recorded files, and what is made of them."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from trapline.trace.file import TraceFile, read

__all__ = ["TraceFile", "read"]


def __getattr__(name: str) -> Any:
    # Who only records needs none of it, and a start is measured in milliseconds.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from trapline.trace import file

    return getattr(file, name)
