"""The ``linux`` personality: the calls that belong to a process, as a process of its own would see them."""

from __future__ import annotations

from trapline.guest.personality import Convention, Personality, does

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.call import Call
    from trapline.guest.thread import Thread

__all__ = ["LINUX", "Linux"]

LINUX = Convention("rax", ("rdi", "rsi", "rdx", "r10", "r8", "r9"), "rax")


class Linux(Personality):
    """Linux."""

    @does("exit", "exit_group")
    def exit_group(self, thread: Thread, call: Call) -> int:
        from trapline.guest.guest import End

        assert self.guest is not None
        self.guest.end(call.raw[0] & 0xFF)
        raise End
