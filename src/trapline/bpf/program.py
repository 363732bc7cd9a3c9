"""A finished filter: what the kernel gets, and what it would do with a call."""

from __future__ import annotations

from trapline.bpf.instruction import MAX_INSTRUCTIONS, Instruction, from_bytes, to_bytes
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from trapline.bpf.interpreter import Result


class ProgramTooLongError(UsageError):
    """A filter that exceeds the kernel's limit of 4096 instructions.

    :ivar length: how many it would need.
    """

    def __init__(self, length: int) -> None:
        self.length = length
        super().__init__(
            f"the filter needs {length} instructions and the kernel takes {MAX_INSTRUCTIONS}: too many "
            "ranges or conditions. Map the code that matters into one arena (a single huge reserved range), "
            "so that one range tells it from the rest, or use fewer conditions"
        )


class Program:
    """A classic BPF program for seccomp.

    :ivar instructions: tuples ``(code, jt, jf, k)``.
    :raises ProgramTooLongError: there are more than 4096.
    """

    __slots__ = ("instructions",)

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        if len(instructions) > MAX_INSTRUCTIONS:
            raise ProgramTooLongError(len(instructions))
        self.instructions = tuple(instructions)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Program:
        """Return the program in *raw*, an array of little-endian ``struct sock_filter``."""
        return cls(from_bytes(raw))

    def __len__(self) -> int:
        return len(self.instructions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Program) and self.instructions == other.instructions

    def __hash__(self) -> int:
        return hash(self.instructions)

    def __repr__(self) -> str:
        return f"<Program of {len(self)} instructions>"

    def to_bytes(self) -> bytes:
        """Return what ``struct sock_fprog.filter`` points to: 8 bytes an instruction, little-endian."""
        return to_bytes(self.instructions)

    def disassemble(self) -> str:
        """Return the program as text, one instruction a line, targets resolved, names as comments."""
        from trapline.bpf.disassembler import disassemble

        return disassemble(self.instructions)

    def run(self, nr: int, arch: str | int, args: Sequence[int] = (), ip: int = 0) -> Result:
        """Return what the filter answers to one call, and the path it takes there.

        :param nr: number of the system call, as the kernel sees it: 32 bits.
        :param arch: a name such as ``"x86_64"``, or an ``AUDIT_ARCH_*`` value.
        :param args: up to six raw 64-bit registers; missing ones are 0.
        :param ip: instruction pointer behind the ``syscall`` instruction.
        :raises InvalidProgramError: the kernel would have refused the program.
        """
        from trapline.bpf.interpreter import SeccompData, check, run

        check(self.instructions)
        return run(self.instructions, SeccompData(nr, arch, args, ip))

    def longest_path(self) -> int:
        """Return how many instructions the worst call executes."""
        from trapline.bpf.analysis import longest_path

        return longest_path(self.instructions)

    def cacheable_numbers(self, arch: str) -> frozenset[int]:
        """Return the numbers that the kernel (5.11 and later) answers without running the filter.

        When a filter is installed, the kernel emulates it once per number with nothing but the number and the
        architecture known. Where that ends in ``ALLOW`` the number goes into a bitmap, and calls of it skip
        the filter. Considered are the numbers up to the highest in *arch*'s table.
        """
        from trapline import abi
        from trapline.bpf.analysis import constant_allow

        highest = max(abi.number(name, arch) for name in abi.names(arch))
        audit = abi.AUDIT_ARCH[arch]
        return frozenset(nr for nr in range(highest + 1) if constant_allow(self.instructions, nr, audit))
