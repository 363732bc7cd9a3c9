"""How the lines of common calls are written without Python: ``struct tl_text_plan`` of native/core/trace_text.h."""

from __future__ import annotations

import struct

from trapline import abi
from trapline.abi import structs
from trapline.abi.classes import EVERY
from trapline.decode.calls import NEEDS_MODE, result_text
from trapline.trace.file import CALL, Event
from trapline.trace.files import LEARNED
from trapline.trace.special import SPECIAL
from trapline.trace.strace import StraceLine
from trapline.trace.values import file_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from trapline.abi import Param, Signature

__all__ = ["named", "plan"]

_OP, _HEAD = struct.Struct("<8BI3H2x"), struct.Struct("<31s6B3x")
_OPS = 6
_RESULT, _MODE = 6, 7
_PLANNED = 1
_NUMBER, _ADDRESS, _HANDLE, _NAMED, _STRING, _BUFFER, _STAT, _ENTRIES, _NOTHING, _DESCRIPTOR = range(1, 11)
_SIGNED, _OUT, _FILLED, _IN = 1, 2, 4, 8
_OUTCOMES = {"successful": 1, "failed": 2, "unfinished": 4}
#: Kinds of values that are written as they are.
_NUMBERS = frozenset({"int", "size", "offset", "pid", "timer", "key"})
#: Calls whose results are written in ways of their own, or with more behind them.
_OWN_RESULTS = frozenset({"umask", "fcntl", "rt_sigreturn", "personality"})
_OWN_ARGUMENTS = SPECIAL.keys() - {"getdents64"} | {"mq_open"}


def plan(nr: int, names: Collection[str], outcomes: Collection[str]) -> bytes:
    """Return the plan of a number, or nothing where its lines take more than a plan can say.

    :param names: of the calls that are shown, or :data:`trapline.abi.classes.EVERY`.
    :param outcomes: ``successful``, ``failed``, ``unfinished``.
    """
    name = abi.name(nr, "x86_64")
    signature = abi.signature(name, "x86_64")
    ops = _ops(signature)
    if ops is None:
        return b""
    shown = sum(_OUTCOMES[outcome] for outcome in outcomes) if names == EVERY or name in names else 0
    return _plan(signature, shown, ops)


def named(nr: int, index: int, value: int) -> str:
    """Return the text of one value of a call.

    :param index: of the argument; 6 is the call's result, 7 the mode of a file.
    """
    signature = abi.signature(abi.name(nr, "x86_64"), "x86_64")
    if index == _RESULT:
        return result_text(signature, value)
    if index == _MODE:
        return file_mode(value)
    args = [0] * 6
    args[index] = value & (1 << 64) - 1
    event = Event(CALL, 0, 0, 0, 0, nr, 0, tuple(args), 0, [], "", "", None)
    return StraceLine(event, 0).argument(signature.params[index])


def _plan(signature: Signature, shown: int, ops: list[bytes]) -> bytes:
    kinds = {"addr": _ADDRESS, "none": _NOTHING, "mode": _NAMED, "fd": _DESCRIPTOR}
    kind = kinds.get(signature.returns, _NUMBER)
    learns = signature.returns == "fd" or signature.name in LEARNED
    head = _HEAD.pack(
        signature.name.encode(), shown, _PLANNED, len(ops), kind, signature.returns != "size", learns
    )
    return head + b"".join(ops).ljust(_OPS * _OP.size, b"\0")


def _ops(signature: Signature) -> list[bytes] | None:
    """Return how each argument is written, or None where that takes more than this can say."""
    name = signature.name
    if not signature.known or len(name) > 30 or name in _OWN_RESULTS or name in _OWN_ARGUMENTS:
        return None
    dirfds = {param.dirfd for param in signature.params if param.dirfd}
    found = []
    for param in signature.params:
        op = _op(signature, param, dirfds)
        if op is None:
            return None
        found.append(op)
    return found


def _op(signature: Signature, param: Param, dirfds: set[str]) -> bytes | None:
    flags = _SIGNED if param.signed else 0
    if param.pointer is None:
        if param.kind == "fd" and (param.name in dirfds or param.name.endswith("dfd")):
            return _pack(_HANDLE, flags, param)
        if param.kind == "fd":
            return _pack(_DESCRIPTOR, flags, param)
        if param.kind in _NUMBERS and (param.kind, signature.name) != ("offset", "mmap"):
            return _pack(_NUMBER, flags, param)
        if param.kind in ("addr", "arg"):
            return _pack(_ADDRESS, flags, param)
        if param.kind == "mode" and signature.name in ("open", "openat"):
            holder = signature.param("flags")
            return None if holder is None else _pack(_NAMED, flags, param, of=holder, mask=NEEDS_MODE)
        return None if param.family == "so" else _pack(_NAMED, flags, param)
    flags |= {"in": _IN, "out": _OUT}.get(param.pointer, 0)
    if param.kind in ("path", "str") and param.pointer == "in":
        return _pack(_STRING, flags, param)
    size = signature.param(param.size_of) if param.size_of else None
    if param.kind == "buf" and param.struct is None and size is not None and size.pointer is None:
        return _pack(_BUFFER, flags | (_FILLED if param.filled else 0), param, of=size)
    if param.struct == "linux_dirent64":
        return _pack(_ENTRIES, flags, param)
    if param.struct == "stat" and param.kind != "array":
        shape = structs.layout("stat", "x86_64")
        places = {field.name: field.offset for field in shape.fields}
        return _pack(_STAT, flags, param, stat=(places["st_mode"], places["st_size"], shape.size))
    return None


def _pack(
    kind: int,
    flags: int,
    param: Param,
    *,
    of: Param | None = None,
    mask: int = 0,
    stat: tuple[int, int, int] = (0, 0, 0),
) -> bytes:
    other = (0, 0, 0) if of is None else (of.index, of.width, of.signed)
    return _OP.pack(kind, flags, param.index, param.width, *other, 0, mask, *stat)
