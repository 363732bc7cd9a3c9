"""A range search drawn as text."""

from __future__ import annotations

from collections.abc import Iterable

from trapline.bpf import ranges


def draw(spans: Iterable[ranges.Range], bits: int = 64) -> str:
    """Return the search over *spans* as a tree in ASCII, "yes" branches first.

    :param spans: half-open ``(start, end)``.
    :raises UsageError: a range is backwards or does not fit.
    """
    lines: list[str] = []
    _draw(ranges.tree(spans, bits), lines, "", "", "ip")
    return "\n".join(lines)


def _draw(node: ranges.Tree, lines: list[str], first: str, rest: str, word: str) -> None:
    if not isinstance(node, tuple):
        lines.append(f"{first}{'inside' if node else 'outside'}")
        return
    if node[0] == "load":
        _draw(node[2], lines, first, rest, node[1])
        return
    kind, k, yes, no = node
    lines.append(f"{first}{word} {'>=' if kind == 'ge' else '=='} 0x{k:08x}?")
    _draw(yes, lines, rest + "|-- yes: ", rest + "|   ", word)
    _draw(no, lines, rest + "`-- no:  ", rest + "    ", word)
