"""Threads of a Linux guest: each runs on one of this process."""

from __future__ import annotations

import os
import struct
from collections import deque

from trapline import _native
from trapline.guest.arena import PAGE, PROT_WRITE
from trapline.guest.linux.process import Process
from trapline.guest.personality import does

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.call import Call
    from trapline.guest.thread import Thread

    Info = bytes | Callable[[], bytes]

__all__ = ["Pending", "State", "Threads"]

_CLONE_VM, _CLONE_SIGHAND, _CLONE_PARENT, _CLONE_THREAD, _CLONE_SETTLS = (
    0x100,
    0x800,
    0x8000,
    0x10000,
    0x80000,
)
#: Those that clone3 knows: the exit signal is apart, and CLONE_DETACHED is an error.
_CLONE3_FLAGS = 0x3FFBFFF00 | 0x80
_CLONE_PARENT_SETTID, _CLONE_CHILD_CLEARTID, _CLONE_CHILD_SETTID = 0x100000, 0x200000, 0x1000000
_ENOSYS, _EAGAIN, _EINVAL, _ESRCH, _E2BIG = 38, 11, 22, 3, 7
_FUTEX, _FUTEX_WAKE = 202, 1
_FUTEX_WAITERS, _FUTEX_OWNER_DIED, _FUTEX_TID_MASK = 1 << 31, 1 << 30, (1 << 30) - 1
_ROBUST_LIST, _ROBUST_MAX = 24, 2048
_FIRST_REAL_TIME = 32


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Pending:
    """Signals that wait: of the real-time ones all, of the others one each."""

    def __init__(self) -> None:
        self._waiting: dict[int, deque[Info]] = {}

    def add(self, number: int, info: Info) -> None:
        """Put a signal at the end, with its siginfo, or with what returns it once it is taken."""
        waiting = self._waiting.setdefault(number, deque())
        if not waiting or number >= _FIRST_REAL_TIME:
            waiting.append(info)

    def take(self, number: int) -> bytes | None:
        """Return the siginfo of the first one of a number, which waits no more."""
        waiting = self._waiting.get(number)
        try:
            info = waiting.popleft() if waiting else None
        except IndexError:  # another thread has it
            return None
        return info() if callable(info) else info

    def has(self, number: int, info: Info) -> bool:
        """Whether this very one waits."""
        return any(each is info for each in list(self._waiting.get(number, ())))

    def numbers(self) -> list[int]:
        """Return the numbers of those that wait, ascending."""
        return [number for number, waiting in sorted(self._waiting.items()) if waiting]


class State:
    """What Linux keeps of a thread.

    :ivar clear_tid: where 0 is written when it ends, or 0.
    :ivar robust_list: where what it has locked is listed, or 0.
    :ivar mask: signals that it blocks, bit 0 is number 1.
    :ivar pending: signals that wait for it.
    :ivar stack: its alternate stack, as ``(address, flags, size)``.
    :ivar waits_for: signals that its ``rt_sigtimedwait`` takes, like ``mask``.
    :ivar wait_until: when its ``rt_sigtimedwait`` is over, in ``time.monotonic()``.
    """

    def __init__(self) -> None:
        self.clear_tid = 0
        self.robust_list = 0
        self.mask = 0
        self.pending = Pending()
        self.waits_for = 0
        self.wait_until: float | None = None
        self.stack = (0, 2, 0)
        self.vectors: dict[int, bytes] = {}
        self.old_mask: int | None = None

    def stop_waiting(self) -> None:
        """Be out of ``rt_sigtimedwait``."""
        self.waits_for = 0
        self.wait_until = None


def state_of(thread: Thread) -> State:
    """Return what is kept of a thread."""
    if thread.state is None:
        thread.state = State()
    state: State = thread.state
    return state


class Threads(Process):
    """clone, exit, and what a thread has of its own."""

    last_status = 0

    @does("exit")
    def do_exit(self, thread: Thread, call: Call) -> int:
        from trapline.guest.running import End

        self.last_status = call.raw[0] & 0xFF
        raise End

    @does("set_tid_address")
    def do_set_tid_address(self, thread: Thread, call: Call) -> int:
        state_of(thread).clear_tid = call.raw[0]
        return thread.tid

    @does("set_robust_list")
    def do_set_robust_list(self, thread: Thread, call: Call) -> int:
        head, size = call.raw[:2]
        if size != _ROBUST_LIST:
            raise _error(_EINVAL)
        state_of(thread).robust_list = head
        return 0

    @does("get_robust_list")
    def do_get_robust_list(self, thread: Thread, call: Call) -> int:
        tid, head, size = call.raw[0] & 0xFFFFFFFF, call.raw[1], call.raw[2]
        assert self.guest is not None
        found = [each for each in self.guest.threads if each.tid == tid] if tid else [thread]
        if not found:
            raise _error(_ESRCH)
        call.write(size, _ROBUST_LIST.to_bytes(8, "little"))
        call.write(head, state_of(found[0]).robust_list.to_bytes(8, "little"))
        return 0

    @does("clone")
    def do_clone(self, thread: Thread, call: Call) -> int:
        flags, stack, parent_tid, child_tid, tls = call.raw[:5]
        return self._clone(thread, call, flags & 0xFFFFFFFF, stack, parent_tid, child_tid, tls)

    @does("clone3")
    def do_clone3(self, thread: Thread, call: Call) -> int:
        address, size = call.raw[:2]
        if size > PAGE:
            raise _error(_E2BIG)
        if size < 64:
            raise _error(_EINVAL)
        flags, _, child_tid, parent_tid, signal, stack, stack_size, tls = struct.unpack(
            "<8Q", call.read(address, 64)
        )
        if flags & ~_CLONE3_FLAGS or bool(stack) != bool(stack_size):
            raise _error(_EINVAL)
        if signal and flags & (_CLONE_THREAD | _CLONE_PARENT):
            raise _error(_EINVAL)
        return self._clone(
            thread, call, flags, stack + stack_size if stack else 0, parent_tid, child_tid, tls
        )

    def _clone(
        self, thread: Thread, call: Call, flags: int, stack: int, parent_tid: int, child_tid: int, tls: int
    ) -> int:
        if flags & _CLONE_SIGHAND and not flags & _CLONE_VM:
            raise _error(_EINVAL)
        if flags & _CLONE_THREAD and not flags & _CLONE_SIGHAND:
            raise _error(_EINVAL)
        if not flags & _CLONE_THREAD:
            self.refuse(call.name)
            raise _error(_ENOSYS)
        guest = self.guest
        assert guest is not None
        try:
            child = guest.new_thread()
        except OSError:
            raise _error(_EAGAIN) from None
        child.copy_from(thread)
        registers = child.registers
        registers.rax = 0
        if stack:
            registers.rsp = stack
        if flags & _CLONE_SETTLS:
            child.fs = tls
        state = state_of(child)
        state.mask = state_of(thread).mask
        if flags & _CLONE_CHILD_CLEARTID:
            state.clear_tid = child_tid
        try:
            begin = guest.start_thread(child)
        except OSError:
            guest.forget_thread(child)
            raise _error(_EAGAIN) from None
        tid = child.tid
        word = tid.to_bytes(4, "little")
        try:
            if flags & _CLONE_PARENT_SETTID:
                call.write(parent_tid, word)
            if flags & _CLONE_CHILD_SETTID:
                call.write(child_tid, word)
        finally:
            begin()
        return tid

    def ended(self, thread: Thread) -> None:
        """Tell who waits for the thread."""
        state = state_of(thread)
        if state.robust_list:
            self._leave_locks(state.robust_list, thread.tid)
        address = state.clear_tid
        if address and self.arena.find(address) is not None:
            thread.write_memory(address, bytes(4))
            _native.system_call(_FUTEX, address, _FUTEX_WAKE, 1)

    def _leave_locks(self, head: int, tid: int) -> None:
        """Say of the robust locks that a thread holds that their owner has died, as the kernel does."""
        with self.arena.lock:  # so that nothing is unmapped meanwhile
            try:
                entry, offset, pending = struct.unpack("<QqQ", self._words(head, 3))
                for _ in range(_ROBUST_MAX):
                    if entry & ~1 == head:
                        break
                    following = int.from_bytes(self._words(entry & ~1, 1), "little")
                    if entry != pending:
                        self._leave_lock(entry, offset, tid, False)
                    entry = following
                if pending:
                    self._leave_lock(pending, offset, tid, True)
            except (OSError, struct.error):  # what is in the way of the guest alone
                return

    def _words(self, address: int, count: int) -> bytes:
        return self.arena.read(address, 8 * count) if address in self.arena else b""

    def _leave_lock(self, entry: int, offset: int, tid: int, pending: bool) -> None:
        address, inherits = (entry & ~1) + offset, entry & 1
        area = self.arena.find(address)
        if area is None or not area.protection & PROT_WRITE or address % 4:
            return
        while True:
            word = int.from_bytes(self.arena.read(address, 4), "little")
            if pending and not inherits and not word:
                break  # it was on its way to wake another one
            if word & _FUTEX_TID_MASK != tid:
                return
            if _native.memory_exchange(address, word, word & _FUTEX_WAITERS | _FUTEX_OWNER_DIED):
                if inherits or not word & _FUTEX_WAITERS:
                    return
                break
        _native.system_call(_FUTEX, address, _FUTEX_WAKE, 1)
