"""Write abi/kept_x86_64.py and abi/kept_i386.py: what a record keeps of a call and of the memory behind its arguments.

By the prototypes that the other scripts have written; native/agent/capture.h tells what an operation is.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

from tables import ROOT, heading

sys.path.insert(0, str(ROOT / "src"))

from trapline import abi
from trapline.abi import Param, Signature, structs

_OP, _CALLS = struct.Struct("<BBBBHH"), 1024
_STRING, _BUFFER, _ARRAY, _FIXED, _COUNTED, _VECTOR, _MESSAGE, _STRINGS, _IOCTL, _PATH, _IF = range(1, 12)
_BEHIND, _MESSAGES = 12, 13
_BEFORE, _AFTER, _FILLED = 1, 2, 4
_WHEN = {"in": _BEFORE, "out": _AFTER, "inout": _BEFORE | _AFTER}
_SOCKADDR = 128
#: Enough to count the entries of a folder.
_ENTRIES = 24576
_IOCTL_UNKNOWN = 64
_PATH_MAX = 4096
#: What an argument points to if another has a value: argument, when, the other, its value, bytes.
_CONDITIONAL = {
    "prctl": (
        (1, 1, 0, 15, 16),
        (1, 2, 0, 16, 16),
        (1, 2, 0, 2, 4),
        (1, 2, 0, 37, 4),
        (1, 2, 0, 25, 4),
        (1, 2, 0, 40, 8),
    ),
    # The value of FSCONFIG_SET_STRING; of KEYCTL_JOIN_SESSION_KEYRING, KEYCTL_SEARCH, KEYCTL_DESCRIBE and KEYCTL_READ
    # strings, and what is read.
    "fsconfig": ((3, 1, 1, 1, 64),),
    "keyctl": ((1, 1, 0, 1, 64), (2, 1, 0, 10, 64), (3, 1, 0, 10, 64), (2, 2, 0, 6, 64), (2, 2, 0, 11, 64)),
    "arch_prctl": ((1, 2, 0, 0x1003, 8), (1, 2, 0, 0x1004, 8)),
    "seccomp": ((2, 1, 0, 1, 16), (2, 1, 0, 2, 4)),
    # FUTEX_WAIT and FUTEX_WAIT_BITSET, with FUTEX_PRIVATE_FLAG, with FUTEX_CLOCK_REALTIME, with both.
    "futex": tuple([(3, 1, 1, word, 16) for word in (0, 128, 9, 137, 265, 393)]),
    "fcntl": (
        (2, 2, 1, 5, 32),
        *[(2, 1, 1, command, 32) for command in (6, 7, 37, 38)],
        (2, 2, 1, 36, 32),
        (2, 1, 1, 15, 8),
        (2, 2, 1, 16, 8),
        (2, 2, 1, 1035, 8),
        (2, 1, 1, 1036, 8),
    ),
}
#: The same on i386, where most of these are of another size.
_CONDITIONAL_I386 = {
    "prctl": _CONDITIONAL["prctl"],
    "seccomp": ((2, 1, 0, 2, 4),),
    "futex": tuple([(3, 1, 1, word, 8) for _, _, _, word, _ in _CONDITIONAL["futex"]]),
    "futex_time64": _CONDITIONAL["futex"],
    "fcntl": ((2, 2, 1, 5, 16), *[(2, 1, 1, command, 16) for command in (6, 7)]),
    "fcntl64": (
        (2, 2, 1, 5, 16), *[(2, 1, 1, command, 16) for command in (6, 7)], (2, 2, 1, 12, 24), (2, 2, 1, 36, 24),
        *[(2, 1, 1, command, 24) for command in (13, 14, 37, 38)],
    ),
}  # fmt: skip
#: More of what arguments point to: kind, argument, when, the other argument, size and value.
_MORE = {
    # With the licence of a program, or the name of a file.
    "bpf": (
        (_BUFFER, 1, _BEFORE, 2, 144, 0),
        (_BEHIND, 1, _BEFORE, 0, 16, 16),
        (_BEHIND, 1, _BEFORE, 0, 64, 0),
    ),
    "landlock_add_rule": ((_FIXED, 2, _BEFORE, 0, 12, 0),),
    "name_to_handle_at": (
        (_FIXED, 2, _BEFORE, 0, 8, 0),
        (_FIXED, 2, _AFTER, 0, 136, 0),
        (_FIXED, 3, _AFTER, 0, 4, 0),
    ),
    "open_by_handle_at": ((_FIXED, 1, _BEFORE, 0, 136, 0),),
    "perf_event_open": ((_FIXED, 0, _BEFORE, 0, 64, 0),),
    "capget": ((_FIXED, 1, _AFTER, 0, 24, 0),),
    "capset": ((_FIXED, 1, _BEFORE, 0, 24, 0),),
    "clone3": ((_BEHIND, 0, _AFTER, 0, 4, 8),),
    "mincore": ((_FIXED, 2, _AFTER, 0, 32, 0),),
    "msgsnd": ((_FIXED, 1, _BEFORE, 0, 41, 0),),
    "msgrcv": ((_FIXED, 1, _AFTER, 0, 41, 0),),
    "process_vm_readv": ((_ARRAY, 3, _BEFORE, 4, 16, 0),),
    "process_vm_writev": ((_ARRAY, 3, _BEFORE, 4, 16, 0),),
    "pselect6": ((_FIXED, 5, _BEFORE, 0, 16, 0), (_BEHIND, 5, _BEFORE, 0, 8, 0)),
    "recvmmsg": ((_MESSAGES, 1, _AFTER | _FILLED, 2, 0, 0),),
    "sendmmsg": ((_MESSAGES, 1, _BEFORE, 2, 0, 0),),
}
_SAME = ("capget", "capset", "clone3", "mincore")
_MORE_I386 = {
    **{name: _MORE[name] for name in _SAME},
    "recvmmsg_time64": _MORE["recvmmsg"],
    "recvmmsg": _MORE["recvmmsg"],
    "sendmmsg": _MORE["sendmmsg"],
}
#: Pointers to numbers: how long these are.
_NUMBERS = {"uid_t *": 4, "gid_t *": 4, "int *": 4, "unsigned *": 4, "unsigned int *": 4, "timer_t *": 4, "loff_t *": 8,
            "off_t *": 8, "size_t *": 8, "struct robust_list_head * *": 8}  # fmt: skip
_NUMBERS_I386 = {**_NUMBERS, "off_t *": 4, "size_t *": 4, "struct robust_list_head * *": 4}
#: Nobody wants to see what these point to.
_OPAQUE = frozenset({"set_robust_list", "rseq", "futex", "futex_time64", "set_tid_address"})


def generate(data: Path = ROOT / "data") -> dict[str, str]:
    """Return the files' texts by their paths."""
    return {f"src/trapline/abi/kept_{arch}.py": _table(arch) for arch in ("x86_64", "i386")}


def _table(arch: str) -> str:
    lines = [
        heading("captures.py", "syscalls"),
        "# ruff: noqa: E501\n# fmt: off\n",
        '"""What a record keeps of each call: name, arguments, if it returns a descriptor, struct tl_capture_op."""\n',
        "\nKEPT: dict[int, tuple[str, int, bool, bytes]] = {\n",
    ]
    for name in sorted(abi.names(arch), key=lambda name: abi.number(name, arch)):
        nr, signature = abi.number(name, arch), abi.signature(name, arch)
        if nr < _CALLS:
            args = len(signature.params) if signature.known else 6
            kept = b"".join(_operations(signature))
            lines.append(f'    {nr}: ("{name}", {args}, {signature.returns == "fd"}, {kept!r}),\n')
    return "".join([*lines, "}\n"])


def _operations(signature: Signature) -> list[bytes]:
    sizes = {param.size_of for param in signature.params if param.size_of}
    found = []
    for param in signature.params:
        one = None if signature.name in _OPAQUE else _operation(signature, param, param.name in sizes)
        if one is not None:
            kind, when, of, size = one
            found.append(_OP.pack(kind, param.index, when, of, size, 0))
    is_i386 = signature.arch == "i386"
    conditional, more = (_CONDITIONAL_I386, _MORE_I386) if is_i386 else (_CONDITIONAL, _MORE)
    for arg, when, of, value, size in conditional.get(signature.name, ()):
        found.append(_OP.pack(_IF, arg, when, of, size, value))
    for kind, arg, when, of, size, value in more.get(signature.name, ()):
        found.append(_OP.pack(kind, arg, when, of, size, value))
    return found


def _operation(signature: Signature, param: Param, is_size: bool) -> tuple[int, int, int, int] | None:
    """Return kind, when, the other argument, and the size."""
    if param.kind == "arg" and signature.name == "ioctl":
        return _IOCTL, _BEFORE | _AFTER, 1, _IOCTL_UNKNOWN
    if param.pointer is None:
        return None
    when = _WHEN[param.pointer]
    shape = (
        structs.layout(param.struct, signature.arch)
        if param.struct and structs.exists(param.struct, signature.arch)
        else None
    )
    size_of = signature.param(param.size_of) if param.size_of else None
    count_of = signature.param(param.count_of) if param.count_of else None
    if param.filled:
        when |= _FILLED
    if param.kind in ("path", "str"):
        return _STRING, when, 0, 0
    if param.kind == "strv":
        return _STRINGS, when, 0, 0 if param.name == "envp" else 32
    if param.kind == "fds":
        return _FIXED, when, 0, 8
    if param.name == "rvec":
        return None  # another process's
    if param.kind == "iovec" and count_of is not None:
        return _VECTOR, when, count_of.index, 0
    if param.struct == "msghdr":
        return _MESSAGE, when | (_FILLED if when & _AFTER else 0), 0, 0
    if param.kind in ("buf", "sockaddr") and size_of is not None:
        most = _SOCKADDR if param.kind == "sockaddr" else _ENTRIES if param.struct else 0
        most = _PATH_MAX if signature.name == "getcwd" else most
        if size_of.pointer is not None:
            return _COUNTED, when, size_of.index, most or _SOCKADDR
        return _BUFFER, when, size_of.index, most
    if is_size:
        return _FIXED, when, 0, 4
    if shape is None:
        width = (_NUMBERS_I386 if signature.arch == "i386" else _NUMBERS).get(param.ctype)
        if width is None:
            return None
        return (_ARRAY, when, count_of.index, width) if count_of is not None else (_FIXED, when, 0, width)
    if param.kind == "array":
        return (_ARRAY, when, count_of.index, shape.size) if count_of else (_FIXED, when, 0, 2 * shape.size)
    if shape.extensible and size_of is not None:
        return _BUFFER, when, size_of.index, shape.size
    return _FIXED, when, 0, shape.size
