"""A thread of a guest, and the calls that it makes."""

from __future__ import annotations

from trapline import _native
from trapline.abi.prototypes import Signature
from trapline.call import Args, Call
from trapline.guest.registers import Registers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from trapline.guest.guest import Guest

__all__ = ["GuestCall", "Thread"]


class Thread(_native.GuestThread):
    """One thread of a guest: its registers while it is not running, and what runs it.

    :ivar fs: base of its ``fs`` segment.
    :ivar tid: the thread of this process that it runs on.
    """

    guest: Guest
    #: What a personality keeps here.
    state: Any = None
    #: What a hook has raised, until the thread is out of its guest.
    error: BaseException | None = None
    #: The thread of this process that runs it: its own, but for the notify engine.
    driver = 0

    def __new__(cls, guest: Guest) -> Thread:
        """Make a thread that has run nothing yet."""
        self: Thread = super().__new__(cls, guest._native)
        self.guest = guest
        return self

    def __init__(self, guest: Guest) -> None:
        pass

    @property
    def registers(self) -> Registers:
        """Its registers by name; they can be set."""
        return Registers(self)


class GuestCall(Call):
    """A call that a guest makes."""

    __slots__ = ()

    #: Set on a subclass of its own by each guest.
    _guest: Guest

    def _decode(self) -> tuple[str, Args]:
        personality = self._guest.personality
        if personality.numbers is None:
            return super()._decode()
        name = personality.name(self.nr, self.arch)
        return name, Args(Signature(name, "x86_64", None), self.raw)

    @property
    def guest(self) -> Guest:
        """The guest that makes it."""
        return self._guest

    @property
    def thread(self) -> Thread:
        """The thread that makes it, with its registers."""
        return self._guest._threads[self._id & 0xFFF]
