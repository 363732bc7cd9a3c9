"""Where a condition's values are, and conditions as the compiler takes them: without names or objects."""

from __future__ import annotations

from trapline import abi
from trapline.bpf import ranges
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    #: What a name or position means in one call: how to find its value.
    Resolver = Callable[["str | int"], "Operand"]


class Operand:
    """Where a value is in ``struct seccomp_data``, and what of it counts.

    :ivar bits: 32 or 64.
    :ivar signed: whether comparisons order it as a signed number.
    :ivar words: ``(low, high)``, byte offsets; high is -1 for 32 bits.
    """

    __slots__ = ("bits", "signed", "words")

    def __init__(self, bits: int, signed: bool, words: tuple[int, int]) -> None:
        self.bits = bits
        self.signed = signed
        self.words = words

    def read(self, args: Sequence[int], pointer: int) -> int:
        """Return the value, unsigned, from raw 64-bit registers and the instruction pointer."""
        value = 0
        for shift, offset in ((0, self.words[0]), (32, self.words[1])):
            if offset >= 0:
                whole = pointer if offset < 16 else args[(offset - 16) // 8]
                value |= (whole >> (offset % 8 * 8) & 0xFFFFFFFF) << shift
        return value


INSTRUCTION_POINTER = Operand(64, False, (8, 12))


def _argument(index: int, bits: int, signed: bool) -> Operand:
    low = 16 + 8 * index
    return Operand(bits, signed, (low, low + 4 if bits == 64 else -1))


#: i386 calls whose only register points to their parameters, which no filter can read.
_IN_MEMORY = ("mmap", "select")
_HALVES = (("_low", 0), ("_lo", 0), ("low", 0), ("lo", 0), ("_high", 1), ("_hi", 1), ("high", 1), ("hi", 1))


def resolver(name: str, arch: str) -> Resolver | None:
    """Return what finds the parameters of the system call *name* on *arch*; None if they are all in memory.

    A call whose prototype is unknown has whole registers by position only. On i386 a parameter also goes by
    the name that it has on x86-64, and a 64-bit one in two registers is one value: ``pos`` is ``poslo`` and
    ``poshi``.

    :raises UnknownSyscallError: when asked, if no table has *name*.
    """
    if arch == "i386" and name in _IN_MEMORY:
        return None

    def find(key: str | int) -> Operand:
        params = abi.signature(name, arch).params
        if isinstance(key, int):
            if key < len(params):
                return _argument(key, params[key].bits, params[key].signed)
            return _argument(key, 32 if arch == "i386" else 64, False)
        names = [param.name for param in params]
        if key in names:
            index = names.index(key)
            return _argument(index, params[index].bits, params[index].signed)
        if arch == "i386":
            found = _translated(name, key, names)
            if found is not None:
                low, high = found
                if low != high:
                    return Operand(64, False, (16 + 8 * low, 16 + 8 * high))
                return _argument(low, params[low].bits, params[low].signed)
        known = f"its parameters are {', '.join(names)}" if names else "it has none that is known by name"
        raise UsageError(
            f"{name} on {arch} has no parameter {key!r}: {known}; "
            "use one of them or a position, arg(0) to arg(5)"
        )

    return find


def _half(name: str) -> tuple[str, int]:
    """Return ``("pos", 1)`` for ``pos_hi``, and -1 for a name that is no half."""
    for suffix, half in _HALVES:
        if name.endswith(suffix):
            return name[: -len(suffix)], half
    return name, -1


def _translated(call: str, key: str, names: list[str]) -> tuple[int, int] | None:
    """Return where i386's *names* have x86-64's parameter *key*: low and high word, or one position twice."""
    folded: list[tuple[str, int, int]] = []
    at = 0
    while at < len(names):
        base, half = _half(names[at])
        if half >= 0 and at + 1 < len(names) and _half(names[at + 1]) == (base, 1 - half):
            folded.append((base, at + half, at + 1 - half))
            at += 2
        else:
            folded.append((names[at], at, at))
            at += 1
    for base, low, high in folded:
        if base == key:
            return low, high
    if not abi.exists(call, "x86_64"):
        return None
    # What is called differently there and here corresponds in order.
    there = [param.name for param in abi.signature(call, "x86_64").params]
    for here in (folded, [(name, at, at) for at, name in enumerate(names)]):
        own = [name for name, _, _ in here]
        only_there = [name for name in there if name not in own]
        only_here = [item for item in here if item[0] not in there]
        if key in only_there and len(only_there) == len(only_here):
            _, low, high = only_here[only_there.index(key)]
            return low, high
    return None


# Conditions as the compiler takes them: nested tuples without names, negation pushed to the leaves, so that
# equal conditions of different calls are equal. True and False; ("and" | "or", *parts); ("set", words,
# ranges): in one of the ranges; ("eq" | "ne", words, mask, value): (x & mask) == value; ("any" | "none",
# words, mask).
Lowered = tuple[object, ...] | bool


def either(a: Lowered, b: Lowered) -> Lowered:
    """Return the lowered condition that *a* or *b* holds."""
    parts: list[Lowered] = []
    for part in (a, b):
        parts.extend(part[1:] if isinstance(part, tuple) and part[0] == "or" else (part,))  # type: ignore[arg-type]
    return join(False, parts)


def join(conjunction: bool, parts: list[Lowered]) -> Lowered:
    """Return the and, or the or, of *parts*; sets over the same words become one set."""
    rest: list[Lowered] = []
    sets: dict[tuple[int, int], ranges.Ranges] = {}
    for part in parts:
        if part is (not conjunction):
            return not conjunction
        if isinstance(part, tuple) and part[0] == "set":
            words: tuple[int, int] = part[1]  # type: ignore[assignment]
            values: ranges.Ranges = part[2]  # type: ignore[assignment]
            limit = _limit(words)
            if words not in sets:
                sets[words] = values
                rest.append(part)
            elif conjunction:
                sets[words] = ranges.intersection(sets[words], values, limit)
            else:
                sets[words] = ranges.union(sets[words], values, limit)
        else:
            rest.append(part)
    out: list[Lowered] = []
    for part in rest:
        if isinstance(part, tuple) and part[0] == "set":
            part = in_ranges(part[1], sets[part[1]])  # type: ignore[arg-type, index]
        if part is (not conjunction):
            return part
        if part is not conjunction:
            out.append(part)
    if not out:
        return conjunction
    return out[0] if len(out) == 1 else ("and" if conjunction else "or", *out)


def _limit(words: tuple[int, int]) -> int:
    return 1 << (64 if words[1] >= 0 else 32)


def in_ranges(words: tuple[int, int], values: tuple[tuple[int, int], ...]) -> Lowered:
    if not values:
        return False
    if values == ((0, _limit(words)),):
        return True
    return ("set", words, values)


def test_bits(words: tuple[int, int], some: bool, mask: int) -> Lowered:
    """Return the test that some, or none, of the bits of *mask* are set."""
    if mask == 0:
        return not some
    return ("any" if some else "none", words, mask)
