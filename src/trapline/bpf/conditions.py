"""The conditions of ``on(..., when=...)``: written as Python expressions, compiled into the filter.

::

    arg("flags").has(O_CREAT) & (arg("dfd") == AT_FDCWD)
    ~ip.within((0x7f0000000000, 0x7f0000200000))

A parameter is looked up per system call when the filter is made, and so are its width and sign: upper halves of
32-bit parameters carry garbage and are never looked at. :meth:`Condition.matches` says the same in plain Python.
Imported while a program starts, so it imports next to nothing.
"""

from __future__ import annotations

from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    #: What a name or position means in one call: how to find its value.
    Resolver = Callable[["str | int"], "Operand"]

__all__ = ["Condition", "Operand", "arg", "ip", "resolver"]


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


_IP = Operand(64, False, (8, 12))


def _argument(index: int, bits: int, signed: bool) -> Operand:
    low = 16 + 8 * index
    return Operand(bits, signed, (low, low + 4 if bits == 64 else -1))


def resolver(name: str, arch: str) -> Resolver:
    """Return what finds the parameters of the system call *name* on *arch*.

    A call whose prototype is unknown has whole registers by position only. A 64-bit parameter that i386 passes in
    two registers, ``pos_lo`` and ``pos_hi``, is found as ``pos`` too.

    :raises UnknownSyscallError: when asked, if no table has *name*.
    """

    def find(key: str | int) -> Operand:
        from trapline import abi

        params = abi.signature(name, arch).params
        if isinstance(key, int):
            if key < len(params):
                return _argument(key, params[key].bits, params[key].signed)
            return _argument(key, 32 if arch == "i386" else 64, False)
        names = [param.name for param in params]
        if key in names:
            index = names.index(key)
            return _argument(index, params[index].bits, params[index].signed)
        for low, high in (
            (f"{key}_lo", f"{key}_hi"),
            (f"{key}_low", f"{key}_high"),
            (f"{key}_l", f"{key}_h"),
        ):
            if low in names and high in names:
                return Operand(64, False, (16 + 8 * names.index(low), 16 + 8 * names.index(high)))
        known = f"its parameters are {', '.join(names)}" if names else "it has none that is known by name"
        raise UsageError(
            f"{name} on {arch} has no parameter {key!r}: {known}; use one of them or a position, arg(0) to arg(5)"
        )

    return find


# Conditions as the compiler takes them: nested tuples without names, negation pushed to the leaves, so that equal
# conditions of different calls are equal. True and False; ("and" | "or", parts); ("set", words, ranges) is
# "in one of the ranges"; ("eq" | "ne", words, mask, value) tests (x & mask) == value; ("any" | "none", words, mask).
Lowered = tuple[object, ...] | bool


class Condition:
    """What must hold for a rule to apply. Combine with ``&``, ``|`` and ``~``, never with and, or, not."""

    __slots__ = ()

    def __and__(self, other: Condition) -> Condition:
        return _Group("and", (self, _condition(other, "&")))

    def __or__(self, other: Condition) -> Condition:
        return _Group("or", (self, _condition(other, "|")))

    def __invert__(self) -> Condition:
        return _Not(self)

    def __bool__(self) -> bool:
        raise TypeError(
            f"a condition has no truth value until a call is made: {self!r}. Combine conditions with & | ~ "
            "(and parentheses around each) instead of and, or, not; write a range as .within(start, end)"
        )

    def matches(self, name: str, arch: str, args: Sequence[int], ip: int = 0) -> bool:
        """Return whether a call fulfils this, in plain Python.

        :param name: of the system call, as in the architecture's table.
        :param args: six raw 64-bit registers.
        :param ip: the instruction pointer behind the ``syscall`` instruction.
        :raises UsageError: the call has no such parameter.
        """
        return self._test(resolver(name, arch), args, ip)

    def parameters(self) -> set[str | int]:
        """Return the names and positions of parameters that this looks at."""
        return set()

    def lower(self, find: Resolver | None, negate: bool = False) -> Lowered:
        """Return what the compiler takes.

        :param find: how to look up parameters; None when nothing of them can be seen (the call's arguments are in
            memory): then every test of a parameter counts as fulfilled, so that the filter catches too much
            rather than too little.
        """
        raise NotImplementedError

    def _test(self, find: Resolver, args: Sequence[int], ip: int) -> bool:
        raise NotImplementedError


def _condition(value: object, operator: str) -> Condition:
    if not isinstance(value, Condition):
        raise TypeError(
            f"{operator} combines conditions, and {value!r} is none; put parentheses around each comparison, "
            f'as in (arg("fd") == 1) {operator} (arg("count") > 10)'
        )
    return value


class _Group(Condition):
    __slots__ = ("kind", "parts")
    kind: str
    parts: tuple[Condition, ...]

    def __init__(self, kind: str, parts: tuple[Condition, ...]) -> None:
        flat: list[Condition] = []
        for part in parts:
            flat.extend(part.parts if isinstance(part, _Group) and part.kind == kind else (part,))
        self.kind = kind
        self.parts = tuple(flat)

    def __repr__(self) -> str:
        return "(" + (" & " if self.kind == "and" else " | ").join([repr(part) for part in self.parts]) + ")"

    def parameters(self) -> set[str | int]:
        return set().union(*[part.parameters() for part in self.parts])

    def lower(self, find: Resolver | None, negate: bool = False) -> Lowered:
        conjunction = (self.kind == "and") != negate
        parts: list[Lowered] = []
        for part in self.parts:
            lowered = part.lower(find, negate)
            if lowered is not conjunction and lowered not in parts:
                parts.append(lowered)
        return _join(conjunction, parts)

    def _test(self, find: Resolver, args: Sequence[int], ip: int) -> bool:
        results = [part._test(find, args, ip) for part in self.parts]
        return all(results) if self.kind == "and" else any(results)


def either(a: Lowered, b: Lowered) -> Lowered:
    """Return the lowered condition that *a* or *b* holds."""
    parts: list[Lowered] = []
    for part in (a, b):
        parts.extend(part[1:] if isinstance(part, tuple) and part[0] == "or" else (part,))  # type: ignore[arg-type]
    return _join(False, parts)


def _join(conjunction: bool, parts: list[Lowered]) -> Lowered:
    """Return the and, or the or, of *parts*; sets over the same words become one set."""
    from trapline.bpf import ranges

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
            part = _set(part[1], sets[part[1]])  # type: ignore[arg-type, index]
        if part is (not conjunction):
            return part
        if part is not conjunction:
            out.append(part)
    if not out:
        return conjunction
    return out[0] if len(out) == 1 else ("and" if conjunction else "or", *out)


def _limit(words: tuple[int, int]) -> int:
    return 1 << (64 if words[1] >= 0 else 32)


def _set(words: tuple[int, int], values: tuple[tuple[int, int], ...]) -> Lowered:
    if not values:
        return False
    if values == ((0, _limit(words)),):
        return True
    return ("set", words, values)


class _Not(Condition):
    __slots__ = ("part",)

    def __init__(self, part: Condition) -> None:
        self.part = part

    def __repr__(self) -> str:
        return f"~{self.part!r}"

    def parameters(self) -> set[str | int]:
        return self.part.parameters()

    def lower(self, find: Resolver | None, negate: bool = False) -> Lowered:
        return self.part.lower(find, not negate)

    def _test(self, find: Resolver, args: Sequence[int], ip: int) -> bool:
        return not self.part._test(find, args, ip)


class _Test(Condition):
    """One comparison of one value. ``kind``: a comparison operator, ``in``, ``within``, or a test of bits."""

    __slots__ = ("kind", "subject", "values")

    def __init__(self, subject: _Value, kind: str, values: tuple[object, ...]) -> None:
        self.subject = subject
        self.kind = kind
        self.values = values

    def __repr__(self) -> str:
        subject = repr(self.subject)
        if self.kind in ("==", "!=", "<", "<=", ">", ">="):
            return f"({subject} {self.kind} {_number(self.values[0])})"
        if self.kind in ("&==", "&!="):
            return f"(({subject} & {_number(self.values[0])}) {self.kind[1:]} {_number(self.values[1])})"
        shown = [_number(value) for value in self.values[:8]]
        if len(self.values) > 8:
            shown.append(f"... {len(self.values) - 8} more")
        return f"{subject}.{self.kind}({', '.join(shown)})"

    def parameters(self) -> set[str | int]:
        return set() if self.subject.key is None else {self.subject.key}

    def _operand(self, find: Resolver) -> Operand:
        return _IP if self.subject.key is None else find(self.subject.key)

    def _test(self, find: Resolver, args: Sequence[int], ip: int) -> bool:
        operand = self._operand(find)
        raw = operand.read(args, ip)
        full = (1 << operand.bits) - 1
        value = raw - full - 1 if operand.signed and raw > full >> 1 else raw
        kind, values = self.kind, self.values
        if kind == "within":
            return any(start <= value < end for start, end in values)  # type: ignore[misc, has-type]
        numbers: list[int] = list(values)  # type: ignore[arg-type]
        first = numbers[0] if numbers else 0
        if kind in ("isin", "==", "!="):
            # Bits are compared: -1 and 0xffffffff are the same 32-bit word.
            return any(raw == (n + full + 1 if -(full + 1) // 2 <= n < 0 else n) for n in numbers) != (
                kind == "!="
            )
        if kind in ("<", "<=", ">", ">="):
            return {"<": value < first, "<=": value <= first, ">": value > first, ">=": value >= first}[kind]
        mask = first & full if first < 0 else first
        if kind == "has":
            return raw & mask == mask
        if kind == "any":
            return raw & mask != 0
        if kind == "none":
            return raw & mask == 0
        wanted = numbers[1] & full if numbers[1] < 0 else numbers[1]
        return (raw & mask == wanted) == (kind == "&==")

    def lower(self, find: Resolver | None, negate: bool = False) -> Lowered:
        if find is None and self.subject.key is not None:
            return True
        operand = _IP if find is None else self._operand(find)
        words, full = operand.words, (1 << operand.bits) - 1
        kind = self.kind
        if kind in ("isin", "==", "!=", "within", "<", "<=", ">", ">="):
            from trapline.bpf import ranges

            inside = self._ranges(operand)
            if (kind == "!=") != negate:
                inside = ranges.complement(inside, full + 1)
            return _set(words, inside)
        numbers: list[int] = list(self.values)  # type: ignore[arg-type]
        mask = numbers[0] & full if numbers[0] < 0 else numbers[0]
        if kind in ("any", "none"):
            return _bits(words, (kind == "any") != negate, mask & full)
        wanted = mask if kind == "has" else numbers[1] & full if numbers[1] < 0 else numbers[1]
        equal = (kind != "&!=") != negate
        if wanted & ~mask or wanted > full:
            return not equal
        mask &= full
        if mask == 0:
            return equal
        if wanted == 0:
            return _bits(words, not equal, mask)
        if wanted == mask and mask & (mask - 1) == 0:
            return _bits(words, equal, mask)
        if mask == full:
            return _Test(self.subject, "==" if equal else "!=", (wanted,)).lower(find)
        return ("eq" if equal else "ne", words, mask, wanted)

    def _ranges(self, operand: Operand) -> tuple[tuple[int, int], ...]:
        """Return the unsigned values, as normalized ranges, for which an ordering or (un)equality test holds."""
        from trapline.bpf import ranges

        limit = 1 << operand.bits
        low = -(limit >> 1) if operand.signed else 0
        high = low + limit
        kind = self.kind
        found: list[tuple[int, int]] = []
        if kind in ("isin", "==", "!="):
            for n in self.values:
                assert isinstance(n, int)
                n = n + limit if -(limit >> 1) <= n < 0 else n
                if 0 <= n < limit:
                    found.append((n, n + 1))
            return ranges.normalize(found, limit)
        if kind == "within":
            wanted: Iterable[tuple[int, int]] = self.values  # type: ignore[assignment]
        else:
            first: int = self.values[0]  # type: ignore[assignment]
            bounds = {"<": (low, first), "<=": (low, first + 1), ">": (first + 1, high), ">=": (first, high)}
            wanted = (bounds[kind],)
        for start, end in wanted:
            start, end = max(start, low), min(end, high)
            if start < min(end, 0):
                found.append((start + limit, min(end, 0) + limit))
            if max(start, 0) < end:
                found.append((max(start, 0), end))
        return ranges.normalize(found, limit)


def _bits(words: tuple[int, int], some: bool, mask: int) -> Lowered:
    """Return the test that some, or none, of the bits of *mask* are set."""
    if mask == 0:
        return not some
    return ("any" if some else "none", words, mask)


def _number(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join([_number(item) for item in value])})"
    assert isinstance(value, int)
    return str(value) if -1024 < value < 1024 else f"{value:#x}"


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a filter compares with whole numbers, not with {value!r}")
    return int(value)


class _Value:
    """A number that a call carries: a parameter or the instruction pointer."""

    __slots__ = ("key",)

    def __init__(self, key: str | int | None) -> None:
        self.key = key

    def __repr__(self) -> str:
        return "ip" if self.key is None else f"arg({self.key!r})"

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value until a call is made; compare it, as in {self!r} != 0")

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return _Test(self, "==", (_int(other),))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return _Test(self, "!=", (_int(other),))

    def __lt__(self, other: int) -> Condition:
        return _Test(self, "<", (_int(other),))

    def __le__(self, other: int) -> Condition:
        return _Test(self, "<=", (_int(other),))

    def __gt__(self, other: int) -> Condition:
        return _Test(self, ">", (_int(other),))

    def __ge__(self, other: int) -> Condition:
        return _Test(self, ">=", (_int(other),))

    def __and__(self, mask: int) -> _Masked:
        return _Masked(self, _int(mask))

    __rand__ = __and__

    def has(self, mask: int) -> Condition:
        """Return the condition that every bit of *mask* is set."""
        return _Test(self, "has", (_int(mask),))

    def any(self, mask: int) -> Condition:
        """Return the condition that at least one bit of *mask* is set."""
        return _Test(self, "any", (_int(mask),))

    def none(self, mask: int) -> Condition:
        """Return the condition that no bit of *mask* is set."""
        return _Test(self, "none", (_int(mask),))

    def isin(self, values: Iterable[int]) -> Condition:
        """Return the condition that the value is one of *values*."""
        return _Test(self, "isin", tuple([_int(value) for value in values]))

    def within(self, *ranges: int | tuple[int, int] | range) -> Condition:
        """Return the condition that the value is in one of the half-open *ranges*.

        :param ranges: ``(start, end)`` pairs or ``range`` objects of step 1, or two numbers: ``within(start, end)``.
            *start* is inside, *end* is not, as in ``range``; *end* may be ``2**64``.
        :raises UsageError: a range ends before it starts.
        """
        if len(ranges) == 2 and isinstance(ranges[0], int) and isinstance(ranges[1], int):
            ranges = ((ranges[0], ranges[1]),)
        pairs: list[tuple[int, int]] = []
        for item in ranges:
            if isinstance(item, range):
                if item.step != 1:
                    raise UsageError(f"{item!r} has gaps; a filter takes ranges of step 1, or .isin(values)")
                item = (item.start, item.stop)
            if not isinstance(item, tuple) or len(item) != 2:
                raise TypeError(f"within() takes (start, end) pairs, not {item!r}")
            start, end = _int(item[0]), _int(item[1])
            if start > end:
                raise UsageError(f"range {start:#x} to {end:#x} ends before it starts; write (start, end)")
            pairs.append((start, end))
        return _Test(self, "within", tuple(pairs))


class _Masked:
    """Some bits of a value, to be compared: ``arg("flags") & 3``."""

    __slots__ = ("mask", "value")

    def __init__(self, value: _Value, mask: int) -> None:
        self.value = value
        self.mask = mask

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self.value!r} & {self.mask:#x} has no truth value until a call is made; "
            "compare it with == or !=, in parentheses, or write .has(), .any() or .none()"
        )

    def __and__(self, mask: int) -> _Masked:
        return _Masked(self.value, self.mask & _int(mask))

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return _Test(self.value, "&==", (self.mask, _int(other)))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return _Test(self.value, "&!=", (self.mask, _int(other)))


def arg(parameter: str | int) -> _Value:
    """Return a parameter of the call, to be compared: ``arg("flags")`` by its kernel name, or ``arg(2)``.

    Width and sign are those of the prototype: a 32-bit parameter compares its low 32 bits only. ``==``, ``!=`` and
    ``.isin`` compare bits, so ``-1`` also means the unsigned word of all ones; ``<`` and the rest order by sign.

    :raises UsageError: a position is not 0 to 5. A name that a call lacks is found when the filter is compiled.
    """
    if isinstance(parameter, int):
        if not 0 <= parameter <= 5:
            raise UsageError(f"arg({parameter}): a system call has arguments 0 to 5")
    elif not isinstance(parameter, str):
        raise TypeError(f"arg() takes a parameter's name or its position 0 to 5, not {parameter!r}")
    return _Value(parameter)


#: The instruction pointer, behind the ``syscall`` instruction: ``ip.within((start, end), ...)``.
ip = _Value(None)
