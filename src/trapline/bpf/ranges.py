"""Sets of numbers as half-open ranges, and the binary search that a filter does over them.

Classic BPF compares 32 bits at a time, so a 64-bit set is searched in two steps: the high word says "inside",
"outside", or "it depends on the low word", and the low word settles it. Two ranges, 0x1_0000_1000 to
0x1_0000_2000 and 0x7_0000_0000 to 0x9_0000_0000, become::

    high >= 7 ──yes── high >= 9 ──yes── outside
        │                 └──────no──── inside
        no
        └─── high == 1 ──yes── low >= 0x2000 ──yes── outside
                 │                  └──────no─────── low >= 0x1000 ── …
                 └──no── outside

Every comparison halves what is left, weighted by what the low word still has to ask: the longest path of n
ranges takes about log2(2n) comparisons and two loads.
"""

from __future__ import annotations

from trapline.bpf.assembler import JUMP_EQ, JUMP_GE, Assembler
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

#: A half-open range ``(start, end)``: *start* is inside, *end* is not and may be ``2**64``.
Range = tuple[int, int]
#: Sorted, disjoint and not even touching.
Ranges = tuple[Range, ...]
if TYPE_CHECKING:
    #: ``("ge" | "eq", k, yes, no)``, ``("load", "high" | "low", tree)``, or anything else: a leaf.
    Tree: TypeAlias = Any

LIMIT = 1 << 64


def normalize(ranges: Iterable[Range], limit: int = LIMIT) -> Ranges:
    """Return *ranges* sorted, with empty ones dropped and overlapping or touching ones merged.

    :param ranges: half-open ``(start, end)``.
    :param limit: what no end may exceed: 2 to the power of the width.
    :raises UsageError: a range ends before it starts, or leaves 0 to *limit*.
    """
    merged: list[Range] = []
    for start, end in sorted(ranges):
        if start > end:
            raise UsageError(f"range 0x{start:x} to 0x{end:x} ends before it starts; write (start, end)")
        if start < 0 or end > limit:
            raise UsageError(f"range {start:#x} to {end:#x} leaves 0 to 2**{limit.bit_length() - 1}")
        if start == end:
            continue
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return tuple(merged)


def complement(ranges: Ranges, limit: int = LIMIT) -> Ranges:
    """Return everything below *limit* that is not in *ranges* (normalized)."""
    out: list[Range] = []
    at = 0
    for start, end in ranges:
        if start > at:
            out.append((at, start))
        at = end
    if at < limit:
        out.append((at, limit))
    return tuple(out)


def union(a: Ranges, b: Ranges, limit: int = LIMIT) -> Ranges:
    """Return what is in *a* or in *b*."""
    return normalize((*a, *b), limit)


def intersection(a: Ranges, b: Ranges, limit: int = LIMIT) -> Ranges:
    """Return what is in *a* and in *b*."""
    return complement(union(complement(a, limit), complement(b, limit), limit), limit)


def contains(ranges: Iterable[Range], value: int) -> bool:
    """Return whether *value* is in one of *ranges*, the plain way."""
    return any(start <= value < end for start, end in ranges)


def search(starts: Sequence[int], leaves: Sequence[Tree], weights: Sequence[int] | None = None) -> Tree:
    """Return the binary search that finds which segment a 32-bit word is in.

    :param starts: where each segment starts, rising; the first start is never compared.
    :param leaves: what each segment leads to; equal neighbours should be merged already.
    :param weights: 2 to the power of how many comparisons wait behind each leaf; 1 each by default.
    """
    if weights is None:
        weights = [1] * len(leaves)
    sums = [0]
    for weight in weights:
        sums.append(sums[-1] + weight)

    def single(at: int) -> bool:
        """Whether segment *at* is one number between two equal segments: one comparison settles it."""
        return (
            0 < at < len(leaves) - 1
            and starts[at + 1] - starts[at] == 1
            and bool(leaves[at - 1] == leaves[at + 1])
        )

    def build(first: int, last: int) -> Tree:
        count = last - first
        if count == 1:
            return leaves[first]
        if count == 3 and single(first + 1):
            return ("eq", starts[first + 1], leaves[first + 1], leaves[first])
        middle = (first + last) // 2
        double = sums[first] + sums[last]
        while middle + 1 < last and 2 * sums[middle] < double:
            middle += 1
        while middle - 1 > first and 2 * sums[middle - 1] >= double:
            middle -= 1
        if middle - 1 > first and abs(2 * sums[middle - 1] - double) < abs(2 * sums[middle] - double):
            middle -= 1
        if count > 3:
            for split in (middle, middle + 1, middle - 1):
                if first < split < last and (
                    (split - 3 >= first and single(split - 2)) or (split + 3 <= last and single(split + 1))
                ):
                    middle = split
                    break
        return ("ge", starts[middle], build(middle, last), build(first, middle))

    return build(0, len(leaves))


def depth(tree: Tree) -> int:
    """Return how many comparisons the longest path through *tree* takes."""
    if not isinstance(tree, tuple):
        return 0
    if tree[0] == "load":
        return depth(tree[2])
    return 1 + max(depth(tree[2]), depth(tree[3]))


def _segments(ranges: Ranges) -> tuple[list[int], list[Tree]]:
    """Return the starts and leaves (True inside, False outside) of *ranges* over 32 bits."""
    starts: list[int] = []
    leaves: list[Tree] = []
    if not ranges or ranges[0][0] > 0:
        starts.append(0)
        leaves.append(False)
    for start, end in ranges:
        starts.append(start)
        leaves.append(True)
        if end < 1 << 32:
            starts.append(end)
            leaves.append(False)
    return starts, leaves


def tree32(ranges: Ranges) -> Tree:
    """Return the search for *ranges* (normalized, below ``2**32``) over one word."""
    starts, leaves = _segments(ranges)
    return search(starts, leaves)


def tree64(ranges: Ranges) -> Tree:
    """Return the search for *ranges* (normalized, below ``2**64``) over the high word, then the low one."""
    starts: list[int] = []
    leaves: list[Tree] = []
    weights: list[int] = []

    def add(start: int, leaf: Tree, weight: int = 1) -> None:
        if starts and starts[-1] == start:
            starts.pop()
            leaves.pop()
            weights.pop()
        if not leaves or leaves[-1] != leaf:
            starts.append(start)
            leaves.append(leaf)
            weights.append(weight)

    # Boundaries flip inside and outside; those that share a high word, past its start, split that word.
    flips = [at for pair in ranges for at in pair]
    inside = False
    add(0, False)
    index = 0
    while index < len(flips):
        high = flips[index] >> 32
        if high > 0xFFFFFFFF:
            break
        low_starts: list[int] = [0]
        low_leaves: list[Tree] = [inside]
        while index < len(flips) and flips[index] >> 32 == high:
            low = flips[index] & 0xFFFFFFFF
            inside = not inside
            if low == 0:
                low_leaves[0] = inside
            else:
                low_starts.append(low)
                low_leaves.append(inside)
            index += 1
        if len(low_starts) == 1:
            add(high, low_leaves[0])
            continue
        subtree = search(low_starts, low_leaves)
        add(high, ("load", "low", subtree), 1 << depth(subtree))
        if high < 0xFFFFFFFF:
            add(high + 1, inside)
    return ("load", "high", search(starts, leaves, weights)) if len(leaves) > 1 else leaves[0]


def tree(ranges: Iterable[Range], bits: int = 64) -> Tree:
    """Return the search for any set of ranges: nested tuples, leaves ``True`` (inside) and ``False``.

    :param ranges: half-open ``(start, end)`` in any order; *end* may be ``2**bits``.
    :param bits: 32 or 64.
    :raises UsageError: a range is backwards or does not fit.
    """
    merged = normalize(ranges, 1 << bits)
    if bits == 64:
        return tree64(merged)
    found = tree32(merged)
    return ("load", "low", found) if isinstance(found, tuple) else found


def emit(asm: Assembler, node: Tree, offsets: dict[str, int], labels: dict[Any, int]) -> None:
    """Add the code of a search.

    :param offsets: of the words ``"high"`` and ``"low"`` in ``struct seccomp_data``.
    :param labels: where each leaf goes.
    """
    if not isinstance(node, tuple):
        asm.goto(labels[node])
        return
    kind = node[0]
    if kind == "load":
        asm.load(offsets[node[1]])
        emit(asm, node[2], offsets, labels)
        return
    _, k, yes, no = node
    # A leaf is jumped to; a subtree is laid down: first the one for "no", which is simply run into.
    targets = [asm.label() if isinstance(child, tuple) else labels[child] for child in (yes, no)]
    asm.branch(JUMP_GE if kind == "ge" else JUMP_EQ, k, targets[0], targets[1])
    for child, target in ((no, targets[1]), (yes, targets[0])):
        if isinstance(child, tuple):
            asm.place(target)
            emit(asm, child, offsets, labels)
