"""Rewriting in guests: a hot ``syscall`` instruction becomes a jump to a block, as in programs.

Plans, blocks and the gate are those of :mod:`trapline.rewriting` and of the agent. A block is in two pieces: real
system calls are made from the gate, which is outside of the arena, where nothing is caught.
"""

from __future__ import annotations

import os
import threading
from functools import cache

from trapline import _native
from trapline.guest.arena import PAGE, pages
from trapline.guest.descriptors import lift
from trapline.rewriting.blocks import Fixup, Gate
from trapline.rewriting.catalogue import SiteCatalogue
from trapline.rewriting.placement import JUMP_SIZE, TRAPPING
from trapline.rewriting.wire import unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.guest.arena import Arena
    from trapline.guest.thread import Thread
    from trapline.rewriting.blocks import Block
    from trapline.rewriting.wire import Answer

__all__ = ["Rewriter"]

_GATES_START, _GATES_END = 0x20000, 0x400000  # of the region: tl_blocks, tl_data
_PATCH_NUMBER = 16
_RX, _RWX = 5, 7
_NEAR_SIZE = 0x4000
_NEAR_STEP = 1 << 24
_NEAR_STEPS = 120
_SIGTRAP, _SIGILL = 5, 4
_STATUS_FLAGS = 0xD5  # those that lahf and sahf know


class _Templates:
    """The agent's gate, where in it something changes, and the plans made with it: made when first needed."""

    def __init__(self) -> None:
        code, passes, fixups = _native.Agent.gate()
        gate = Gate(code, passes, [Fixup(*each) for each in fixups])
        # In the order of gate.S: classes, segment, threads, entry, patch, constants, return.
        offsets = [fixup.offset for fixup in gate.fixups]
        self.flags_saved = offsets[1] - 4  # lsl
        self.flags_back = offsets[2] - 3  # lea
        self.decided = offsets[5] + 4 + 3 + 4  # lea, movzwl, movq
        self.rax_back = passes - 2 - 3  # movl, jmp
        self.passes = passes
        self.after = passes + 2
        self.catalogue = SiteCatalogue(gate, moved=lift)
        self.lock = threading.Lock()


@cache
def _templates() -> _Templates:
    return _Templates()


class _Patch:
    __slots__ = ("answer", "at", "gate", "site", "written")

    def __init__(self, site: int, answer: Answer, at: int, gate: int, written: bytes) -> None:
        self.site = site
        self.answer = answer
        self.at = at
        self.gate = gate
        self.written = written

    @property
    def window(self) -> range:
        return range(self.site + self.answer.start, self.site + self.answer.end)

    @property
    def block(self) -> Block:
        return self.answer.block

    @property
    def boundaries(self) -> int:
        """Bit per byte of the window where an instruction began, the first one apart."""
        size = self.answer.end - self.answer.start
        found = 0
        for _, position in self.block.points:
            at = position - self.answer.start
            if 0 < at < size:
                found |= 1 << at
        return found

    def address(self, offset: int) -> int:
        return self.at + offset if offset < self.block.split else self.gate + offset - self.block.split

    def offset(self, address: int) -> int | None:
        """Return where in the block an address is."""
        block = self.block
        if self.at <= address < self.at + block.split:
            return address - self.at
        if self.gate <= address < self.gate + len(block.code) - block.split:
            return address - self.gate + block.split
        return None


class Rewriter:
    """The rewritten sites of one guest.

    :param arena: where its code is.
    :param native: its tables.
    :ivar refused: how many sites were left alone, by reason.
    """

    def __init__(self, arena: Arena, native: _native.Guest) -> None:
        self._arena = arena
        self._native = native
        self._lock = arena.lock  # what is forgotten when the arena changes is told under it
        self._gates = native.region + _GATES_START
        self._rooms: list[list[int]] = []  # start, first free
        self._patches: dict[int, _Patch] = {}
        self._gone: list[_Patch] = []
        self.refused: dict[str, int] = {}
        arena.on_change(self.forget)

    @property
    def patched(self) -> int:
        """How many sites are rewritten now."""
        return len(self._patches)

    def rewrite(self, site: int) -> None:
        """Rewrite a site that has trapped often, if that can be done safely."""
        with self._lock:
            reason = self._rewrite(site)
        if reason:
            self.refused[reason] = self.refused.get(reason, 0) + 1

    def _rewrite(self, site: int) -> str:
        if site in self._patches or self._arena.find(site) is None:
            return ""
        templates = _templates()
        with templates.lock:
            # There is no room for a block in one piece, so it is asked for in two.
            answer = unpack(templates.catalogue.answer(os.getpid(), site, range(0)))
        if answer.reason is not None:
            return answer.reason
        window = site + answer.start
        size = answer.end - answer.start
        if self._arena.read(window, size) != answer.window:
            return "unreadable"
        at = self._near(site, answer)
        rest = len(answer.block.code) - answer.block.split
        gate = (self._gates + 15) & -16
        if not at or gate + rest > self._native.region + _GATES_END:
            return "reach"
        self._gates = gate + rest
        number = self._native.add_patch(site, gate)
        patch = _Patch(site, answer, at, gate, _jump(answer, site, at))
        near, far = _fill(patch, self._native.region, number)
        _write(at, near)
        _write(gate, far)
        self._patches[site] = patch
        self._write_window(patch, patch.written, restores=False)
        return ""

    def _write_window(self, patch: _Patch, data: bytes, *, restores: bool) -> None:
        start = patch.window.start & -PAGE
        size = pages(patch.window.stop) - start
        _native.memory_protect(start, size, _RWX)
        _native.write_window(patch.window.start, data, patch.boundaries, restores)
        _native.memory_protect(start, size, _RX)

    def _near(self, site: int, answer: Answer) -> int:
        """Return where the first piece may be, or 0."""
        size = answer.block.split
        for room in self._rooms:
            found = self._in_room(room, site, answer, size)
            if found:
                return found
        for step in (*range(1, _NEAR_STEPS), *range(-1, -_NEAR_STEPS, -1)):
            start = (site + step * _NEAR_STEP) & -_NEAR_SIZE
            # Where a byte of the upper half has to trap, each of these brings another value of it.
            start += TRAPPING[step % len(TRAPPING)] << 16
            end = start + _NEAR_SIZE
            if start < self._arena.start or end > self._arena.end or self._arena.overlapping(start, end):
                continue
            room = [start, start]
            found = self._in_room(room, site, answer, size)
            if found:
                self._arena.map(_NEAR_SIZE, _RX, at=start, name="blocks")
                self._rooms.append(room)
                return found
        return 0

    @staticmethod
    def _in_room(room: list[int], site: int, answer: Answer, size: int) -> int:
        for at in answer.place.find(site, room[1], room[0] + _NEAR_SIZE - size):
            room[1] = at + size
            return at
        return 0

    def forget(self, start: int, end: int, writable: bool) -> None:
        """Take notice that the guest has unmapped, replaced or opened memory for writing."""
        with self._lock:
            for patch in list(self._patches.values()):
                if patch.window.stop <= start or patch.window.start >= end:
                    continue
                if writable:
                    self._write_window(patch, patch.answer.window, restores=True)
                del self._patches[patch.site]
                self._gone.append(patch)

    def put_right(self, thread: Thread, number: int) -> bool:
        """Have a thread go on that has met a trapping byte of a window; False: it was another trap."""
        if number not in (_SIGTRAP, _SIGILL):
            return False
        registers = thread.registers
        address = registers.rip - (number == _SIGTRAP)
        for patch in [*self._patches.values(), *self._gone]:
            if address not in patch.window:
                continue
            for offset, position in patch.block.points:
                if patch.site + position == address:
                    registers.rip = patch.address(offset) if patch.site in self._patches else address
                    return True
        return False

    def show(self, thread: Thread) -> None:
        """Make of a thread that stands in a block what it would be in its program."""
        registers = thread.registers
        rip = registers.rip
        for patch in [*self._patches.values(), *self._gone]:
            offset = patch.offset(rip)
            if offset is not None:
                self._show(thread, patch, offset)
                return

    @staticmethod
    def _show(thread: Thread, patch: _Patch, offset: int) -> None:
        registers = thread.registers
        block = patch.block
        marks = _templates()
        if not block.gate <= offset < block.gate_end:
            registers.rip = patch.site + block.position(offset)
            return
        here = offset - block.gate
        done = here >= marks.after
        if marks.flags_saved <= here < marks.flags_back:
            flags = registers.eflags & ~_STATUS_FLAGS
            registers.eflags = flags | (registers.rax >> 8 & _STATUS_FLAGS)
            registers.rax = registers.rcx
        if marks.decided <= here < marks.passes:
            if here < marks.rax_back:
                registers.rax = registers.r11
            done = True
        if here == marks.passes and registers.rcx:
            # The gate comes here with 0 in it: the kernel has begun the call, and would make it again.
            thread.interrupted = thread.begun = True
            thread.nr = registers.rax
            thread.goes_on_at = patch.site + 2
        registers.rip = patch.site + (2 if done else 0)
        if done or here == marks.passes:
            registers.rcx = patch.site + 2
            registers.r11 = registers.eflags


def _jump(answer: Answer, site: int, at: int) -> bytes:
    """Return what is written over the window."""
    offset = (at - (site + answer.start + JUMP_SIZE)).to_bytes(4, "little", signed=True)
    code = b"\xe9" + offset
    if answer.keeps_syscall:
        return code + b"\xcc" * (-answer.start - JUMP_SIZE) + b"\x0f\x05"
    return code + b"\xcc" * (answer.end - answer.start - JUMP_SIZE)


def _fill(patch: _Patch, region: int, number: int) -> tuple[bytes, bytes]:
    near, far = patch.block.at(patch.site, patch.at, patch.gate, region)
    data = bytearray(far)
    for fixup in patch.block.fixups:
        if fixup.kind == _PATCH_NUMBER:
            at = fixup.offset - patch.block.split
            data[at : at + 4] = number.to_bytes(4, "little")
    return near, bytes(data)


def _write(address: int, data: bytes) -> None:
    """Write code that no thread runs yet, between code that some may run."""
    start = address & -PAGE
    size = pages(address + len(data)) - start
    _native.memory_protect(start, size, _RWX)
    _native.memory_view(address, len(data), True)[:] = data
    _native.memory_protect(start, size, _RX)
