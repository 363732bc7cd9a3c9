"""What a Linux guest has of a process besides memory, threads and signals."""

from __future__ import annotations

import os

from trapline.guest.personality import Personality, does

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.call import Call
    from trapline.guest.loader import Program
    from trapline.guest.thread import Thread

__all__ = ["Process"]

_EPERM, _ENOEXEC, _EACCES, _EINVAL, _ENOSYS = 1, 8, 13, 22, 38
_WORDS_MAX, _INT_MAX = 1 << 20, (1 << 31) - 1
_ARCH_SET_GS, _ARCH_SET_FS, _ARCH_GET_FS, _ARCH_GET_GS = 0x1001, 0x1002, 0x1003, 0x1004
_ARCH_GETTERS = frozenset({0x1011, 0x1021, 0x1022})  # ARCH_GET_CPUID, _XCOMP_SUPP, _XCOMP_PERM
_ARCH_PRCTL = 158
_PRCTL, _READLINK, _READLINKAT = 157, 89, 267
#: Those of a thread, or of its memory: PR_SET_NAME, PR_SET_TIMERSLACK, PR_SET_VMA.
_PR_OF_THREAD = frozenset({15, 29, 0x53564D41})
_PR_GET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 21, 38
#: What a guest may set for itself alone: who tells it, and its highest value. PR_SET_PDEATHSIG, _DUMPABLE, _KEEPCAPS,
#: _CHILD_SUBREAPER, _NO_NEW_PRIVS.
_PR_OWN = {1: (2, 64), 4: (3, 1), 8: (7, 1), 36: (37, (1 << 31) - 1), _PR_SET_NO_NEW_PRIVS: (39, 1)}
_PR_BY_POINTER = frozenset({2, 37})
#: Of prctl, what says something and changes nothing of this process: dumpable, keepcaps, timing, tsc, securebits,
#: timerslack, no_new_privs, THP, and so on.
_PR_GETTERS = frozenset({2, 3, 5, 7, 9, 11, 16, 19, 21, 23, 25, 27, 30, 34, 37, 39, 40, 42, 47, 52})
_CANONICAL = 1 << 47


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


class Process(Personality):
    """exit, execve, prctl and their kin.

    :ivar execve: ``"refuse"`` or ``"run"``.
    :ivar refused: how often the guest was refused another process, by name of the call.
    :ivar on_refused: called with the name when that happens.
    """

    execve = "refuse"
    on_refused: Callable[[str], None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.refused: dict[str, int] = {}
        self._executable = b""
        # By the option of prctl that tells it. A filter that catches calls is not the guest's.
        self._settings = {_PR_GET_SECCOMP: 0}

    def refuse(self, name: str) -> None:
        """Take notice that the guest is refused another process."""
        self.refused[name] = self.refused.get(name, 0) + 1
        if self.on_refused is not None:
            self.on_refused(name)

    @does("exit_group")
    def do_exit_group(self, thread: Thread, call: Call) -> int:
        assert self.guest is not None
        self.guest.exit(call.raw[0])

    def loaded(self, program: Program) -> None:
        """Be the program, for who looks at ``/proc/self/exe``: a dynamic linker does, for ``$ORIGIN``."""
        super().loaded(program)
        self._executable = os.fsencode(os.path.realpath(program.path))

    @does("readlink")
    def do_readlink(self, thread: Thread, call: Call) -> int | None:
        path, buffer, size = call.raw[:3]
        return self._readlink(thread, call, _READLINK, path, buffer, size)

    @does("readlinkat")
    def do_readlinkat(self, thread: Thread, call: Call) -> int | None:
        path, buffer, size = call.raw[1:4]
        return self._readlink(thread, call, _READLINKAT, path, buffer, size)

    def _readlink(
        self, thread: Thread, call: Call, number: int, path: int, buffer: int, size: int
    ) -> int | None:
        size &= 0xFFFFFFFF
        if not self._executable or not 0 < size <= _INT_MAX or not self._is_own_exe(call.read_str(path)):
            return thread.perform(number, *call.raw)
        data = self._executable[:size]
        call.write(buffer, data)
        return len(data)

    @staticmethod
    def _is_own_exe(path: str) -> bool:
        return path in ("/proc/self/exe", "/proc/thread-self/exe", f"/proc/{os.getpid()}/exe")

    @does("arch_prctl")
    def do_arch_prctl(self, thread: Thread, call: Call) -> int | None:
        code, address = call.raw[0] & 0xFFFFFFFF, call.raw[1]
        if code == _ARCH_SET_FS:
            if address >= _CANONICAL:
                raise _error(_EPERM)
            thread.fs = address
            return 0
        if code == _ARCH_GET_FS:
            call.write(address, thread.fs.to_bytes(8, "little"))
            return 0
        if code in (_ARCH_SET_GS, _ARCH_GET_GS):
            # This process has no use for gs, so it is the guest's own.
            return thread.perform(_ARCH_PRCTL, code, address)
        if code in _ARCH_GETTERS:
            return thread.perform(_ARCH_PRCTL, code, address)
        raise _error(_EINVAL)

    @does("prctl")
    def do_prctl(self, thread: Thread, call: Call) -> int | None:
        option, value = call.raw[0] & 0xFFFFFFFF, call.raw[1]
        if option in _PR_OWN:
            highest = _PR_OWN[option][1]
            if value > highest or (option == _PR_SET_NO_NEW_PRIVS and value != 1):
                raise _error(_EINVAL)
            self._settings[_PR_OWN[option][0]] = value
            return 0
        if option in self._settings:
            if option not in _PR_BY_POINTER:
                return self._settings[option]
            call.write(value, self._settings[option].to_bytes(4, "little"))
            return 0
        if option in _PR_GETTERS or option in _PR_OF_THREAD:
            return thread.perform(_PRCTL, *call.raw)
        raise _error(_EINVAL)

    @does("fork", "vfork")
    def do_fork(self, thread: Thread, call: Call) -> int:
        """Refuse another process: this one has Python in it, which cannot be had twice."""
        self.refuse(call.name)
        raise _error(_ENOSYS)

    @does("execve", "execveat")
    def do_execve(self, thread: Thread, call: Call) -> int:
        """Refuse another program in place of this process, or have it run as a command in place of the guest."""
        if self.execve != "run":
            self.refuse(call.name)
            raise _error(_EPERM)
        at = call.name == "execveat"
        path = call.path if at else call.read_str(call.raw[0])
        if path is None:
            raise _error(_ENOSYS)  # of a descriptor alone
        if self._executable and self._is_own_exe(path):
            path = os.fsdecode(self._executable)
        words = _strings(call, call.raw[1 + at]) or [path]
        environment = dict([word.split("=", 1) for word in _strings(call, call.raw[2 + at]) if "=" in word])
        check_executable(path)
        assert self.guest is not None
        self.guest.execute(path, words, environment)

    @does("rseq", "signalfd", "signalfd4")
    def do_lack(self, thread: Thread, call: Call) -> int:
        """Say that this kernel has no such call: what would come of it is this process's, not the guest's."""
        raise _error(_ENOSYS)

    @does("seccomp", "ptrace", "unshare", "setns", "personality", "setuid", "setgid", "setreuid", "setregid",
          "setresuid", "setresgid", "setgroups", "setfsuid", "setfsgid", "capset", "chroot", "pivot_root", "setsid",
          "setpgid")  # fmt: skip
    def do_refuse(self, thread: Thread, call: Call) -> int:
        """Refuse what would change this process."""
        if call.name == "personality" and call.raw[0] & 0xFFFFFFFF == 0xFFFFFFFF:
            return 0
        raise _error(_EPERM)


def _strings(call: Call, address: int) -> list[str]:
    """Read an array of pointers to strings, whose end is a null pointer."""
    found: list[str] = []
    while address and len(found) < _WORDS_MAX:
        pointer = int.from_bytes(call.read(address + 8 * len(found), 8), "little")
        if not pointer:
            break
        found.append(call.read_str(pointer))
    return found


def check_executable(path: str) -> None:
    """Raise what ``execve`` gives for a file that is not there, may not be executed, or is no program."""
    with open(path, "rb") as file:
        head = file.read(4)
    if os.path.isdir(path) or not os.access(path, os.X_OK):
        raise _error(_EACCES)
    if not head.startswith((b"#!", b"\x7fELF")):
        raise _error(_ENOEXEC)
