"""Families of constants under the kernel's own names: ``O_CREAT``, ``MAP_PRIVATE``, ``PR_SET_NAME``.

``from trapline.abi.flags import O_CREAT`` gives a member of its family with the native architecture's value;
:func:`family` gives the whole family as an ``enum`` type, for any architecture. Both are built when first
asked for.
"""

from __future__ import annotations

from trapline.abi import ARCHES, native_arch
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enum import IntEnum, IntFlag
    from typing import Any

_members: dict[tuple[str, str], dict[str, int]] = {}
_families: dict[tuple[str, str], type[IntFlag] | type[IntEnum]] = {}


def _table(arch: str) -> dict[str, str]:
    from trapline.abi import families

    if arch not in ARCHES:
        raise UsageError(f"unknown architecture {arch!r}: use one of {', '.join(ARCHES)}")
    return families.I386 if arch == "i386" else families.AARCH64 if arch == "aarch64" else families.X86_64


def _row(name: str, arch: str) -> str:
    from trapline.abi import families

    row = _table(arch).get(name) or families.X86_64.get(name)
    if row is None:
        import difflib

        near = difflib.get_close_matches(name, families.X86_64, n=3)
        advice = f"; did you mean {' or '.join(near)}?" if near else "; names() lists them"
        raise UsageError(f"unknown flag family {name!r}{advice}")
    return row


def names() -> tuple[str, ...]:
    """Return the names of all families."""
    from trapline.abi import families

    return tuple(families.X86_64)


def is_flags(name: str) -> bool:
    """Whether a family is bits to be combined (True) or values of which one is chosen (False)."""
    return _row(name, "x86_64").startswith("flag ")


def value_mask(name: str) -> int:
    """Return the bits of a flag word that hold a value: 3 for ``open``, 0xff (a signal) for ``clone``."""
    return int(_row(name, "x86_64").split(" ", 2)[1], 16)


def members(name: str, arch: str | None = None) -> dict[str, int]:
    """Return the names and values of a family, by value.

    :raises UsageError: there is no such family or architecture.
    """
    arch = arch or native_arch()
    found = _members.get((name, arch))
    if found is None:
        words = _row(name, arch).split(" ")[2:]
        pairs = (word.partition("=") for word in words if word)
        found = _members[name, arch] = {key: int(text, 0) for key, _, text in pairs}
    return found


def family(name: str, arch: str | None = None) -> type[IntFlag] | type[IntEnum]:
    """Return a family as an ``IntFlag`` (bits) or ``IntEnum`` (values) type.

    Bits without a name are kept, so ``family("open")(0x80000000)`` works; unknown values of an ``IntEnum``
    do not, which is what :func:`value` is for.

    :raises UsageError: there is no such family or architecture.
    """
    arch = arch or native_arch()
    found = _families.get((name, arch))
    if found is None:
        from enum import IntEnum, IntFlag

        build: Any = IntFlag if is_flags(name) else IntEnum
        created: type[IntFlag] | type[IntEnum] = build(name, members(name, arch), module=__name__)
        _families[name, arch] = found = created
    return found


def value(name: str, number: int, arch: str | None = None) -> int:
    """Return *number* as a member of family *name*; as it is when the family has no such value."""
    kind = family(name, arch)
    try:
        return kind(number)
    except ValueError:
        return number


def __getattr__(constant: str) -> int:
    """Find a constant by its name in the native architecture's families."""
    if constant.isupper() or "_" in constant[1:]:
        from trapline.abi import families

        needle = f" {constant}="
        arch = native_arch()
        for name in families.X86_64:
            if needle in _row(name, arch):
                return family(name, arch)[constant]
    raise AttributeError(f"module 'trapline.abi.flags' has no constant {constant!r}")
