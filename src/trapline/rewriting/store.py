"""Answers that outlive a session: most programs run the code of a few files, which change seldom.

One file per file with code, in ``$XDG_CACHE_HOME/trapline/plans`` (``~/.cache`` without that variable)::

    magic     16 bytes
    check     8 bytes, of all that follows up to the records
    sizes     key, how many records, of all records: 8 bytes each
    key       who made the plans (the gate, and the state of the planner's own modules) and of which state of the
              file; padded to 8 bytes
    index     for each record its name (where the site is, and which kind of answer), where in the records it begins
              in the upper half and its size in the lower one, and its check: 3 numbers of 8 bytes
    records   answers as :mod:`~trapline.rewriting.wire` describes them

It is read on the way to a session's first plan, while the program traps. So nothing is imported here that the
interpreter has not loaded anyway. What cannot be read, or is not as it should be, is as if it were not there; the
agent compares the window's bytes before it writes, whatever it is told.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VARIABLE", "PlanStore", "Stored", "default_folder"]

#: The environment variable that names another folder; set to nothing it turns the store off.
VARIABLE = "TRAPLINE_PLAN_CACHE"

_MAGIC = b"trapline plans 1"
_HEAD = 48
_WORD = 8
_INDEX_ENTRY = 3 * _WORD
_FILE_MAX = 1 << 20
_RECORDS_MAX = 4096
_FOLDER_MAX = 1 << 24
_FILES_MAX = 256
#: A file that changed so recently may change once more without another time stamp.
_SETTLED_NS = 2_000_000_000
#: A prime. That a number of any length is divided by it is the cheapest check that needs no import.
_PRIME = (1 << 64) - 59
_REGULAR = 0o100000


def default_folder(environment: Mapping[str, str]) -> str | None:
    """Return where plans are kept; None when nowhere."""
    folder = environment.get(VARIABLE)
    if folder is None:
        base = environment.get("XDG_CACHE_HOME", "")
        if not base.startswith("/"):
            home = environment.get("HOME", "")
            base = os.path.join(home, ".cache")
        folder = os.path.join(base, "trapline", "plans")
    return folder if folder.startswith("/") else None


def _check(data: bytes | memoryview) -> int:
    # A byte in front, so that zeros in front count.
    return int.from_bytes(b"\1" + data, "big") % _PRIME


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


class Stored:
    """The answers kept for one file with code.

    :ivar fresh: those that are not in the store yet.
    """

    __slots__ = ("_data", "_index", "fresh", "identity")

    def __init__(self, identity: tuple[int, ...], data: bytes = b"", key: bytes = b"") -> None:
        self.identity = identity
        self.fresh: dict[int, bytes] = {}
        self._data = b""
        self._index: dict[int, tuple[int, int]] = {}
        if len(data) >= _HEAD and data[:16] == _MAGIC:
            self._read(data, key)

    def _read(self, data: bytes, key: bytes) -> None:
        check, key_size, count, size = memoryview(data)[16:_HEAD].cast("Q")
        index = _HEAD + key_size
        records = index + count * _INDEX_ENTRY
        if key_size != len(key) or data[_HEAD:index] != key:
            return
        if count > _RECORDS_MAX or len(data) != records + size or _check(data[24:records]) != check:
            return
        words = memoryview(data)[index:records].cast("Q").tolist()
        self._index = dict(zip(words[::3], zip(words[1::3], words[2::3], strict=True), strict=True))
        self._data = data[records:]

    def __len__(self) -> int:
        return len(self._index) + len(self.fresh)

    def get(self, name: int) -> bytes | None:
        """Return an answer; None when there is none, or not the one that was put in."""
        if name in self.fresh:
            return self.fresh[name]
        place, check = self._index.get(name, (0, 0))
        start, size = place >> 32, place & 0xFFFFFFFF
        data = self._data[start : start + size]
        return data if data and len(data) == size and _check(data) == check else None

    def answers(self) -> dict[int, bytes]:
        """Return all of them."""
        found = {name: data for name in self._index if (data := self.get(name)) is not None}
        return found | self.fresh

    def pack(self, key: bytes) -> bytes:
        """Return what is written to the store."""
        words: list[int] = []
        records = bytearray()
        for name, data in self.answers().items():
            if len(words) == 3 * _RECORDS_MAX or len(records) + len(data) > _FILE_MAX // 2:
                break
            words += [name, len(records) << 32 | len(data), _check(data)]
            records += data
        sizes = (len(key), len(words) // 3, len(records))
        rest = b"".join(each.to_bytes(_WORD, "little") for each in sizes) + key
        rest += b"".join(each.to_bytes(_WORD, "little") for each in words)
        return _MAGIC + _check(rest).to_bytes(_WORD, "little") + rest + records


class PlanStore:
    """The store as one session uses it. Whatever goes wrong with its files, nothing is raised.

    :param gate: what tells the agent's template, which is a part of the answers, from others: its ``repr`` counts.
    :param folder: where the files are; it is made when there is something to keep.
    """

    def __init__(self, gate: object, folder: str) -> None:
        self._folder = folder
        self._maker = _maker(gate)
        self._changed: dict[tuple[int, ...], Stored] = {}

    def load(self, identity: tuple[int, ...]) -> Stored:
        """Return what is kept for a file.

        :param identity: device, inode, size, and when it was changed: data, and anything, in ns.
        """
        data = b""
        if self._maker:
            try:
                folder = self._open_folder()
                try:
                    data = _read_file(folder, _name(identity))
                finally:
                    os.close(folder)
            except OSError:
                pass
        return Stored(identity, data, self._key(identity))

    def add(self, stored: Stored, name: int, answer: bytes) -> None:
        """Keep one more answer, from the next :meth:`save` on."""
        if self._maker and len(stored) < _RECORDS_MAX:
            changed = max(stored.identity[3:])
            if abs(time.time_ns() - changed) > _SETTLED_NS:
                stored.fresh[name] = answer
                self._changed[stored.identity] = stored

    @property
    def is_changed(self) -> bool:
        """Whether there is something to save."""
        return bool(self._changed)

    def save(self) -> None:
        """Write what is new. Of two sessions that do so at once, one may lose what it found."""
        changed, self._changed = self._changed, {}
        if not changed:
            return
        try:
            folder = self._make_folder()
            try:
                for identity, stored in changed.items():
                    self._write(folder, identity, stored)
                _make_room(folder)
            finally:
                os.close(folder)
        except OSError:
            pass

    def _key(self, identity: tuple[int, ...]) -> bytes:
        key = self._maker + repr(identity).encode()
        return key + bytes(-len(key) % _WORD)

    def _write(self, folder: int, identity: tuple[int, ...], stored: Stored) -> None:
        key = self._key(identity)
        # Others may have added to it.
        try:
            latest = Stored(identity, _read_file(folder, _name(identity)), key)
        except OSError:
            latest = Stored(identity)
        latest.fresh = stored.answers()
        data = latest.pack(key)
        temporary = f"{_name(identity)}.{os.getpid()}.{time.monotonic_ns():x}"
        fd = os.open(
            temporary,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o600,
            dir_fd=folder,
        )
        try:
            try:
                complete = os.write(fd, data) == len(data)
            finally:
                os.close(fd)
            if complete:
                os.rename(temporary, _name(identity), src_dir_fd=folder, dst_dir_fd=folder)
                return
        except OSError:
            pass
        os.unlink(temporary, dir_fd=folder)

    def _open_folder(self) -> int:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if _is_ours(os.fstat(fd)):
            return fd
        os.close(fd)
        raise PermissionError(self._folder)

    def _make_folder(self) -> int:
        missing = []
        path = self._folder
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        # Root does not put its files into somebody's home because HOME says so.
        if missing and os.stat(path).st_uid not in (0, os.geteuid()):
            raise PermissionError(path)
        for each in reversed(missing):
            try:
                os.mkdir(each, 0o700)
            except FileExistsError:
                continue
        return self._open_folder()


def _name(identity: tuple[int, ...]) -> str:
    return f"{identity[0]:x}-{identity[1]:x}"


def _maker(gate: object) -> bytes:
    """Return what the answers depend on besides the code; nothing when that cannot be told."""
    modules = []
    try:
        with os.scandir(os.path.dirname(__file__)) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    status = entry.stat()
                    modules.append((entry.name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
    except OSError:
        return b""
    if not modules:
        return b""
    return repr((sorted(modules), gate)).encode()


def _read_file(folder: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        status = os.fstat(fd)
        if not _is_ours(status) or status.st_mode & 0o170000 != _REGULAR or status.st_size > _FILE_MAX:
            return b""
        return os.read(fd, status.st_size)
    finally:
        os.close(fd)


def _make_room(folder: int) -> None:
    """Remove what was written longest ago, also what writers left behind that were killed, until the rest fits."""
    files = []
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            files.append((status.st_mtime_ns, status.st_size, entry.name))
    total = sum(size for _, size, _ in files)
    files.sort(reverse=True)
    while files and (len(files) > _FILES_MAX or total > _FOLDER_MAX):
        _, size, name = files.pop()
        total -= size
        os.unlink(name, dir_fd=folder)
