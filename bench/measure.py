"""Contenders, measured in turns, and what is said about them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class Aim:
    """A bar for a contender, beyond its ratio to the baseline.

    :param limit: at most this.
    :param over: the name of the contender it is compared with, or None for the baseline.
    :param excess: the limit is on the difference, in the group's unit, and not on the ratio.
    :param overhead: the limit is on the ratio of what both cost more than the baseline.
    """

    def __init__(
        self, limit: float, *, over: str | None = None, excess: bool = False, overhead: bool = False
    ) -> None:
        self.limit = limit
        self.over = over
        self.excess = excess
        self.overhead = overhead


class Contender:
    """One way of doing the same thing.

    :param name: what the table calls it.
    :param cost: does it once and returns what it cost; the unit is the group's.
    :param aim: at most this ratio to the baseline, or None.
    :param also: further bars.
    """

    def __init__(
        self, name: str, cost: Callable[[], float], *, aim: float | None = None, also: Sequence[Aim] = ()
    ) -> None:
        self.name = name
        self.cost = cost
        self.aim = aim
        self.also = tuple(also)


class Group:
    """Contenders for one question; the first is the baseline.

    :param name: as on the command line.
    :param title: what is measured.
    :param unit: of the costs, ``"ns"`` or ``"ms"``.
    :param share: of the rounds that were asked for: less where a contender is slow.
    """

    def __init__(
        self, name: str, title: str, unit: str, contenders: Sequence[Contender], share: float = 1
    ) -> None:
        self.name = name
        self.title = title
        self.unit = unit
        self.share = share
        self.contenders = tuple(contenders)


class Comparison:
    """A contender beside another, over the rounds.

    :ivar median: of the ratios, or differences, within a round.
    :ivar low: lower quartile of them.
    :ivar high: upper quartile.
    """

    def __init__(self, values: Sequence[float]) -> None:
        quartiles = (
            statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
        )
        self.low, self.median, self.high = quartiles

    def __str__(self) -> str:
        return f"{self.median:8.3f}  [{self.low:.3f}..{self.high:.3f}]"


class Judged:
    """An :class:`Aim` and what was found.

    :ivar text: for the table.
    """

    def __init__(
        self, aim: Aim, unit: str, costs: Sequence[float], costs_of: Mapping[str, list[float]], base: str
    ) -> None:
        name = aim.over or base
        rounds = zip(costs, costs_of[name], costs_of[base], strict=True)
        found = Comparison([_compared(aim, *costs_of_round) for costs_of_round in rounds])
        self.over = name
        self.limit, self.excess, self.overhead = aim.limit, aim.excess, aim.overhead
        self.low, self.median, self.high = found.low, found.median, found.high
        what = f"{unit} more than" if aim.excess else "x what is added by" if aim.overhead else "x"
        self.text = f"{found}  {what} {name}  {_verdict(found.median, aim.limit)}"


class Row:
    """What was found about a contender.

    :ivar ratio: median over the rounds of its cost over the baseline's in the same round.
    :ivar low: lower quartile of these ratios.
    :ivar high: upper quartile.
    :ivar cost: median of its cost.
    :ivar best: least of its costs.
    :ivar also: its further aims.
    """

    def __init__(self, group: Group, contender: Contender, costs: dict[str, list[float]]) -> None:
        mine, first = costs[contender.name], group.contenders[0].name
        found = Comparison([cost / base for cost, base in zip(mine, costs[first], strict=True)])
        self.name = contender.name
        self.aim = contender.aim
        self.low, self.ratio, self.high = found.low, found.median, found.high
        self.cost = statistics.median(mine)
        self.best = min(mine)
        self.costs = mine
        # One that failed is nobody's yardstick.
        self.also = [
            Judged(aim, group.unit, mine, costs, first)
            for aim in contender.also
            if (aim.over or first) in costs
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return the same for JSON, with every cost."""
        return {**vars(self), "also": [vars(judged) for judged in self.also]}

    @property
    def verdict(self) -> str:
        """Whether the aim was met."""
        return "" if self.aim is None else _verdict(self.ratio, self.aim)


def _compared(aim: Aim, cost: float, other: float, base: float) -> float:
    if aim.excess:
        return cost - other
    # Who adds nothing in a round is no yardstick for it.
    return (cost - base) / max(other - base, 1e-9) if aim.overhead else cost / other


def _verdict(found: float, limit: float) -> str:
    return f"aim {limit:g}: {'met' if found <= limit else 'MISSED'}"


class Found:
    """What was found in a group.

    :ivar rows: in order; those that could not be measured are missing.
    :ivar failed: why, by their names.
    """

    def __init__(self, group: Group, rows: list[Row], failed: dict[str, str]) -> None:
        self.group = group
        self.rows = rows
        self.failed = failed

    def as_dict(self) -> dict[str, Any]:
        """Return the same for JSON."""
        return {
            "title": self.group.title,
            "unit": self.group.unit,
            "rows": [row.as_dict() for row in self.rows],
            "failed": self.failed,
        }

    def __str__(self) -> str:
        lines = [f"{self.group.name}: {self.group.title}"]
        for row in self.rows:
            ratio = f"{row.ratio:8.3f}  [{row.low:.3f}..{row.high:.3f}]"
            lines.append(
                f"  {row.name:44s} {ratio}  {row.cost:10.1f} {self.group.unit}  {row.verdict}".rstrip()
            )
            lines += [f"  {'':44s} {judged.text}".rstrip() for judged in row.also]
        lines += [f"  {name:44s} failed: {why}" for name, why in self.failed.items()]
        return "\n".join(lines) + "\n"


def measure(group: Group, rounds: int, say: Callable[[str], object] = sys.stderr.write) -> Found:
    """Measure every contender once per round, in turn, after one round that does not count.

    :raises RuntimeError: the baseline failed. Any other contender that fails is left out, and the result says so.
    """
    rounds = max(round(rounds * group.share), 1)
    costs: dict[str, list[float]] = {contender.name: [] for contender in group.contenders}
    failed: dict[str, str] = {}
    for number in range(rounds + 1):
        say(f"\r{group.name}: {number}/{rounds} ")
        for contender in group.contenders:
            if contender.name in failed:
                continue
            try:
                cost = contender.cost()
            except RuntimeError as error:
                if contender is group.contenders[0]:
                    raise
                failed[contender.name] = str(error)
                del costs[contender.name]
                continue
            if number:
                costs[contender.name].append(cost)
    say("\r\033[K")
    rows = [Row(group, contender, costs) for contender in group.contenders if contender.name in costs]
    return Found(group, rows, failed)
