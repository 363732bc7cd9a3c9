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

_SIGNALS = 65
_OUTCOMES = 3
#: strace's keys that change nothing here.
_ALWAYS = {
    "abbrev": "structs are shown as short as strace does without it; --format jsonl has all of them",
    "verbose": "structs are always shown",
    "raw": "--format jsonl has the numbers of arguments",
    "read": "-s N shows more of what was read; --format raw -s 16384 keeps it",
    "write": "-s N shows more of what was written; --format raw -s 16384 keeps it",
    "kvm": "calls of virtual machines are not looked into",
    "trace-fds": "-P GLOB selects by file",
    "trace-fd": "-P GLOB selects by file",
}


def _signals(text: str, value: str) -> frozenset[int] | None:
    """Read a set of signals, ``all``, ``none``, ``SIGUSR1,chld`` or ``!SIGCHLD``."""
    from trapline.abi import flags

    inverted = value.startswith("!")
    known = flags.members("signal")
    found: set[int] = set()
    for word in value.removeprefix("!").split(","):
        name = word.upper() if word.upper().startswith("SIG") else f"SIG{word.upper()}"
        if word == "all":
            found |= set(range(1, _SIGNALS))
        elif word.isascii() and word.isdigit() and 0 < int(word) < _SIGNALS:
            found.add(int(word))
        elif name in known:
            found.add(known[name])
        elif word != "none":
            raise UsageError(f"-e {text}: unknown signal {word!r}; write names such as SIGUSR1, all or none")
    wanted = set(range(1, _SIGNALS)) - found if inverted else found
    return None if len(wanted) == _SIGNALS - 1 else frozenset(wanted)


class Selection:
    """What is wanted.

    :ivar names: of calls, or :data:`trapline.abi.classes.EVERY`.
    :ivar globs: one of a call's paths, or of its descriptors' files, must match one of these.
    :ivar status: ``successful`` and ``failed``: which outcomes.
    :ivar signals: the numbers of those that are shown, or None: all.
    :ivar quiet: nothing is said of how threads end.
    :ivar decodes_descriptors: descriptors are shown with their files.
    """

    def __init__(self) -> None:
        self.names: tuple[str, ...] = EVERY
        self.globs: list[str] = []
        self.status = frozenset({"successful", "failed", "unfinished"})
        self.signals: frozenset[int] | None = None
        self.quiet = False
        self.decodes_descriptors = False

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
                found.signals = _signals(text, value)
            elif key == "status":
                words = frozenset(value.split(","))
                if not words <= {"successful", "failed", "unfinished"}:
                    raise UsageError(f"-e {text}: there are successful, failed and unfinished")
                found.status = words
            elif key in ("quiet", "silent", "silence", "q"):
                found.quiet = found.quiet or not {"exit", "exits", "all"}.isdisjoint(value.split(","))
            elif key in ("decode-fds", "decode-fd"):
                found.decodes_descriptors = value not in ("none", "!all")
            elif key in ("inject", "fault"):
                raise UsageError(f"-e {text}: `trapline inject` injects")
            elif key in _ALWAYS:
                raise UsageError(f"-e {text}: {_ALWAYS[key]}")
            else:
                raise UsageError(f"-e {text}: there are trace=, signal=, status=, quiet= and decode-fds=")
        return found

    @property
    def by_outcome(self) -> bool:
        """Only calls that end in some ways are shown."""
        return len(self.status) < _OUTCOMES

    @property
    def wants_signals(self) -> bool:
        """Some signals are shown."""
        return self.signals is None or bool(self.signals)

    def wants_signal(self, number: int) -> bool:
        """Whether a signal is shown."""
        return self.signals is None or number in self.signals

    @property
    def needs_files(self) -> bool:
        """Descriptors have to be followed."""
        return bool(self.globs)

    def wants(self, event: Event, files: Files | None) -> bool:
        """Whether a call is shown."""
        if event.unseen and self.by_outcome:
            return False
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
