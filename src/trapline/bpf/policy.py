"""The filter compiler: rules about system calls in, one seccomp program out.

The program looks at the architecture, then searches the number, and only where a number matched does it load
arguments or the instruction pointer::

    arch ── x86_64 ── nr? ──┬── plain verdict
      │                     └── conditions of the first rule ── … ── default
      ├──── i386 ──── nr? ──┬── …
      └──── other ─── verdict for unlisted architectures

So a number that no rule mentions is decided from number and architecture alone, and where that verdict is
ALLOW the kernel (5.11 and later) answers it from a bitmap without running the filter at all.

Imported while a program starts, so it imports next to nothing.
"""

from __future__ import annotations

from trapline import abi
from trapline.bpf import ranges
from trapline.bpf.action import ACTION_MASK, ENOSYS, RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_LOG
from trapline.bpf.assembler import JUMP_EQ, JUMP_SET, Assembler
from trapline.bpf.lowering import either, resolver
from trapline.bpf.program import Program, ProgramTooLongError
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trapline.bpf.conditions import Condition
    from trapline.bpf.lowering import Lowered

    #: What is asked in turn, and the verdict where it holds; the last holds always.
    Chain = tuple[tuple[Lowered, int], ...]

__all__ = ["Program", "ProgramTooLongError", "Rule", "compile_policy", "native_arches", "rules_for"]

X32_START = 0x40000000
X32_END = 0x80000000
#: i386 calls that stand for many, and which bits of their first argument say which.
_MULTIPLEXERS = {"socketcall": 0xFFFFFFFF, "ipc": 0x0000FFFF}
_FIRST_ARGUMENT = (16, -1)
#: Per name of a call inside one of them: the number of the outer call, and its own inside. Filled when
#: needed.
_inside: dict[str, list[tuple[int, int]]] = {}


class Rule:
    """What to answer to one system call, or to all, perhaps under a condition.

    :ivar arch: ``"x86_64"``, ``"i386"`` or ``"aarch64"``.
    :ivar nr: its number there; None is every number, unknown ones too.
    :ivar condition: what must hold; None is always.
    :ivar action: a ``SECCOMP_RET_*`` value with its data.
    :ivar inner: for i386 ``socketcall`` and ``ipc``: the number of the call inside. That call's arguments
        are in memory where no filter can look, so tests of arguments count as fulfilled and the rule
        catches every such call: who acts on it must look again. A rule that allows counts them as not
        fulfilled instead.
    """

    __slots__ = ("action", "arch", "condition", "inner", "keys", "lowered", "nr")

    def __init__(
        self, arch: str, nr: int | None, condition: Condition | None, action: int, inner: int | None = None
    ) -> None:
        self.arch = arch
        self.nr = nr
        self.condition = condition
        self.action = action
        self.inner = inner
        # For "*": the parameters looked at, and the condition as compiled for each way of passing them.
        self.keys = () if nr is not None or condition is None else tuple(condition.parameters())
        self.lowered: dict[object, Lowered] = {}

    def __repr__(self) -> str:
        name = "*" if self.nr is None else abi.name(self.nr, self.arch)
        inner = "" if self.inner is None else f" inner={self.inner}"
        when = "" if self.condition is None else f" when={self.condition!r}"
        return f"<Rule {self.arch} {name}{inner}{when} action={self.action:#x}>"


def native_arches(arch: str | None = None) -> tuple[str, ...]:
    """Return the architectures whose calls a program on this kernel can make, the native one first."""
    native = arch or abi.native_arch()
    return ("x86_64", "i386") if native == "x86_64" else (native,)


def rules_for(
    names: Iterable[str], when: Condition | None, action: int, arches: Sequence[str] | None = None
) -> list[Rule]:
    """Return rules for system calls by name, on every architecture that has them.

    For i386 the same calls inside ``socketcall`` and ``ipc`` are added; see :class:`Rule` about their
    arguments.

    :param names: kernel names, ``"syscall_<nr>"`` for a number without one, or ``"*"`` for every call. With
        ``"*"`` a condition on a named parameter applies to the calls that have it.
    :param when: what must hold; None is always.
    :param arches: those of :func:`native_arches` by default.
    :raises UnknownSyscallError: no architecture has a name.
    """
    arches = native_arches() if arches is None else arches
    rules: list[Rule] = []
    for name in names:
        if name == "*":
            rules += [Rule(arch, None, when, action) for arch in arches]
            continue
        before = len(rules)
        numbered = name.startswith("syscall_") and name[8:].isdigit()
        for arch in arches:
            if abi.exists(name, arch) or (numbered and abi.name(int(name[8:]), arch) == name):
                rules.append(Rule(arch, abi.number(name, arch), when, action))
            if arch == "i386" and not numbered:
                rules += _multiplexed(name, when, action)
        if len(rules) == before:
            # A number that every architecture has under a name, or a name that is unknown: number() says so.
            rules.append(Rule(arches[0], abi.number(name, arches[0]), when, action))
    return rules


def _multiplexed(name: str, when: Condition | None, action: int) -> list[Rule]:
    if not _inside:
        for outer, table in (("socketcall", abi.SOCKETCALL), ("ipc", abi.IPC)):
            for inner, inner_name in table.items():
                _inside.setdefault(inner_name, []).append((abi.number(outer, "i386"), inner))
    return [Rule("i386", outer, when, action, inner) for outer, inner in _inside.get(name, ())]


def compile_policy(
    rules: Iterable[Rule],
    *,
    default: int = RET_ALLOW,
    arches: Sequence[str] | None = None,
    other_arch: int = RET_KILL_PROCESS,
    x32: int | None = RET_ERRNO | ENOSYS,
) -> Program:
    """Return the filter in which the first rule that matches a call decides it.

    :param rules: in order. Those of architectures that are not in *arches* are an error.
    :param default: where no rule matches.
    :param arches: whose calls are looked at, the most frequent first; :func:`native_arches` by default.
    :param other_arch: the answer to calls of every other architecture.
    :param x32: the answer to numbers 0x40000000 to 0x7fffffff on x86-64, unless a rule gives such a number;
        None treats them like all other numbers.
    :raises UsageError: a condition names a parameter that the call does not have, or an architecture is not
        listed.
    :raises ProgramTooLongError: the kernel's 4096 instructions do not suffice.
    """
    arches = native_arches() if arches is None else tuple(arches)
    by_arch: dict[str, list[Rule]] = {arch: [] for arch in arches}
    for rule in rules:
        if rule.arch not in by_arch:
            raise UsageError(f"{rule!r} is for an architecture that is not listed: {', '.join(arches)}")
        by_arch[rule.arch].append(rule)

    asm = Assembler()
    chains: dict[Chain, int] = {}

    def leaf(chain: Chain) -> int:
        if len(chain) == 1:
            return asm.returning(chain[0][1])
        if chain not in chains:
            chains[chain] = asm.label()
        return chains[chain]

    asm.load(4)
    starts = [asm.label() for _ in arches]
    for arch, start in zip(arches, starts, strict=True):
        asm.branch(JUMP_EQ, abi.AUDIT_ARCH[arch], start, None)
    asm.ret(other_arch)
    for arch, start in zip(arches, starts, strict=True):
        asm.place(start)
        asm.load(0)
        base, numbers = _chains(arch, by_arch[arch], default)
        found = _number_search(
            leaf(base),
            {nr: leaf(chain) for nr, chain in numbers.items()},
            asm.returning(x32) if arch == "x86_64" and x32 is not None else None,
        )
        ranges.emit(asm, found, {}, _SAME)
    for chain, label in chains.items():
        asm.place(label)
        for lowered, action in chain[:-1]:
            following = asm.label()
            _emit(asm, lowered, asm.returning(action), following)
            asm.place(following)
        asm.goto(asm.returning(chain[-1][1]))
    return Program(asm.assemble())


class _Same(dict[object, int]):
    """Labels of a search whose leaves are labels themselves."""

    def __missing__(self, label: object) -> int:
        assert isinstance(label, int)
        return label


_SAME = _Same()


def _number_search(base: int, numbers: dict[int, int], x32: int | None) -> ranges.Tree:
    """Return the search over numbers; *numbers* that are missing lead to *base*."""
    starts: list[int] = []
    leaves: list[ranges.Tree] = []

    def add(start: int, label: int) -> None:
        if not leaves or leaves[-1] != label:
            starts.append(start)
            leaves.append(label)

    def other(nr: int) -> int:
        return x32 if x32 is not None and X32_START <= nr < X32_END else base

    points = dict.fromkeys((0, X32_START, X32_END))
    for nr in numbers:
        points[nr & 0xFFFFFFFF] = None
        points[(nr + 1) & 0xFFFFFFFF] = None
    for point in sorted(points):
        label = numbers.get(point)
        add(point, other(point) if label is None else label)
    return ranges.search(starts, leaves)


def _chains(arch: str, rules: list[Rule], default: int) -> tuple[Chain, dict[int, Chain]]:
    """Return what is asked of any number, and of the numbers for which that differs."""
    everywhere = [rule for rule in rules if rule.nr is None]
    by_number: dict[int, list[Rule]] = {}
    for rule in rules:
        if rule.nr is not None:
            by_number[rule.nr] = everywhere
    for rule in everywhere:
        if rule.keys:
            # Where a parameter is, and how wide, depends on the call.
            for name in abi.names(arch):
                by_number.setdefault(abi.number(name, arch), everywhere)
            break
    if any(rule.nr is not None for rule in rules):
        for nr in by_number:
            by_number[nr] = []
        for rule in rules:
            for nr in by_number if rule.nr is None else (rule.nr,):
                by_number[nr].append(rule)
    applied: dict[int, bool] = {}
    base = _chain(arch, None, everywhere, default, applied)
    numbers = {nr: _chain(arch, nr, some, default, applied) for nr, some in by_number.items()}
    for rule in everywhere:
        if rule.condition is not None and applied.get(id(rule)) is False:
            raise UsageError(
                f"no system call of {arch} has the parameters of {rule.condition!r}; check their spelling"
            )
    return base, numbers


def _chain(arch: str, nr: int | None, rules: list[Rule], default: int, applied: dict[int, bool]) -> Chain:
    """Return what is asked of one number (None: of numbers without a name) until something is certain."""
    chain: list[tuple[Lowered, int]] = []
    for rule in rules:
        if chain and chain[-1][0] is True:
            # Never asked here; but its parameters may be right.
            if rule.keys and not applied.get(id(rule)):
                applied[id(rule)] = _lower(arch, nr, rule) is not None
            continue
        lowered = _lower(arch, nr, rule)
        if lowered is None:
            applied.setdefault(id(rule), False)
            continue
        applied[id(rule)] = True
        if lowered is False:
            continue
        if chain and chain[-1][1] == rule.action:
            lowered = either(chain.pop()[0], lowered)
        chain.append((lowered, rule.action))
    if not chain or chain[-1][0] is not True:
        chain.append((True, default))
    while len(chain) > 1 and chain[-2][1] == chain[-1][1]:
        del chain[-2]
    return tuple(chain)


def _lower(arch: str, nr: int | None, rule: Rule) -> Lowered | None:
    """Return the rule's condition for one number; None if the number lacks a parameter that it names."""
    condition = rule.condition
    # What cannot be seen is answered the stricter way.
    unseen = rule.action & ACTION_MASK not in (RET_ALLOW, RET_LOG)
    if rule.inner is not None:
        assert nr is not None
        mask = _MULTIPLEXERS[abi.name(nr, arch)]
        inside: Lowered = ("set", _FIRST_ARGUMENT, ((rule.inner, rule.inner + 1),))
        if mask != 0xFFFFFFFF:
            inside = ("eq", _FIRST_ARGUMENT, mask, rule.inner)
        rest = True if condition is None else condition.lower(None, unseen=unseen)
        if isinstance(rest, bool):
            return inside if rest else False
        return ("and", inside, rest)
    if condition is None:
        return True
    name = f"syscall_{X32_START - 1}" if nr is None else abi.name(nr, arch)
    find = resolver(name, arch)
    if rule.nr is not None or find is None:
        return condition.lower(find, unseen=unseen)
    try:
        # Of "*", calls that pass the parameters in the same way share the work.
        operands = [find(key) for key in rule.keys]
        shape = tuple([(operand.words, operand.signed) for operand in operands])
        if shape not in rule.lowered:
            rule.lowered[shape] = condition.lower(find)
        return rule.lowered[shape]
    except UsageError:
        # Of "*", what has no such parameter is not meant; what hides its parameters may be.
        hidden = arch == "i386" and name in _MULTIPLEXERS
        return condition.lower(None, unseen=unseen) if hidden else None


def _emit(asm: Assembler, node: Lowered, yes: int, no: int) -> None:
    """Add the code of a lowered condition that ends at one of two labels."""
    if isinstance(node, bool):
        asm.goto(yes if node else no)
        return
    kind, *rest = node
    if kind in ("and", "or"):
        for part in rest[:-1]:
            following = asm.label()
            if kind == "and":
                _emit(asm, part, following, no)  # type: ignore[arg-type]
            else:
                _emit(asm, part, yes, following)  # type: ignore[arg-type]
            asm.place(following)
        _emit(asm, rest[-1], yes, no)  # type: ignore[arg-type]
        return
    words: tuple[int, int] = rest[0]  # type: ignore[assignment]
    low, high = words
    if kind == "set":
        found = ranges.tree(rest[1], 64 if high >= 0 else 32)  # type: ignore[arg-type]
        ranges.emit(asm, found, {"low": low, "high": high}, {True: yes, False: no})
        return
    if kind in ("ne", "none"):
        yes, no = no, yes
    mask: int = rest[1]  # type: ignore[assignment]
    value: int = rest[2] if kind in ("eq", "ne") else 0  # type: ignore[assignment]
    halves = [(low, mask & 0xFFFFFFFF, value & 0xFFFFFFFF), (high, mask >> 32, value >> 32)]
    halves = [half for half in halves if half[1]]
    for at, (offset, bits, wanted) in enumerate(halves):
        last = at == len(halves) - 1
        following = asm.label()
        if kind in ("any", "none"):
            asm.load(offset)
            asm.branch(JUMP_SET, bits, yes, no if last else following)
        elif wanted == 0:
            asm.load(offset)
            asm.branch(JUMP_SET, bits, no, yes if last else following)
        elif wanted == bits and bits & (bits - 1) == 0:
            asm.load(offset)
            asm.branch(JUMP_SET, bits, yes if last else following, no)
        else:
            asm.load(offset, bits)
            asm.branch(JUMP_EQ, wanted, yes if last else following, no)
        asm.place(following)
