"""Contenders, measured in turns, and what is said about them."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any


class Contender:
    """One way of doing the same thing.

    :param name: what the table calls it.
    :param cost: does it once and returns what it cost; the unit is the group's.
    :param aim: at most this ratio to the baseline, or None.
    """

    def __init__(self, name: str, cost: Callable[[], float], *, aim: float | None = None) -> None:
        self.name = name
        self.cost = cost
        self.aim = aim


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


class Row:
    """What was found about a contender.

    :ivar ratio: median over the rounds of its cost over the baseline's in the same round.
    :ivar low: lower quartile of these ratios.
    :ivar high: upper quartile.
    :ivar cost: median of its cost.
    :ivar best: least of its costs.
    """

    def __init__(self, contender: Contender, costs: Sequence[float], baseline: Sequence[float]) -> None:
        ratios = [cost / base for cost, base in zip(costs, baseline, strict=True)]
        quartiles = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        self.name = contender.name
        self.aim = contender.aim
        self.low, self.ratio, self.high = quartiles
        self.cost = statistics.median(costs)
        self.best = min(costs)
        self.costs = list(costs)

    def as_dict(self) -> dict[str, Any]:
        """Return the same for JSON, with every cost."""
        return dict(vars(self))

    @property
    def verdict(self) -> str:
        """Whether the aim was met."""
        if self.aim is None:
            return ""
        return f"aim {self.aim:g}: {'met' if self.ratio <= self.aim else 'MISSED'}"


def measure(group: Group, rounds: int, say: Callable[[str], object] = sys.stderr.write) -> list[Row]:
    """Measure every contender once per round, in turn, after one round that does not count."""
    rounds = max(round(rounds * group.share), 1)
    costs: dict[str, list[float]] = {contender.name: [] for contender in group.contenders}
    for number in range(rounds + 1):
        say(f"\r{group.name}: {number}/{rounds} ")
        for contender in group.contenders:
            cost = contender.cost()
            if number:
                costs[contender.name].append(cost)
    say("\r\033[K")
    baseline = costs[group.contenders[0].name]
    return [Row(contender, costs[contender.name], baseline) for contender in group.contenders]


def table(group: Group, rows: Sequence[Row]) -> str:
    """Return the rows as text."""
    lines = [f"{group.name}: {group.title}"]
    lines += [
        f"  {row.name:44s} {row.ratio:8.3f}  [{row.low:.3f}..{row.high:.3f}]"
        f"  {row.cost:10.1f} {group.unit}  {row.verdict}".rstrip()
        for row in rows
    ]
    return "\n".join(lines) + "\n"
