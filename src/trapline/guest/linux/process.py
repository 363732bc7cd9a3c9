"""What a Linux guest has of a process besides memory, threads and signals."""

from __future__ import annotations

import os

from trapline.guest.personality import Personality, does

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.call import Call
    from trapline.guest.thread import Thread

__all__ = ["Process"]

_EPERM, _EINVAL, _ENOSYS = 1, 22, 38
_ARCH_SET_GS, _ARCH_SET_FS, _ARCH_GET_FS, _ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
_ARCH_PRCTL = 158
_PRCTL = 157
_PR_SET_NAME, _PR_GET_NAME, _PR_SET_VMA = 15, 16, 0x53564D41
#: Of prctl, what says something and changes nothing of this process: dumpable, keepcaps, timing, tsc, securebits,
#: timerslack, no_new_privs, THP, and so on.
_PR_GETTERS = frozenset({2, 3, 5, 7, 9, 11, 16, 19, 21, 23, 25, 27, 30, 34, 37, 39, 40, 42, 47, 52})
_CANONICAL = 1 << 47


class Process(Personality):
    """exit, prctl and their kin."""

    @does("exit_group")
    def do_exit_group(self, thread: Thread, call: Call) -> int:
        assert self.guest is not None
        self.guest.exit(call.raw[0])

    @does("arch_prctl")
    def do_arch_prctl(self, thread: Thread, call: Call) -> int | None:
        code, address = call.raw[0] & 0xFFFFFFFF, call.raw[1]
        if code == _ARCH_SET_FS:
            if address >= _CANONICAL:
                raise OSError(_EPERM, os.strerror(_EPERM))
            thread.fs = address
            return 0
        if code == _ARCH_GET_FS:
            call.write(address, thread.fs.to_bytes(8, "little"))
            return 0
        if code in (_ARCH_SET_GS, _ARCH_GET_GS):
            # This process has no use for gs, so it is the guest's own.
            return thread.perform(_ARCH_PRCTL, code, address)
        raise OSError(_EINVAL, os.strerror(_EINVAL))

    @does("prctl")
    def do_prctl(self, thread: Thread, call: Call) -> int | None:
        option = call.raw[0] & 0xFFFFFFFF
        if option in _PR_GETTERS or option in (_PR_SET_NAME, _PR_SET_VMA):
            return thread.perform(_PRCTL, *call.raw)
        raise OSError(_EINVAL, os.strerror(_EINVAL))

    @does("seccomp", "ptrace", "unshare", "setns", "rseq", "execve", "execveat", "fork", "vfork", "personality",
          "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid",
          "capset", "chroot", "pivot_root", "setsid", "setpgid")  # fmt: skip
    def do_refuse(self, thread: Thread, call: Call) -> int:
        """Refuse what would change this process, or replace it."""
        number = _ENOSYS if call.name in ("rseq", "fork", "vfork", "execve", "execveat") else _EPERM
        if call.name == "personality" and call.raw[0] & 0xFFFFFFFF == 0xFFFFFFFF:
            return 0
        raise OSError(number, os.strerror(number))
