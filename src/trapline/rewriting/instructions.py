"""Instructions as the planner sees them: decoded by iced-x86, judged, and made movable."""

from __future__ import annotations

import _thread
import os
import struct
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from iced_x86 import Decoder, Instruction

__all__ = ["Moved", "decode", "decode_each", "decode_one", "displacement", "move", "obstacle"]

# iced_x86.FlowControl. The package's modules of constants are most of its import time, so what is needed of them
# is repeated here; a test compares.
NEXT, JUMP, INDIRECT_JUMP, CONDITIONAL, RETURN, CALL, INDIRECT_CALL, INTERRUPT, TRANSACTION, EXCEPTION = (
    range(10)
)

# iced_x86.Mnemonic
ENDBR32, ENDBR64, INT3, NOP, RET = 151, 152, 1620, 465, 662
MOV, POPF, POPFQ, XEND, SYSCALL, SYSENTER = 414, 593, 1617, 1515, 746, 747
LOOPS = frozenset((390, 391, 392))

# iced_x86.CpuidFeature of the x87: its instructions record their own address.
X87 = frozenset((55, 56, 57, 58, 59))

# iced_x86.Register
EAX, RIP, SS = 37, 70, 73

# iced_x86.Code of `mov $imm32, %r32` in its form without a ModRM byte.
MOV_R32 = 357

#: Kinds of control flow after which the next instruction is reached, sooner or later.
GOES_ON = frozenset((NEXT, CONDITIONAL, CALL, INDIRECT_CALL))

# A reference further than this may not be reached from a block on the other side of the site.
_FAR = (1 << 31) - (1 << 16)


_LOADING = _thread.allocate_lock()


def _load() -> ModuleType:
    """Return iced-x86's extension module without the package around it, 4 ms instead of 40."""
    name = "iced_x86._iced_x86_py"
    module = sys.modules.get(name)
    if module is not None:
        return module
    # Each session plans in a thread of its own, and the extension can be initialised only once.
    with _LOADING:
        return sys.modules.get(name) or _load_first(name)


def _load_first(name: str) -> ModuleType:
    # importlib.util would bring contextlib and types with it.
    from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec, PathFinder

    package = PathFinder.find_spec("iced_x86")
    if package is not None and package.submodule_search_locations:
        for suffix in EXTENSION_SUFFIXES:
            path = os.path.join(package.submodule_search_locations[0], "_iced_x86_py" + suffix)
            if os.path.exists(path):
                loader = ExtensionFileLoader(name, path)
                spec = ModuleSpec(name, loader, origin=path)
                module = loader.create_module(spec)
                module.__spec__ = spec
                module.__loader__ = loader
                loader.exec_module(module)
                # A later `import iced_x86` has to find this one.
                sys.modules[name] = module
                return module
    import iced_x86

    return iced_x86


def decode(code: bytes, base: int, start: int) -> Iterator[Instruction]:
    """Decode from *start* on.

    :param code: what is in memory from *base* on.
    :param start: where the first instruction is, in ``[base, base + len(code)]``.
    """
    make: type[Decoder] = _load().Decoder
    decoder = make(64, code[start - base :] if start != base else code, ip=start)
    return iter(decoder)


def decode_one(code: bytes, base: int, at: int) -> Instruction:
    """Decode what stands at *at*; cut off or invalid bytes have the code 0."""
    make: type[Decoder] = _load().Decoder
    return make(64, code[at - base : at - base + 15], ip=at).decode()


def decode_each(code: bytes, base: int, start: int, end: int) -> Iterator[Instruction]:
    """Decode what begins at each address of ``[start, end)``; what is no instruction has the code 0."""
    make: type[Decoder] = _load().Decoder
    decoder = make(64, code[start - base : end - base + 15], ip=start)
    for at in range(start, end):
        decoder.position = at - start
        decoder.ip = at
        yield decoder.decode()


def obstacle(instruction: Instruction) -> str | None:
    """Tell why an instruction cannot be displaced; None when it can.

    What stays: everything that does the same wherever it stands, branches that can be made near, and operands
    relative to the instruction pointer.
    """
    flow = instruction.flow_control
    mnemonic = instruction.mnemonic
    if instruction.code == 0:
        return "invalid"
    if instruction.is_ip_rel_memory_operand and instruction.memory_base != RIP:
        return "odd"
    if flow == NEXT:
        if mnemonic in (ENDBR32, ENDBR64):
            return "landing-pad"
        if instruction.is_privileged:
            return "privileged"
        if mnemonic in (POPF, POPFQ) or (mnemonic == MOV and instruction.op0_register == SS):
            return "trap-flag"
        if mnemonic == XEND or not X87.isdisjoint(instruction.cpuid_features()):
            return "own-address"
        return None
    if mnemonic in LOOPS:
        # Short only; in its place two instructions would stand, the first of which has counted already.
        return "odd"
    if flow in (JUMP, CONDITIONAL):
        # With a prefix the size of the offset depends on the processor's maker.
        return None if instruction.len in (2, 5 if flow == JUMP else 6) else "odd"
    if flow == INDIRECT_JUMP:
        return "far" if instruction.is_jmp_far_indirect else None
    if flow == RETURN:
        return None if mnemonic == RET else "far"
    if mnemonic in (SYSCALL, SYSENTER) or flow == INTERRUPT:
        return "kernel-entry"
    if flow in (CALL, INDIRECT_CALL):
        return "call"
    return "own-address" if flow == TRANSACTION else "invalid"


class Moved:
    """An instruction as it stands in a block.

    :ivar at: where it was, relative to the ``syscall`` instruction.
    :ivar length: how long it was there.
    :ivar code: its bytes in the block.
    :ivar fixups: pairs of a position in *code* where 4 bytes depend on the block's address, and what the sum of
        the 4 bytes and the address of their own is, relative to the ``syscall`` instruction.
    """

    __slots__ = ("at", "code", "fixups", "length")

    def __init__(self, at: int, length: int, code: bytes, fixups: tuple[tuple[int, int], ...] = ()) -> None:
        self.at = at
        self.length = length
        self.code = code
        self.fixups = fixups

    @property
    def reaches(self) -> bool:
        """Whether a block close to the site reaches what the instruction refers to."""
        return all(abs(addend) < _FAR for _, addend in self.fixups)


def move(instruction: Instruction, raw: bytes, site: int) -> Moved:
    """Make an instruction movable that has no :func:`obstacle`. Its encoding stays, but for branches made near.

    :param raw: its bytes.
    :param site: address of the ``syscall`` instruction.
    """
    at = instruction.ip - site
    length = len(raw)
    if instruction.flow_control in (JUMP, CONDITIONAL):
        target = instruction.near_branch_target - site
        opcode = raw[0]
        if length == 2 and opcode & 0xFC == 0xE0:  # jrcxz: only short
            code = bytes((opcode, 2, 0xEB, 5, 0xE9, 0, 0, 0, 0))
        elif opcode in (0xEB, 0xE9):
            code = b"\xe9" + bytes(4)
        else:
            condition = opcode if length == 2 else raw[1]
            code = bytes((0x0F, 0x80 | condition & 15, 0, 0, 0, 0))
        return Moved(at, length, code, ((len(code) - 4, target - 4),))
    if instruction.is_ip_rel_memory_operand:
        field = _displacement_offset(raw, instruction.ip)
        target = instruction.ip_rel_memory_address - site
        return Moved(at, length, raw, ((field, target - (length - field)),))
    return Moved(at, length, raw)


def _displacement_offset(raw: bytes, ip: int) -> int:
    decoder = _load().Decoder(64, raw, ip=ip)
    instruction = decoder.decode()
    offsets = decoder.get_constant_offsets(instruction)
    assert offsets.displacement_size == 4
    return int(offsets.displacement_offset)


def displacement(value: int) -> bytes:
    """Return 4 bytes of a relative offset; :class:`OverflowError` when it does not reach."""
    try:
        return struct.pack("<i", value)
    except struct.error:
        raise OverflowError(f"{value:#x} does not fit a relative offset of 32 bits") from None
