"""Which events are shown: ``-e trace=``, ``-P`` and their like."""

from __future__ import annotations

from trapline.abi.classes import EVERY, select
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from trapline.trace.file import Event
    from trapline.trace.files import Files

__all__ = ["Selection"]


class Selection:
    """What is wanted.

    :ivar names: of calls, or :data:`trapline.abi.classes.EVERY`.
    :ivar globs: one of a call's paths, or of its descriptors' files, must match one of these.
    :ivar status: ``successful`` and ``failed``: which outcomes.
    :ivar wants_signals: signals too.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = EVERY
        self.globs: list[str] = []
        self.status = frozenset({"successful", "failed", "unfinished"})
        self.wants_signals = True

    @classmethod
    def parse(cls, expressions: Iterable[str], globs: Iterable[str]) -> Selection:
        """Read strace's ``-e`` expressions and ``-P`` globs.

        :raises UsageError: one is not understood.
        """
        found = cls()
        found.globs = list(globs)
        for text in expressions:
            key, equals, value = text.partition("=")
            if not equals:
                key, value = "trace", text
            if key in ("trace", "t"):
                found.names = select(value)
            elif key in ("signal", "signals", "s"):
                if value not in ("all", "none", "!all"):
                    raise UsageError(f"-e {text}: signals are shown all or none; write signal=none")
                found.wants_signals = value == "all"
            elif key == "status":
                words = frozenset(value.split(","))
                if not words <= {"successful", "failed", "unfinished"}:
                    raise UsageError(f"-e {text}: there are successful, failed and unfinished")
                found.status = words
            else:
                raise UsageError(
                    f"-e {text}: there are trace=, signal= and status=; `trapline inject` injects"
                )
        return found

    @property
    def needs_files(self) -> bool:
        """Descriptors have to be followed."""
        return bool(self.globs)

    def wants(self, event: Event, files: Files | None) -> bool:
        """Whether a call is shown."""
        outcome = None if event.result is None else event.error != 0
        return self.wants_outcome(event.name, outcome) and (not self.globs or self._matches(event, files))

    def wants_outcome(self, name: str, has_failed: bool | None) -> bool:
        """Whether calls of a name that end like this are shown; None is: not at all."""
        outcome = "unfinished" if has_failed is None else "failed" if has_failed else "successful"
        return outcome in self.status and (self.names == EVERY or name in self.names)

    def _matches(self, event: Event, files: Files | None) -> bool:
        from fnmatch import fnmatchcase

        from trapline import abi

        signature = abi.signature(event.name, event.arch)
        names = [event.path] if event.path else []
        for param in signature.params:
            if param.index >= len(event.args):
                break
            value = param.narrow(event.args[param.index])
            if param.kind == "path":
                try:
                    names.append(
                        event.read_before(value, 4096).split(b"\0")[0].decode(errors="surrogateescape")
                    )
                except OSError:
                    continue
            elif param.kind == "fd" and files is not None:
                names.append(files.path(event, value))
        return any(fnmatchcase(name, glob) for name in names for glob in self.globs)
