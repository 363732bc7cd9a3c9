"""``-c``: calls, time and errors by name, with how long they took."""

from __future__ import annotations

from trapline import abi
from trapline.errors import UsageError
from trapline.trace.file import CALL, UNSEEN, Event
from trapline.trace.files import Files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from trapline.trace.select import Selection

__all__ = ["SORTS", "Summary"]

#: What the table can be sorted by: columns as strace calls them.
SORTS: dict[str, Callable[[tuple[str, list[int]]], Any]] = {
    "time": lambda row: (-row[1][2], -row[1][0], row[0]),
    "calls": lambda row: (-row[1][0], row[0]),
    "errors": lambda row: (-row[1][1], row[0]),
    "avg-time": lambda row: (-row[1][2] // max(row[1][0], 1), row[0]),
    "name": lambda row: row[0],
    "none": lambda row: 0,
}

#: Upper ends of the columns of the histogram, in nanoseconds.
_BINS = ((1_000, "<1us"), (10_000, "<10us"), (100_000, "<100us"), (1_000_000, "<1ms"), (10_000_000, "<10ms"))
_LAST = ">=10ms"


class Summary:
    """Counts calls.

    :param selection: which calls are counted.
    :param sort: by what the table is sorted, one of :data:`SORTS`.
    :raises UsageError: by something else.
    """

    def __init__(self, selection: Selection | None = None, sort: str = "time") -> None:
        if sort not in SORTS:
            raise UsageError(f"trace: -S knows {', '.join(SORTS)}, not {sort!r}")
        self._key = SORTS[sort]
        self._selection = selection
        self._files = Files() if selection is not None and selection.needs_files else None
        #: By name: calls, errors, nanoseconds, and how many took how long.
        self.calls: dict[str, list[int]] = {}

    def take(self, event: Event) -> None:
        """Count one event."""
        if event.kind != CALL or (event.result is None and not event.unseen):
            return
        is_wanted = self._selection is None or self._selection.wants(event, self._files)
        if self._files is not None:
            self._files.learn(event)
        if not is_wanted:
            return
        found = self.calls.setdefault(event.name, [0] * (4 + len(_BINS)))
        taken = event.end - event.start
        found[0] += 1
        if event.unseen:
            return
        found[1] += bool(event.error)
        found[2] += taken
        place = next((index for index, (end, _) in enumerate(_BINS) if taken < end), len(_BINS))
        found[3 + place] += 1

    def add(self, counts: Iterable[tuple[int, int, int, int, int, Sequence[int]]]) -> None:
        """Count what :meth:`trapline.trace.file.TraceFile.counts` returns."""
        for nr, is_i386, outcome, calls, nanoseconds, places in counts:
            name = abi.name(nr, "i386" if is_i386 else "x86_64")
            has_failed = None if outcome == UNSEEN else bool(outcome)
            wanted = self._selection
            if wanted is not None and (
                not wanted.wants_outcome(name, has_failed) or (has_failed is None and wanted.by_outcome)
            ):
                continue
            found = self.calls.setdefault(name, [0] * (4 + len(_BINS)))
            for index, more in enumerate((calls, calls * bool(has_failed), nanoseconds, *places)):
                found[index] += more

    def text(self) -> str:
        """Write the table, the most time first."""
        total = sum(found[2] for found in self.calls.values())
        bins = [name for _, name in _BINS] + [_LAST]
        head = (
            "% time     seconds  usecs/call     calls    errors  "
            + " ".join(f"{name:>7}" for name in bins)
            + " syscall"
        )
        rule = (
            "------ ----------- ----------- --------- --------- "
            + " ".join(["-------"] * len(bins))
            + " ----------------"
        )
        lines = [head, rule]
        for name, found in sorted(self.calls.items(), key=self._key):
            lines.append(self._row(name, found, total))
        every = [sum(column) for column in zip(*self.calls.values(), strict=True)] or [0] * (4 + len(_BINS))
        lines += [rule, self._row("total", every, total)]
        return "\n".join(lines) + "\n"

    @staticmethod
    def _row(name: str, found: list[int], total: int) -> str:
        count, errors, nanoseconds, *places = found
        if count and not any(places):  # nobody saw how they returned
            return f"{'?':>6} {'?':>11} {'?':>11} {count:9d} {'?':>9} {' ' * (8 * len(places))}{name}"
        share = 100 * nanoseconds / total if total else 0.0
        each = nanoseconds // max(count, 1) // 1000
        histogram = " ".join(f"{place or '':>7}" for place in places)
        return f"{share:6.2f} {nanoseconds / 1e9:11.6f} {each:11d} {count:9d} {errors or '':>9} {histogram} {name}"
