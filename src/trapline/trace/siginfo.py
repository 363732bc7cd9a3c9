"""A ``siginfo``: which signal, why, and from where."""

from __future__ import annotations

from trapline.decode.values import signal_text

__all__ = ["siginfo_text"]

_SIGCHLD = 17
_SI_QUEUE, _SI_TIMER, _SI_KERNEL = -1, -2, 0x80
_FAULTS = frozenset({4, 5, 7, 8, 11})
_POLL, _SYS = 29, 31
_CODES = {
    0: "SI_USER", -1: "SI_QUEUE", -2: "SI_TIMER", -3: "SI_MESGQ", -4: "SI_ASYNCIO", -5: "SI_SIGIO", -6: "SI_TKILL",
    0x80: "SI_KERNEL",
}  # fmt: skip
_OWN_CODES = {
    17: ("CLD_EXITED", "CLD_KILLED", "CLD_DUMPED", "CLD_TRAPPED", "CLD_STOPPED", "CLD_CONTINUED"),
    11: ("SEGV_MAPERR", "SEGV_ACCERR", "SEGV_BNDERR", "SEGV_PKUERR"),
    8: ("FPE_INTDIV", "FPE_INTOVF", "FPE_FLTDIV", "FPE_FLTOVF", "FPE_FLTUND", "FPE_FLTRES", "FPE_FLTINV", "FPE_FLTSUB"),
    7: ("BUS_ADRALN", "BUS_ADRERR", "BUS_OBJERR"),
    4: ("ILL_ILLOPC", "ILL_ILLOPN", "ILL_ILLADR", "ILL_ILLTRP", "ILL_PRVOPC", "ILL_PRVREG", "ILL_COPROC", "ILL_BADSTK"),
    5: ("TRAP_BRKPT", "TRAP_TRACE", "TRAP_BRANCH", "TRAP_HWBKPT", "TRAP_UNK"),
    31: ("SYS_SECCOMP", "SYS_USER_DISPATCH"),
    29: ("POLL_IN", "POLL_OUT", "POLL_MSG", "POLL_ERR", "POLL_PRI", "POLL_HUP"),
}  # fmt: skip


def siginfo_text(data: bytes) -> str:
    """Write a siginfo, ``{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=7, ...}``; "" of one cut short."""
    if len(data) < 32:
        return ""
    number, errno, code = (_signed(data, at) for at in (0, 4, 8))
    if not number:
        return "{}"
    shown = [f"si_signo={signal_text(number)}", f"si_code={_code(number, code)}"]
    if errno:
        from trapline.decode.values import errno_text

        shown.append(f"si_errno={errno_text(errno).split(' ')[0]}")
    pid, uid = (int.from_bytes(data[at : at + 4], "little") for at in (16, 20))
    if number == _SIGCHLD and code > 0:
        status = _signed(data, 24)
        shown += [f"si_pid={pid}", f"si_uid={uid}"]
        shown.append(f"si_status={status if code == 1 else signal_text(status)}")
        times = [int.from_bytes(data[at : at + 8], "little") for at in (32, 40)]
        shown += [f"si_utime={times[0]}", f"si_stime={times[1]}"]
    elif number in _FAULTS and 0 < code < _SI_KERNEL:
        address = int.from_bytes(data[16:24], "little")
        shown.append(f"si_addr={hex(address) if address else 'NULL'}")
    elif number == _SYS and code > 0:
        from trapline import abi

        address = int.from_bytes(data[16:24], "little")
        call = abi.name(_signed(data, 24), "x86_64")
        shown += [f"si_call_addr={address:#x}", f"si_syscall=__NR_{call}", "si_arch=AUDIT_ARCH_X86_64"]
    elif number == _POLL and 0 < code < _SI_KERNEL:
        shown += [
            f"si_band={int.from_bytes(data[16:24], 'little', signed=True)}",
            f"si_fd={_signed(data, 24)}",
        ]
    elif code == _SI_TIMER:
        shown += [f"si_timerid={pid:#x}" if pid else "si_timerid=0", f"si_overrun={uid}", *_value(data)]
    elif code <= 0:
        shown += [f"si_pid={pid}", f"si_uid={uid}", *(_value(data) if code == _SI_QUEUE else [])]
    return f"{{{', '.join(shown)}}}"


def _signed(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little", signed=True)


def _value(data: bytes) -> list[str]:
    pointer = int.from_bytes(data[24:32], "little")
    return [f"si_int={_signed(data, 24)}", f"si_ptr={hex(pointer) if pointer else 'NULL'}"] if pointer else []


def _code(number: int, code: int) -> str:
    own = _OWN_CODES.get(number, ())
    if 0 < code <= len(own):
        return own[code - 1]
    return _CODES.get(code, str(code))
