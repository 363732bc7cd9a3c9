"""Structs that system calls point to: bytes to records and back, for any architecture.

>>> unpack("timespec", bytes(16), "x86_64")
timespec(tv_sec=0, tv_nsec=0)

Numbers are ``int``; byte arrays ``bytes``; character arrays ``bytes`` without the zeros at their end; other
arrays tuples; nested structs records. A flexible member at the end takes the rest of the data.
"""

from __future__ import annotations

import struct as _struct

from trapline.abi import ARCHES, native_arch
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CODES = {
    "u8": "<B",
    "s8": "<b",
    "u16": "<H",
    "s16": "<h",
    "u32": "<I",
    "s32": "<i",
    "u64": "<Q",
    "s64": "<q",
    "be16": ">H",
    "be32": ">I",
}
#: Where the length of a record with a flexible end is, for walking through a buffer of them.
_LENGTH_FIELDS = {"linux_dirent": "d_reclen", "linux_dirent64": "d_reclen", "inotify_event": "len"}

_tables: dict[str, dict[str, str]] = {}
_layouts: dict[tuple[str, str], Layout] = {}


class Field:
    """One member of a struct.

    :ivar name: the kernel's name.
    :ivar offset: bytes from the start.
    :ivar kind: ``u8`` to ``u64``, ``s8`` to ``s64``, ``be16``, ``be32``, ``bytes``, ``chars``,
        ``rest`` and ``text`` (flexible bytes and characters), or a struct's name.
    :ivar count: elements of an array, 0 for a single value.
    :ivar size: bytes, 0 for a flexible member.
    """

    __slots__ = ("code", "count", "kind", "name", "offset", "size")

    def __init__(self, encoded: str, arch: str) -> None:
        self.name, offset, self.kind, count = encoded.split(",")
        self.offset = int(offset)
        self.count = int(count)
        self.code: str | None = None
        if self.kind in ("bytes", "chars"):
            self.size = self.count
        elif self.kind in ("rest", "text"):
            self.size = 0
        elif self.kind in _CODES:
            code = _CODES[self.kind]
            self.code = f"{code[0]}{self.count or 1}{code[1]}"
            self.size = _struct.calcsize(self.code)
        else:
            self.size = layout(self.kind, arch).size

    def __repr__(self) -> str:
        array = f"[{self.count}]" if self.count else ""
        return f"<Field {self.name}: {self.kind}{array} at {self.offset}>"


class Layout:
    """Where the members of a struct are on one architecture.

    :ivar size: bytes, up to the flexible member where there is one.
    :ivar flexible: the last member takes whatever follows.
    :ivar extensible: the kernel takes shorter versions and reads the rest as zeros; so does :func:`unpack`.
    """

    __slots__ = ("arch", "extensible", "fields", "flexible", "name", "size")

    def __init__(self, name: str, arch: str, encoded: str) -> None:
        head, *rest = encoded.split(";")
        self.name = name
        self.arch = arch
        self.size = int(head.rstrip("*+"))
        self.flexible = head.endswith("+")
        self.extensible = head.endswith("*")
        self.fields = tuple([Field(text, arch) for text in rest])


class Record:
    """The members of one struct as attributes."""

    __slots__ = ("_struct_name", "_values")
    _struct_name: str
    _values: dict[str, Any]

    def __init__(self, struct_name: str, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_struct_name", struct_name)
        object.__setattr__(self, "_values", values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"struct {self._struct_name} has no member {name!r}") from None

    def __setattr__(self, name: str, value: object) -> None:
        if name not in self._values:
            raise AttributeError(f"struct {self._struct_name} has no member {name!r}")
        self._values[name] = value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return self._struct_name == other._struct_name and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    def __dir__(self) -> list[str]:
        return list(self._values)

    def __reduce__(self) -> tuple[type[Record], tuple[str, dict[str, Any]]]:
        return Record, (self._struct_name, self._values)

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self._values.items() if not _padding(name))
        return f"{self._struct_name}({shown})"


def _padding(name: str) -> bool:
    return name.startswith(("__pad", "__unused", "__spare", "__reserved", "_f"))


def name_of(record: Record) -> str:
    """Return the name of the struct that a record was read from."""
    return record._struct_name


def values(record: Record) -> dict[str, Any]:
    """Return the members of a record as a dictionary, for ``pack(name, **values(record))``."""
    return dict(record._values)


def layout(name: str, arch: str | None = None) -> Layout:
    """Return the layout of a struct.

    :raises UsageError: there is no such struct or architecture.
    """
    arch = arch or native_arch()
    found = _layouts.get((name, arch))
    if found is None:
        encoded = _encoded(arch).get(name)
        if not encoded:
            raise _unknown(name, arch)
        found = _layouts[name, arch] = Layout(name, arch, encoded)
    return found


def _encoded(arch: str) -> dict[str, str]:
    from trapline.abi import layouts

    found = _tables.get(arch)
    if found is None:
        if arch not in ARCHES:
            raise UsageError(f"unknown architecture {arch!r}: use one of {', '.join(ARCHES)}")
        others = {"i386": layouts.I386, "aarch64": layouts.AARCH64}.get(arch, {})
        found = _tables[arch] = layouts.X86_64 | others
    return found


def _unknown(name: str, arch: str) -> UsageError:
    import difflib

    near = difflib.get_close_matches(name, list(names(arch)), n=3)
    advice = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"no layout for struct {name!r} on {arch}{advice}")


def names(arch: str | None = None) -> tuple[str, ...]:
    """Return the names of all structs that have a layout on *arch*."""
    return tuple([name for name, encoded in _encoded(arch or native_arch()).items() if encoded])


def exists(name: str, arch: str | None = None) -> bool:
    """Whether there is a layout for struct *name* on *arch*."""
    arch = arch or native_arch()
    return (name, arch) in _layouts or bool(_encoded(arch).get(name))


def sizeof(name: str, arch: str | None = None) -> int:
    """Return the size of a struct in bytes, up to its flexible member where it has one."""
    return layout(name, arch).size


def fields(name: str, arch: str | None = None) -> tuple[Field, ...]:
    """Return the members of a struct in order."""
    return layout(name, arch).fields


def unpack(name: str, data: bytes, arch: str | None = None) -> Record:
    """Read a struct from the start of *data*; bytes after it are ignored.

    :raises UsageError: *data* is too short (except for extensible structs), or there is no such struct.
    """
    shape = layout(name, arch)
    data = bytes(data)
    if len(data) < shape.size:
        if not shape.extensible:
            raise UsageError(f"struct {name} on {shape.arch} has {shape.size} bytes, got {len(data)}")
        data = data.ljust(shape.size, b"\0")
    return Record(name, {field.name: _read(field, data, shape.arch) for field in shape.fields})


def _read(field: Field, data: bytes, arch: str) -> Any:
    if field.code is not None:
        found = _struct.unpack_from(field.code, data, field.offset)
        return found if field.count else found[0]
    if field.kind == "rest":
        return data[field.offset :]
    if field.kind == "text":
        return data[field.offset :].split(b"\0", 1)[0]
    part = data[field.offset : field.offset + field.size]
    if field.kind == "bytes":
        return part
    return part.rstrip(b"\0") if field.kind == "chars" else unpack(field.kind, part, arch)


def unpack_all(name: str, data: bytes, arch: str | None = None) -> Iterator[Record]:
    """Read one struct after the other until *data* ends: directory entries, inotify events, plain arrays.

    :raises UsageError: *data* ends inside a struct.
    """
    shape = layout(name, arch)
    data = bytes(data)
    position = 0
    while position < len(data):
        length = shape.size
        if name in _LENGTH_FIELDS:
            length = getattr(unpack(name, data[position:], shape.arch), _LENGTH_FIELDS[name])
            length += shape.size if name == "inotify_event" else 0
            if length < shape.size:
                raise UsageError(f"struct {name} at byte {position} claims a length of {length}")
        part = data[position : position + length]
        if name == "linux_dirent":
            part = part[:-1]  # its last byte is the type, not a part of the name
        yield unpack(name, part, shape.arch)
        position += length


def pack(name: str, arch: str | None = None, /, **members: Any) -> bytes:
    """Write a struct; members that are not given are zero.

    Byte arrays take ``bytes`` or ``str``, other arrays sequences, nested structs records or dictionaries.

    :raises UsageError: a member does not exist, does not fit, or has the wrong type.
    """
    shape = layout(name, arch)
    known = {field.name: field for field in shape.fields}
    for member in members:
        if member not in known:
            raise UsageError(
                f"struct {name} on {shape.arch} has no member {member!r}: it has {', '.join(known)}"
            )
    data = bytearray(shape.size)
    for member, value in members.items():
        _write(known[member], value, data, shape)
    return bytes(data)


def _write(field: Field, value: Any, data: bytearray, shape: Layout) -> None:
    where = f"struct {shape.name}, member {field.name}"
    if field.code is not None:
        items = tuple(value) if field.count else (value,)
        if len(items) != (field.count or 1):
            raise UsageError(f"{where}: wants {field.count} numbers, got {len(items)}")
        try:
            _struct.pack_into(field.code, data, field.offset, *items)
        except _struct.error as error:
            raise UsageError(f"{where}: {value!r} does not fit in {field.kind}: {error}") from None
    elif field.kind in ("bytes", "chars", "rest", "text"):
        raw = value.encode(errors="surrogateescape") if isinstance(value, str) else bytes(value)
        if field.kind in ("rest", "text"):
            data[field.offset :] = raw
        elif len(raw) > field.size:
            raise UsageError(f"{where}: {len(raw)} bytes do not fit in {field.size}")
        else:
            data[field.offset : field.offset + len(raw)] = raw
    else:
        inner = values(value) if isinstance(value, Record) else dict(value)
        data[field.offset : field.offset + field.size] = pack(field.kind, shape.arch, **inner)
