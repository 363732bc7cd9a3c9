"""Signals of a Linux guest: to itself, and for its own faults. This process's signals are none of its business."""

from __future__ import annotations

import os
import struct
from math import ceil
from time import monotonic

from trapline import abi
from trapline.guest.linux.threads import Pending, state_of
from trapline.guest.personality import Personality, does
from trapline.guest.registers import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.call import Call
    from trapline.guest.guest import Guest
    from trapline.guest.linux.threads import Info
    from trapline.guest.thread import Thread

__all__ = ["Signals", "siginfo"]

_EPERM, _ESRCH, _EAGAIN, _ENOMEM, _EINVAL, _ENOSYS = 1, 3, 11, 12, 22, 38
_SIGKILL, _SIGSEGV, _SIGPIPE, _SIGSTOP = 9, 11, 13, 19
_SEGV_MAPERR, _SEGV_ACCERR = 1, 2
_IGNORED = frozenset({17, 18, 23, 28})  # SIGCHLD, SIGCONT, SIGURG, SIGWINCH
_STOPPING = frozenset({19, 20, 21, 22})
_UNBLOCKABLE = 1 << (_SIGKILL - 1) | 1 << (_SIGSTOP - 1)
_SA_NODEFER, _SA_RESETHAND, _SA_ONSTACK, _SA_RESTART = 0x40000000, 0x80000000, 0x08000000, 0x10000000
#: The flags that the kernel knows; it forgets the others.
_SA_KNOWN = 0xDC000807
_SS_ONSTACK, _SS_DISABLE, _SS_AUTODISARM, _MINSIGSTKSZ = 1, 2, 1 << 31, 2048
_SI_USER, _SI_TKILL, _SI_KERNEL = 0, -6, 0x80
_RED_ZONE = 128
_FRAME = 8 + 304 + 128
_CLEARED_FLAGS = 0x100 | 0x400 | 0x10000  # TF, DF, RF
_SEGMENTS = 0x002B000000000033  # cs and ss of 64-bit code
_POLL, _PAUSE, _KILL, _PSELECT6 = 7, 34, 62, 270
_INT_MAX, _MASK = (1 << 31) - 1, (1 << 64) - 1
#: Calls that a handler ends with EINTR, whatever SA_RESTART says: poll, select, pause, nanosleep, epoll_wait and
#: others.
_NOT_RESTARTED = frozenset({7, 23, 34, 35, 127, 128, 130, 230, 232, 270, 271, 281, 441})


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def _int(value: int) -> int:
    value &= 0xFFFFFFFF
    return value - (value >> 31 << 32)


def _bit(number: int) -> int:
    return 1 << (number - 1)


def siginfo(number: int, code: int, *words: int) -> bytes:
    """Return a ``siginfo_t`` whose fields begin with *words* of 64 bits."""
    return struct.pack("<IiiiQQ", number, 0, code, 0, *words, *[0] * (2 - len(words))).ljust(128, b"\0")


def _sent(number: int, code: int) -> bytes:
    return siginfo(number, code, os.getpid() | os.getuid() << 32)


class Signals(Personality):
    """sigaction, kill and their kin."""

    def begin(self, guest: Guest) -> None:
        """Belong to a guest."""
        super().begin(guest)
        self._actions: dict[int, tuple[int, int, int, int]] = {}
        self._shared = Pending()

    # -- sending -------------------------------------------------------------------------------------------------------

    def post(self, thread: Thread | None, number: int, info: Info) -> None:
        """Send a signal to a thread, or to the guest at large."""
        assert self.guest is not None
        threads = self.guest.threads if thread is None else [thread]
        if self._is_ignored(number) and not all(state_of(each).mask & _bit(number) for each in threads):
            return
        (self._shared if thread is None else state_of(thread).pending).add(number, info)
        self._wake(threads, number)

    def _is_ignored(self, number: int) -> bool:
        handler = self._actions.get(number, (0, 0, 0, 0))[0]
        return handler == 1 or (handler == 0 and number in _IGNORED | _STOPPING and number != _SIGKILL)

    @staticmethod
    def _wake(threads: list[Thread], number: int) -> None:
        """Have one of them take a signal; a kick ends what the thread waits for, so that it is not for all."""
        for each in threads:
            state = state_of(each)
            if number == _SIGKILL or not state.mask & _bit(number) or state.waits_for & _bit(number):
                each.kick()
                return

    @does("kill")
    def do_kill(self, thread: Thread, call: Call) -> int | None:
        pid, number = _int(call.raw[0]), call.raw[1] & 0xFFFFFFFF
        # Its group is this process's, which is not all the guest's.
        if pid in (0, os.getpid(), -os.getpgrp()):
            return self._kill(None, number, _sent(number, _SI_USER))
        if pid == -1:
            raise _error(_EPERM)
        return thread.perform(_KILL, *call.raw[:2])

    @does("tgkill")
    def do_tgkill(self, thread: Thread, call: Call) -> int | None:
        return self._kill_thread(thread, call, 1, None)

    @does("tkill")
    def do_tkill(self, thread: Thread, call: Call) -> int | None:
        return self._kill_thread(thread, call, 0, None)

    @does("rt_sigqueueinfo")
    def do_sigqueueinfo(self, thread: Thread, call: Call) -> int | None:
        if _int(call.raw[0]) != os.getpid():
            return thread.perform(call.nr, *call.raw)
        number = call.raw[1] & 0xFFFFFFFF
        return self._kill(None, number, struct.pack("<I", number) + call.read(call.raw[2], 128)[4:])

    @does("rt_tgsigqueueinfo")
    def do_tgsigqueueinfo(self, thread: Thread, call: Call) -> int | None:
        return self._kill_thread(thread, call, 1, call.read(call.raw[3], 128)[4:])

    def _kill(self, target: Thread | None, number: int, info: bytes) -> int:
        if number > 64:
            raise _error(_EINVAL)
        if number:
            self.post(target, number, info)
        return 0

    def _kill_thread(self, thread: Thread, call: Call, at: int, info: bytes | None) -> int | None:
        """Send a signal to the thread whose id is argument *at*, behind that of its process if any."""
        assert self.guest is not None
        pid, tid, number = _int(call.raw[0]), _int(call.raw[at]), call.raw[at + 1] & 0xFFFFFFFF
        if pid <= 0 or tid <= 0:
            raise _error(_EINVAL)
        target = next((each for each in self.guest.threads if each.tid == tid), None)
        if target is None and tid == os.getpid():
            target = self.guest.main
        if target is None or (at and pid != os.getpid()):
            # A thread of this process that is not the guest's is none, for the guest.
            if pid == os.getpid() or os.path.exists(f"/proc/self/task/{tid}"):
                raise _error(_ESRCH)
            return thread.perform(call.nr, *call.raw)
        data = _sent(number, _SI_TKILL) if info is None else struct.pack("<I", number) + info
        return self._kill(target, number, data)

    # -- actions and masks ---------------------------------------------------------------------------------------------

    @does("rt_sigaction")
    def do_sigaction(self, thread: Thread, call: Call) -> int:
        number, new, old, size = call.raw[:4]
        number &= 0xFFFFFFFF
        if size != 8 or not 1 <= number <= 64:
            raise _error(_EINVAL)
        wanted = struct.unpack("<4Q", call.read(new, 32)) if new else None
        if wanted is not None and number in (_SIGKILL, _SIGSTOP):
            raise _error(_EINVAL)
        if old:
            call.write(old, struct.pack("<4Q", *self._actions.get(number, (0, 0, 0, 0))))
        if wanted is not None:
            handler, flags, restorer, mask = wanted
            self._actions[number] = (handler, flags & _SA_KNOWN, restorer, mask & ~_UNBLOCKABLE)
            if self._is_ignored(number):
                self._discard(number)
        return 0

    def _discard(self, number: int) -> None:
        """Forget those that wait of a signal that is ignored from now on."""
        assert self.guest is not None
        for pending in (self._shared, *[state_of(each).pending for each in self.guest.threads]):
            while pending.take(number) is not None:
                pass

    @does("rt_sigprocmask")
    def do_sigprocmask(self, thread: Thread, call: Call) -> int:
        how, new, old, size = call.raw[:4]
        if size != 8:
            raise _error(_EINVAL)
        state = state_of(thread)
        before = state.mask
        if new:
            given = int.from_bytes(call.read(new, 8), "little") & ~_UNBLOCKABLE
            how &= 0xFFFFFFFF
            if how > 2:
                raise _error(_EINVAL)
            state.mask = (before | given, before & ~given, given)[how]
        if old:
            call.write(old, before.to_bytes(8, "little"))
        self._look(thread)
        return 0

    def _look(self, thread: Thread) -> None:
        """Deliver before it goes on what its mask lets through by now, and leave the rest to others."""
        assert self.guest is not None
        state = state_of(thread)
        for number in self._shared.numbers():
            if state.mask & _bit(number):
                self._wake(self.guest.threads, number)
        if any(
            not state.mask & _bit(number) for number in (*state.pending.numbers(), *self._shared.numbers())
        ):
            thread.kick()

    @does("rt_sigpending")
    def do_sigpending(self, thread: Thread, call: Call) -> int:
        if call.raw[1] > 8:
            raise _error(_EINVAL)
        pending = sum(
            _bit(number) for number in {*state_of(thread).pending.numbers(), *self._shared.numbers()}
        )
        call.write(call.raw[0], pending.to_bytes(8, "little")[: call.raw[1]])
        return 0

    @does("sigaltstack")
    def do_sigaltstack(self, thread: Thread, call: Call) -> int:
        new, old = call.raw[:2]
        state = state_of(thread)
        wanted = struct.unpack("<QIiQ", call.read(new, 24)) if new else None
        on_stack = self._is_on(state.stack, thread.registers.rsp)
        if old:
            address, flags, size = state.stack
            call.write(old, struct.pack("<QIiQ", address, flags | (_SS_ONSTACK if on_stack else 0), 0, size))
        if wanted is not None:
            address, flags, _, size = wanted
            if on_stack:
                raise _error(_EPERM)
            how, disarms = flags & ~_SS_AUTODISARM, flags & _SS_AUTODISARM
            if how not in (0, _SS_ONSTACK, _SS_DISABLE):
                raise _error(_EINVAL)
            if how == _SS_DISABLE:
                state.stack = (0, flags, 0)
            elif size < _MINSIGSTKSZ:
                raise _error(_ENOMEM)
            else:
                state.stack = (address, disarms, size)
        return 0

    @staticmethod
    def _is_on(stack: tuple[int, int, int], rsp: int) -> bool:
        address, flags, size = stack
        return not flags & (_SS_DISABLE | _SS_AUTODISARM) and address < rsp <= address + size

    # -- waiting with another mask -------------------------------------------------------------------------------------

    def _with_mask(self, thread: Thread, mask: int | None, *words: int) -> int | None:
        state = state_of(thread)
        if mask is not None and state.old_mask is None:
            state.old_mask = state.mask
            state.mask = mask & ~_UNBLOCKABLE
            self._look(thread)
        result = thread.perform(*words)
        if mask is not None and result is not None and state.old_mask is not None:
            state.mask, state.old_mask = state.old_mask, None
        return result

    @staticmethod
    def _mask(call: Call, address: int, size: int) -> int:
        if size != 8:
            raise _error(_EINVAL)
        return int.from_bytes(call.read(address, 8), "little")

    @does("rt_sigsuspend")
    def do_sigsuspend(self, thread: Thread, call: Call) -> int | None:
        return self._with_mask(thread, self._mask(call, *call.raw[:2]), _PAUSE)

    @does("pause")
    def do_pause(self, thread: Thread, call: Call) -> int | None:
        return thread.perform(_PAUSE)

    @does("ppoll", "epoll_pwait", "epoll_pwait2")
    def do_poll(self, thread: Thread, call: Call) -> int | None:
        words = list(call.raw)
        at = 3 if call.name == "ppoll" else 4
        mask = self._mask(call, *words[at : at + 2]) if words[at] else None
        words[at] = 0
        return self._with_mask(thread, mask, abi.number(call.name, "x86_64"), *words)

    @does("pselect6")
    def do_pselect6(self, thread: Thread, call: Call) -> int | None:
        words = list(call.raw)
        mask = None
        if words[5]:
            address, size = struct.unpack("<2Q", call.read(words[5], 16))
            mask = self._mask(call, address, size) if address else None
        words[5] = 0
        return self._with_mask(thread, mask, _PSELECT6, *words)

    @does("rt_sigtimedwait")
    def do_sigtimedwait(self, thread: Thread, call: Call) -> int | None:
        address, info, timeout = call.raw[:3]
        wanted = self._mask(call, address, call.raw[3])
        state = state_of(thread)
        state.waits_for = wanted
        for pending in (state.pending, self._shared):
            for number in pending.numbers():
                data = pending.take(number) if wanted & _bit(number) else None
                if data is not None:
                    state.stop_waiting()
                    if info:
                        call.write(info, data)
                    return number
        if timeout and state.wait_until is None:
            seconds, nanoseconds = struct.unpack("<2q", call.read(timeout, 16))
            if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
                raise _error(_EINVAL)
            state.wait_until = monotonic() + seconds + nanoseconds / 1e9
        left = -1
        if state.wait_until is not None:
            left = min(max(ceil((state.wait_until - monotonic()) * 1000), 0), _INT_MAX)
        result = thread.perform(_POLL, 0, 0, left & _MASK)
        if result is None:
            return None
        state.stop_waiting()
        return -_EAGAIN if result == 0 else result

    # -- delivering ----------------------------------------------------------------------------------------------------

    def kicked(self, thread: Thread) -> None:
        """Deliver what has arrived."""
        state = state_of(thread)
        if thread.piped:
            thread.piped = False
            state.pending.add(_SIGPIPE, _sent(_SIGPIPE, _SI_USER))
        for pending in (state.pending, self._shared):
            for number in pending.numbers():
                while number == _SIGKILL or not state.mask & _bit(number):
                    info = pending.take(number)
                    if info is None:
                        break
                    self._act(thread, number, info)

    def faulted(self, thread: Thread) -> bool:
        """Give a fault to the guest's own handler, if it has one."""
        number, code, address, trap, error = thread.fault()
        handler = self._actions.get(number, (0, 0, 0, 0))[0]
        if handler <= 1 or state_of(thread).mask & _bit(number):
            return False
        if (number, code) == (_SIGSEGV, _SEGV_ACCERR) and address in self.arena:
            # What is reserved and not mapped is not there, for the guest.
            code = _SEGV_ACCERR if self.arena.find(address) is not None else _SEGV_MAPERR
        return self._deliver(thread, number, siginfo(number, code, address), trap, error, address)

    def _act(self, thread: Thread, number: int, info: bytes) -> None:
        if self._is_ignored(number):
            return
        if self._actions.get(number, (0, 0, 0, 0))[0] == 0 or not self._deliver(thread, number, info):
            from trapline.guest.running import End

            assert self.guest is not None
            self.guest.end(-number)
            raise End

    def _deliver(
        self, thread: Thread, number: int, info: bytes, trap: int = 0, error: int = 0, cr2: int = 0
    ) -> bool:
        """Have the thread go on in its handler; False: there is no room for the frame."""
        handler, flags, restorer, mask = self._actions[number]
        state = state_of(thread)
        registers = thread.registers
        if thread.interrupted:
            if thread.begun and (not flags & _SA_RESTART or thread.nr in _NOT_RESTARTED):
                thread.interrupt()
            thread.interrupted = False
            state.stop_waiting()
        sp = registers.rsp
        address, stack_flags, size = state.stack
        if flags & _SA_ONSTACK and not stack_flags & _SS_DISABLE and not self._is_on(state.stack, sp):
            sp = address + size
        else:
            sp -= _RED_ZONE
        frame = ((sp - _FRAME) & -16) - 8
        saved = state.mask if state.old_mask is None else state.old_mask
        state.old_mask = None
        context = struct.pack("<QQQIiQ", 6, 0, address, stack_flags, 0, size)
        context += struct.pack("<18Q", *[getattr(registers, name) for name in NAMES])
        context += (
            struct.pack("<6Q", _SEGMENTS, error, trap, saved, cr2, 0)
            + bytes(64)
            + saved.to_bytes(8, "little")
        )
        if not thread.write_memory(frame, restorer.to_bytes(8, "little") + context + info):
            return False
        if stack_flags & _SS_AUTODISARM:
            state.stack = (0, _SS_DISABLE, 0)
        state.vectors[frame] = thread.vectors()
        registers.rdi, registers.rsi, registers.rdx = number, frame + 8 + 304, frame + 8
        registers.rax, registers.rip, registers.rsp = 0, handler, frame
        registers.eflags &= ~_CLEARED_FLAGS
        state.mask |= (mask if flags & _SA_NODEFER else mask | _bit(number)) & ~_UNBLOCKABLE
        if flags & _SA_RESETHAND:
            self._actions[number] = (0, flags, restorer, mask)
        return True

    @does("rt_sigreturn")
    def do_sigreturn(self, thread: Thread, call: Call) -> None:
        frame = thread.registers.rsp - 8
        context = call.read(frame + 8, 304)
        state = state_of(thread)
        registers = thread.registers
        for name, value in zip(NAMES, struct.unpack_from("<18Q", context, 40), strict=True):
            setattr(registers, name, value)
        registers.eflags = (registers.eflags & 0x50DD5) | 0x202
        state.mask = int.from_bytes(context[296:], "little") & ~_UNBLOCKABLE
        address, flags, _, size = struct.unpack_from("<QIiQ", context, 16)
        state.stack = (address, flags & (_SS_DISABLE | _SS_AUTODISARM), size)
        vectors = state.vectors.pop(frame, None)
        if vectors is not None:
            thread.set_vectors(vectors)
        self._look(thread)
