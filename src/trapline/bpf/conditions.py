"""The conditions of ``on(..., when=...)``: written as Python expressions, compiled into the filter.

::

    arg("flags").has(O_CREAT) & (arg("dfd") == AT_FDCWD)
    ~ip.within((0x7f0000000000, 0x7f0000200000))

A parameter is looked up per system call when the filter is made, and so are its width and sign: upper halves
of 32-bit parameters carry garbage and are never looked at. :meth:`Condition.matches` says the same in Python.
Imported while a program starts, so it imports next to nothing.
"""

from __future__ import annotations

from trapline.bpf import ranges
from trapline.bpf.lowering import INSTRUCTION_POINTER, Operand, in_ranges, join, resolver, test_bits
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trapline.bpf.lowering import Lowered, Resolver

__all__ = ["Condition", "arg", "ip"]


class Condition:
    """What must hold for a rule to apply. Combine with ``&``, ``|`` and ``~``, never with and, or, not."""

    __slots__ = ()

    def __and__(self, other: Condition) -> Condition:
        return Combined("and", (self, _condition(other, "&")))

    def __or__(self, other: Condition) -> Condition:
        return Combined("or", (self, _condition(other, "|")))

    def __invert__(self) -> Condition:
        return Negated(self)

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
        :return: False only if it certainly does not: where the parameters are in memory (i386's ``mmap``),
            tests of them count as fulfilled, as in the filter.
        :raises UsageError: the call has no such parameter.
        """
        return self._test(resolver(name, arch), args, ip) is not False

    def parameters(self) -> set[str | int]:
        """Return the names and positions of parameters that this looks at."""
        return set()

    def lower(self, find: Resolver | None, negate: bool = False, unseen: bool = True) -> Lowered:
        """Return what the compiler takes.

        :param find: how to look up parameters; None when nothing of them can be seen, because they are in
            memory.
        :param negate: return the opposite.
        :param unseen: what each test of a parameter that cannot be seen comes to, negated or not.
        """
        raise NotImplementedError

    def _test(self, find: Resolver | None, args: Sequence[int], ip: int) -> bool | None:
        """Return whether it holds; None if that cannot be seen."""
        raise NotImplementedError


def _condition(value: object, operator: str) -> Condition:
    if not isinstance(value, Condition):
        raise TypeError(
            f"{operator} combines conditions, and {value!r} is none; put parentheses around each comparison, "
            f'as in (arg("fd") == 1) {operator} (arg("count") > 10)'
        )
    return value


class Combined(Condition):
    """Conditions joined by ``&`` or ``|``; ``kind`` is "and" or "or"."""

    __slots__ = ("kind", "parts")
    kind: str
    parts: tuple[Condition, ...]

    def __init__(self, kind: str, parts: tuple[Condition, ...]) -> None:
        flat: list[Condition] = []
        for part in parts:
            flat.extend(part.parts if isinstance(part, Combined) and part.kind == kind else (part,))
        self.kind = kind
        self.parts = tuple(flat)

    def __repr__(self) -> str:
        return "(" + (" & " if self.kind == "and" else " | ").join([repr(part) for part in self.parts]) + ")"

    def parameters(self) -> set[str | int]:
        return set().union(*[part.parameters() for part in self.parts])

    def lower(self, find: Resolver | None, negate: bool = False, unseen: bool = True) -> Lowered:
        conjunction = (self.kind == "and") != negate
        parts: list[Lowered] = []
        for part in self.parts:
            lowered = part.lower(find, negate, unseen)
            if lowered is not conjunction and lowered not in parts:
                parts.append(lowered)
        return join(conjunction, parts)

    def _test(self, find: Resolver | None, args: Sequence[int], ip: int) -> bool | None:
        results = [part._test(find, args, ip) for part in self.parts]
        decisive = self.kind == "or"
        if decisive in results:
            return decisive
        return None if None in results else not decisive


class Negated(Condition):
    """A condition that must not hold."""

    __slots__ = ("part",)

    def __init__(self, part: Condition) -> None:
        self.part = part

    def __repr__(self) -> str:
        return f"~{self.part!r}"

    def parameters(self) -> set[str | int]:
        return self.part.parameters()

    def lower(self, find: Resolver | None, negate: bool = False, unseen: bool = True) -> Lowered:
        return self.part.lower(find, not negate, unseen)

    def _test(self, find: Resolver | None, args: Sequence[int], ip: int) -> bool | None:
        result = self.part._test(find, args, ip)
        return None if result is None else not result


class Comparison(Condition):
    """One test of one value.

    :ivar kind: a comparison operator, ``&==`` or ``&!=`` of some bits, or the name of a method of
        :class:`Value`.
    """

    __slots__ = ("kind", "subject", "values")

    def __init__(self, subject: Value, kind: str, values: tuple[object, ...]) -> None:
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

    def operand(self, name: str, arch: str) -> Operand:
        """Return where the value is in a call of *name*.

        :raises UsageError: the call has no such parameter, or has them all in memory.
        """
        found = self._operand(resolver(name, arch))
        if found is None:
            raise UsageError(f"{name} on {arch} has its parameters in memory")
        return found

    def _operand(self, find: Resolver | None) -> Operand | None:
        """Return where the value is; None if it cannot be seen."""
        if self.subject.key is None:
            return INSTRUCTION_POINTER
        operand = None if find is None else find(self.subject.key)
        if operand is not None and self.subject.as_unsigned:
            return Operand(operand.bits, False, operand.words)
        return operand

    def _test(self, find: Resolver | None, args: Sequence[int], ip: int) -> bool | None:
        operand = self._operand(find)
        if operand is None:
            return None
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

    def lower(self, find: Resolver | None, negate: bool = False, unseen: bool = True) -> Lowered:
        operand = self._operand(find)
        if operand is None:
            return unseen
        words, full = operand.words, (1 << operand.bits) - 1
        kind = self.kind
        if kind in ("isin", "==", "!=", "within", "<", "<=", ">", ">="):
            inside = self._ranges(operand)
            if (kind == "!=") != negate:
                inside = ranges.complement(inside, full + 1)
            return in_ranges(words, inside)
        numbers: list[int] = list(self.values)  # type: ignore[arg-type]
        mask = numbers[0] & full if numbers[0] < 0 else numbers[0]
        if kind in ("any", "none"):
            return test_bits(words, (kind == "any") != negate, mask & full)
        wanted = mask if kind == "has" else numbers[1] & full if numbers[1] < 0 else numbers[1]
        equal = (kind != "&!=") != negate
        if wanted & ~mask or wanted > full:
            return not equal
        mask &= full
        if mask == 0:
            return equal
        if wanted == 0:
            return test_bits(words, not equal, mask)
        if wanted == mask and mask & (mask - 1) == 0:
            return test_bits(words, equal, mask)
        if mask == full:
            return Comparison(self.subject, "==" if equal else "!=", (wanted,)).lower(find)
        return ("eq" if equal else "ne", words, mask, wanted)

    def _ranges(self, operand: Operand) -> tuple[tuple[int, int], ...]:
        """Return the unsigned values for which an ordering or equality (``!=`` too) holds, as ranges."""
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


def _number(value: object) -> str:
    if isinstance(value, tuple):
        return f"({', '.join([_number(item) for item in value])})"
    assert isinstance(value, int)
    return str(value) if -1024 < value < 1024 else f"{value:#x}"


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a filter compares with whole numbers, not with {value!r}")
    return int(value)


class Value:
    """A number that a call carries: a parameter or the instruction pointer."""

    __slots__ = ("as_unsigned", "key")

    def __init__(self, key: str | int | None, as_unsigned: bool = False) -> None:
        self.key = key
        self.as_unsigned = as_unsigned

    def __repr__(self) -> str:
        return "ip" if self.key is None else f"arg({self.key!r}){'.unsigned' if self.as_unsigned else ''}"

    @property
    def unsigned(self) -> Value:
        """The same value, ordered without sign whatever its prototype says."""
        return Value(self.key, True)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value until a call is made; compare it, as in {self!r} != 0")

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return Comparison(self, "==", (_int(other),))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return Comparison(self, "!=", (_int(other),))

    def __lt__(self, other: int) -> Condition:
        return Comparison(self, "<", (_int(other),))

    def __le__(self, other: int) -> Condition:
        return Comparison(self, "<=", (_int(other),))

    def __gt__(self, other: int) -> Condition:
        return Comparison(self, ">", (_int(other),))

    def __ge__(self, other: int) -> Condition:
        return Comparison(self, ">=", (_int(other),))

    def __and__(self, mask: int) -> Masked:
        return Masked(self, _int(mask))

    __rand__ = __and__

    def has(self, mask: int) -> Condition:
        """Return the condition that every bit of *mask* is set."""
        return Comparison(self, "has", (_int(mask),))

    def any(self, mask: int) -> Condition:
        """Return the condition that at least one bit of *mask* is set."""
        return Comparison(self, "any", (_int(mask),))

    def none(self, mask: int) -> Condition:
        """Return the condition that no bit of *mask* is set."""
        return Comparison(self, "none", (_int(mask),))

    def isin(self, values: Iterable[int]) -> Condition:
        """Return the condition that the value is one of *values*."""
        return Comparison(self, "isin", tuple([_int(value) for value in values]))

    def within(self, *spans: int | tuple[int, int] | range) -> Condition:
        """Return the condition that the value is in one of the half-open *spans*.

        :param spans: ``(start, end)`` pairs or ``range`` objects of step 1, or two numbers: ``within(start,
            end)``. *start* is inside, *end* is not, as in ``range``; *end* may be ``2**64``.
        :raises UsageError: a range ends before it starts.
        """
        if len(spans) == 2 and isinstance(spans[0], int) and isinstance(spans[1], int):
            spans = ((spans[0], spans[1]),)
        pairs: list[tuple[int, int]] = []
        for item in spans:
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
        return Comparison(self, "within", tuple(pairs))


class Masked:
    """Some bits of a value, to be compared: ``arg("flags") & 3``."""

    __slots__ = ("mask", "value")

    def __init__(self, value: Value, mask: int) -> None:
        self.value = value
        self.mask = mask

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError(
            f"{self.value!r} & {self.mask:#x} has no truth value until a call is made; "
            "compare it with == or !=, in parentheses, or write .has(), .any() or .none()"
        )

    def __and__(self, mask: int) -> Masked:
        return Masked(self.value, self.mask & _int(mask))

    def __eq__(self, other: object) -> Condition:  # type: ignore[override]
        return Comparison(self.value, "&==", (self.mask, _int(other)))

    def __ne__(self, other: object) -> Condition:  # type: ignore[override]
        return Comparison(self.value, "&!=", (self.mask, _int(other)))


def arg(parameter: str | int) -> Value:
    """Return a parameter of the call, to be compared: ``arg("flags")`` by its kernel name, or ``arg(2)``.

    Width and sign are those of the prototype: a 32-bit parameter compares its low 32 bits only. ``==``,
    ``!=`` and ``.isin`` compare bits, so ``-1`` also means the unsigned word of all ones; ``<`` and the
    rest order by sign.

    :raises UsageError: a position is not 0 to 5. A name that a call lacks is found when the filter is
        compiled.
    """
    if isinstance(parameter, int):
        if not 0 <= parameter <= 5:
            raise UsageError(f"arg({parameter}): a system call has arguments 0 to 5")
    elif not isinstance(parameter, str):
        raise TypeError(f"arg() takes a parameter's name or its position 0 to 5, not {parameter!r}")
    return Value(parameter)


#: The instruction pointer, behind the ``syscall`` instruction: ``ip.within((start, end), ...)``.
ip = Value(None)
