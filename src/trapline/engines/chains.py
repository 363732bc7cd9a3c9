"""Which rules act on which calls, in what order, and who applies them.

A rule that is nothing but one result for every call is applied where it costs least, and nobody counts it: by the
filter, which can give 0 to -4095, and by the agents' table of constants. All others are applied, in their order,
by the agent where there is one, else by the supervisor's C code. A call whose paths some rule compares is the
supervisor's alone, with all rules on it; the counts are shared, so it does not matter who counts.
"""

from __future__ import annotations

from trapline import abi
from trapline.bpf import action
from trapline.bpf.policy import Rule as FilterRule
from trapline.bpf.policy import native_arches, rules_for
from trapline.rules import more, targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from trapline import _native
    from trapline.rules import Rule

    #: Architecture and number of a call; None is every number that is not named otherwise.
    Key = tuple[str, int | None]
    #: Index of a rule, and the number inside a multiplexer such as i386 socketcall, or None.
    Entry = tuple[int, int | None]

__all__ = ["RuleChains"]

#: Numbers from here on are in no agent's table of constants.
_TABLE_SIZE = 1024

_CONTINUE, _ERROR, _VALUE = 0, 1, 2
_LOWEST_IN_FILTER = -4095


def _has_paths(key: Key) -> bool:
    arch, nr = key
    return nr is not None and bool(abi.signature(abi.name(nr, arch), arch).paths)


class RuleChains:
    """The rules of a program, by call.

    :param rules: in order.
    :param names: of each rule, those that exist here.
    :param returned: calls whose results some hook wants: it sees those that rules give, too.
    :param verdict: of the filter, for calls that the supervisor has to see.
    :param in_agent: an agent in the program applies what it can.
    :ivar filters: for the filter, before those of hooks.
    :ivar constants: native number (None: every other) and its result, where no other is possible.
    :ivar uses: what agents apply, by call.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        names: Sequence[Sequence[str]],
        returned: Collection[Key],
        verdict: int,
        in_agent: bool,
    ) -> None:
        self.rules = rules
        self.filters: list[FilterRule] = []
        self.constants: dict[int | None, int] = {}
        self.uses: dict[Key, list[Entry]] = {}
        self._returned = returned
        self._chains: dict[Key, list[Entry]] = {}
        self._supervised: dict[Key, list[Entry]] = {}
        for index, rule in enumerate(rules):
            for one in rules_for(names[index], None, verdict):
                for key in self._keys(rule, one):
                    self._append(key, (index, one.inner))
        # Numbers first: what is meant for every other one comes last.
        for key in sorted(self._chains, key=lambda key: key[1] is None):
            if self._chains[key] and in_agent:
                self._give_to_agent(key, verdict)
            elif self._chains[key]:
                self._give_to_filter(key, verdict)

    def _keys(self, rule: Rule, one: FilterRule) -> list[Key]:
        """Return the calls that a rule is about under one name."""
        key = (one.arch, one.nr)
        if one.nr is None and rule.path is not None:
            named = [(one.arch, abi.number(name, one.arch)) for name in abi.names(one.arch)]
            return [key for key in named if _has_paths(key)]
        if one.nr is None:
            return [*[known for known in self._chains if known[0] == one.arch and known != key], key]
        return [key] if rule.path is None or (one.inner is None and _has_paths(key)) else []

    def _append(self, key: Key, entry: Entry) -> None:
        if key not in self._chains:
            self._chains[key] = list(self._chains.get((key[0], None), ()))
        chain = self._chains[key]
        ended = chain and chain[-1][1] is None and self.rules[chain[-1][0]].always_decides
        if not ended and entry not in chain:
            chain.append(entry)

    def _wants_result(self, key: Key) -> bool:
        if key[1] is None:
            return any(arch == key[0] for arch, _ in self._returned)
        return key in self._returned or (key[0], None) in self._returned

    def _give_to_filter(self, key: Key, verdict: int) -> None:
        """Constants first; from the first rule that is none the supervisor is asked."""
        arch, nr = key
        asks = self._wants_result(key)
        index, inner = self._chains[key][0]
        constant = self.rules[index].result
        if self.rules[index].is_constant and inner is None and arch == native_arches()[0] and not asks:
            assert constant is not None
            self.constants[nr] = constant
        for index, inner in self._chains[key]:
            result = self.rules[index].result
            if not asks and self.rules[index].is_constant and result is not None and result <= 0:
                asks = result < _LOWEST_IN_FILTER
            else:
                asks = True
            one = FilterRule(arch, nr, None, verdict if asks else action.errno(-(result or 0)), inner)
            self.filters.append(one)
            if asks:
                self._supervised.setdefault(key, []).append((index, inner))

    def _give_to_agent(self, key: Key, verdict: int) -> None:
        arch, nr = key
        chain = self._chains[key]
        index, inner = chain[0]
        first = self.rules[index]
        if any(self.rules[index].path is not None for index, _ in chain):
            self.filters.append(FilterRule(arch, nr, None, verdict))
            self._supervised[key] = chain
            return
        if first.is_constant and inner is None and arch == native_arches()[0] and not self._wants_result(key):
            assert first.result is not None
            if nr is None or nr < _TABLE_SIZE:
                self.constants[nr] = first.result
            if nr is not None and nr < _TABLE_SIZE:
                return
        self.uses[key] = chain

    def supervised(self) -> list[Key]:
        """Return the calls whose rules the supervisor applies."""
        return list(self._supervised)

    def calls(self) -> list[Key]:
        """Return all calls that some rule is about."""
        return [key for key, chain in self._chains.items() if chain]

    def _targets(self, index: int) -> Iterator[tuple[str, int, str, int]]:
        for (arch, nr), chain in self._supervised.items():
            for mine, inner in chain:
                if mine != index:
                    continue
                name = "" if nr is None else abi.name(nr, arch)
                yield arch, -1 if nr is None else nr, name, -1 if inner is None else inner

    def add_to(self, native: _native.Listener) -> None:
        """Tell the core all rules, each by its index."""
        for index, rule in enumerate(self.rules):
            what, value = _CONTINUE, 0
            if rule.error is not None:
                what, value = _ERROR, rule.error
            elif rule.retval is not None:
                what, value = _VALUE, rule.retval
            seed = index + 1 if rule.seed is None else rule.seed
            misses = min(int((1 - rule.probability) * 2.0**64), 2**64 - 1)
            native.add_rule(
                rule.path, (rule.first, rule.last, rule.step), (misses, seed), rule.delay_enter_ns,
                rule.delay_exit_ns, what, value, targets(rule, self._targets(index)), *more(rule, self.rules),
            )  # fmt: skip

    def counts(self, native: _native.Listener) -> dict[str, int]:
        """Return how often each rule that is counted has acted, by its text."""
        found: dict[str, int] = {}
        for index, rule in enumerate(self.rules):
            if not rule.is_constant and rule.text:
                found[rule.text] = found.get(rule.text, 0) + native.rule_count(index)
        return found
