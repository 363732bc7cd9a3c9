"""What costs the time now: calls, files and peers, with how much of it was lately."""

from __future__ import annotations

import threading
import time

from trapline.trace.file import CALL, DROPPED, Event
from trapline.trace.files import Files
from trapline.trace.formats import path_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.trace.select import Selection

__all__ = ["COLUMNS", "KINDS", "Top"]

KINDS = ("calls", "files", "peers")
#: Columns of each table, in the order in which they can be sorted by.
COLUMNS = ("ms/s", "calls/s", "ms", "calls", "errors", "name")
_EINPROGRESS = 115
_CONNECTED = frozenset({"accept", "accept4"})
_MOST_NAMES = 50_000


class _Row:
    """What one name has cost.

    :ivar count: calls, and *errors* of these; *taken* nanoseconds that they took.
    :ivar before: count and nanoseconds when rates were last told.
    """

    __slots__ = ("before", "count", "errors", "taken")

    def __init__(self) -> None:
        self.count = self.errors = self.taken = 0
        self.before = (0, 0)


class Top:
    """Counts events, in one thread, for somebody who looks at the counts now and then, in another.

    :param selection: which calls are counted.
    """

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._lock = threading.Lock()
        self._tables: dict[str, dict[str, _Row]] = {kind: {} for kind in KINDS}
        self._files = Files()
        self._peers: dict[tuple[int, int], str] = {}
        self._looked = time.monotonic()
        self.total = 0
        self.dropped = 0

    def take(self, event: Event) -> None:
        """Count one event."""
        if event.kind == DROPPED:
            self.dropped += event.result or 0
        if event.kind != CALL or event.result is None:
            return
        path, peer = self._about(event)
        if not self._selection.wants(event, self._files):
            return
        with self._lock:
            self.total += 1
            for kind, name in zip(KINDS, (event.name, path, peer), strict=True):
                table = self._tables[kind]
                if name and (name in table or len(table) < _MOST_NAMES):
                    row = table.setdefault(name, _Row())
                    row.count += 1
                    row.errors += bool(event.error)
                    row.taken += event.end - event.start

    def _about(self, event: Event) -> tuple[str, str]:
        """Return the file and the peer that a call is about."""
        from trapline import abi

        params = abi.signature(event.name, event.arch).params
        fd = -1
        if params and params[0].kind == "fd" and event.args:
            fd = params[0].narrow(event.args[0])
        path = path_of(event) or (self._files.path(event, fd) if fd >= 0 else "")
        self._files.learn(event)
        peer = self._peers.get((event.pid, fd), "")
        if event.name == "connect" and event.error in (0, _EINPROGRESS):
            peer = self._peers[event.pid, fd] = _address(event)
        elif event.name in _CONNECTED and not event.error and event.result is not None:
            peer = self._peers[event.pid, event.result] = _address(event)
        elif event.name == "close":
            self._peers.pop((event.pid, fd), None)
        return path if path.startswith("/") else "", peer

    def rows(self, kind: str, sort: str) -> list[tuple[float, float, float, int, int, str]]:
        """Return the rows of a table, the most first, in the order of :data:`COLUMNS`; rates are since :meth:`look`."""
        since = max(time.monotonic() - self._looked, 0.001)
        with self._lock:
            found = [
                (
                    (row.taken - row.before[1]) / 1e6 / since,
                    (row.count - row.before[0]) / since,
                    row.taken / 1e6,
                    row.count,
                    row.errors,
                    name,
                )
                for name, row in self._tables[kind].items()
            ]
        found.sort(key=lambda row: row[-1])
        if sort != "name":
            place = COLUMNS.index(sort)
            found.sort(key=lambda row: (row[place], row[2]), reverse=True)
        return found

    def look(self) -> None:
        """Begin a new moment: rates are counted from now on."""
        with self._lock:
            self._looked = time.monotonic()
            for table in self._tables.values():
                for row in table.values():
                    row.before = (row.count, row.taken)


def _address(event: Event) -> str:
    from trapline.decode.addresses import sockaddr

    place = event.args[1] if len(event.args) > 1 else 0
    try:
        size = (
            int.from_bytes(event.read(event.args[2], 4), "little")
            if event.name in _CONNECTED
            else event.args[2]
        )
        data = event.read(place, min(size & 0xFFFFFFFF, 128))
    except (OSError, IndexError):
        return ""
    return str(sockaddr(data)) if len(data) > 2 else ""
