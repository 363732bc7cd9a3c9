"""What the agent brings to each block."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Fixup", "Gate"]


class Fixup:
    """A field of a block that depends on addresses.

    :ivar offset: of the field in the block.
    :ivar kind: one of the constants of :mod:`~trapline.rewriting.blocks`, or the agent's own.
    :ivar addend: what is added to the base that *kind* names.
    """

    __slots__ = ("addend", "kind", "offset")

    def __init__(self, offset: int, kind: int, addend: int) -> None:
        self.offset = offset
        self.kind = kind
        self.addend = addend

    def __repr__(self) -> str:
        return f"Fixup({self.offset}, {self.kind}, {self.addend:#x})"


class Gate:
    """The agent's template: what stands in a block instead of the ``syscall``.

    Entered with all registers as the program set them; left at its end with rcx and r11 as the kernel leaves
    them.

    :ivar code: its bytes; control leaves at their end.
    :ivar pass_offset: of the ``syscall`` in it that lets a call through.
    :ivar fixups: fields to fill, offsets from the gate's beginning. :data:`~trapline.rewriting.blocks.ABS64_SITE` with
        the addend 2 is what rcx has to hold; addends of :data:`~trapline.rewriting.blocks.ABS64_BLOCK` count from the
        gate's beginning too.
    """

    __slots__ = ("code", "fixups", "pass_offset")

    def __init__(self, code: bytes, pass_offset: int, fixups: Sequence[Fixup] = ()) -> None:
        assert code[pass_offset : pass_offset + 2] == b"\x0f\x05"
        self.code = code
        self.pass_offset = pass_offset
        self.fixups = tuple(fixups)
