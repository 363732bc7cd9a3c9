"""A kernel of its own: four calls with numbers, registers and errors that are nobody else's.

Its programs put the number in rbx, arguments in r8 and r9, and enter by `int 0x80` or `syscall`; the result comes
back in rdx, and an error sets the carry flag. Run it: ``python examples/guests/foreign_kernel.py``.
"""

from typing import ClassVar

from trapline.guest import Convention, Guest, Personality, does


class Tiny(Personality):
    numbers: ClassVar = {0x1000: "halt", 0x1001: "say", 0x1002: "add", 0x1003: "fetch"}
    convention = Convention("rbx", ("r8", "r9"), "rdx", carry_is_error=True)

    def __init__(self):
        super().__init__()
        self.said = []

    @does("say")
    def say(self, thread, call):
        self.said.append(call.read(call.args.arg0, call.args.arg1).decode())
        return call.args.arg1

    @does("add")
    def add(self, thread, call):
        return call.args.arg0 + call.args.arg1

    @does("fetch")
    def fetch(self, thread, call):
        raise OSError(2, "there is nothing to fetch")

    @does("halt")
    def halt(self, thread, call):
        self.guest.exit(call.args.arg0)

    @does("*")
    def other(self, thread, call):
        raise OSError(99, f"no call {call.nr:#x}")


# mov ebx, 0x1002; mov r8, rdi; mov r9, rsi; syscall; mov rax, rdx; ret
ADD = bytes.fromhex("53bb021000004989f84989f10f054889d05bc3")

if __name__ == "__main__":
    with Guest(personality=Tiny()) as guest:
        print(guest.call(guest.arena.load_code(ADD), 40, 2))
