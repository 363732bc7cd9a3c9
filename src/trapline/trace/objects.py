"""Calls about memory, time and System V objects as strace writes them."""

from __future__ import annotations

import time

from trapline.decode.memory import address_text, quote, try_read
from trapline.decode.values import signal_text
from trapline.trace.values import timespec_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.trace.strace import StraceLine

    Special = Callable[[StraceLine], tuple[list[str], str]]

__all__ = ["OBJECTS"]

_PAGE = 4096
_MREMAP_FIXED = 2 | 4  # or MREMAP_DONTUNMAP
_NOTIFY = {0: "SIGEV_SIGNAL", 1: "SIGEV_NONE", 2: "SIGEV_THREAD", 4: "SIGEV_THREAD_ID"}
_STATUS = ("STA_PLL", "STA_PPSFREQ", "STA_PPSTIME", "STA_FLL", "STA_INS", "STA_DEL", "STA_UNSYNC", "STA_FREQHOLD",
           "STA_PPSSIGNAL", "STA_PPSJITTER", "STA_PPSWANDER", "STA_PPSERROR", "STA_CLOCKERR", "STA_NANO", "STA_MODE",
           "STA_CLK")  # fmt: skip
_CLOCK_STATES = ("TIME_OK", "TIME_INS", "TIME_DEL", "TIME_OOP", "TIME_WAIT", "TIME_ERROR")
_UTIME_NOW, _UTIME_OMIT = 0x3FFFFFFF, 0x3FFFFFFE
_SEMAPHORE_FLAGS = ((0x1000, "SEM_UNDO"), (0x800, "IPC_NOWAIT"))


def _moment(seconds: int, fraction: str = "") -> str:
    """Write a point in time as people do, in the zone of this machine."""
    local = time.localtime(seconds)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}{fraction}{time.strftime('%z', local)}"


def _mincore(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    pages = -(-line.at("len") // _PAGE)
    data = b"" if line.unwritten else try_read(line.event.read, line.at("vec"), pages)
    if data:
        shown[2] = f"[{', '.join(str(byte & 1) for byte in data)}{', ...' if len(data) < pages else ''}]"
    return shown, ""


def _mremap(line: StraceLine) -> tuple[list[str], str]:
    return line.arguments()[: 5 if line.at("flags") & _MREMAP_FIXED else 4], ""


def _vectors(line: StraceLine) -> tuple[list[str], str]:
    """Write process_vm_readv and process_vm_writev: the other process's memory is not the caller's."""
    shown = line.arguments()
    for name, place in (("lvec", 1), ("rvec", 3)):
        if name == "lvec" and (line.signature.name == "process_vm_writev" or not line.unwritten):
            continue
        count = line.at("riovcnt" if name == "rvec" else "liovcnt")
        data = try_read(line.event.read_before, line.at(name), 16 * count)
        pairs = [
            (int.from_bytes(data[at : at + 8], "little"), int.from_bytes(data[at + 8 : at + 16], "little"))
            for at in range(0, len(data) - 15, 16)
        ]
        found = [f"{{iov_base={address_text(base)}, iov_len={size}}}" for base, size in pairs]
        shown[place] = f"[{', '.join(found)}]" if found else shown[place]
    return shown, ""


def _time(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    result = line.event.result or 0
    if line.unwritten:
        return shown, ""
    if line.at("tloc"):
        shown[0] = f"[{result} /* {_moment(result)} */]"
    return shown, f" ({_moment(result)})"


def _asleep(line: StraceLine) -> tuple[list[str], str]:
    """The rest of the time is written only when a signal has come."""
    shown = line.arguments()
    shown[-1] = address_text(line.at("rmtp"))
    return shown, ""


def _timer(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = try_read(line.event.read, line.at("timer_event_spec"), 20)
    if len(data) >= 20:
        value = int.from_bytes(data[:8], "little")
        number, kind, thread = (int.from_bytes(data[at : at + 4], "little") for at in (8, 12, 16))
        shown[1] = (
            "{"
            + (f"sigev_value={{sival_int={value & 0xFFFFFFFF}, sival_ptr={value:#x}}}, " if value else "")
            + f"sigev_signo={signal_text(number)}, sigev_notify={_NOTIFY.get(kind, hex(kind))}"
            + (f", sigev_notify_thread_id={thread}" if kind == 4 else "")
            + "}"
        )
    made = b"" if line.unwritten else try_read(line.event.read, line.at("created_timer_id"), 4)
    if made:
        shown[2] = f"[{int.from_bytes(made, 'little', signed=True)}]"
    return shown, ""


def _adjust(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    text, at = shown[-1], shown[-1].find("status=")
    if at >= 0:
        end = text.index(",", at)
        bits = int(text[at + 7 : end])
        names = [name for bit, name in enumerate(_STATUS) if bits >> bit & 1]
        shown[-1] = f"{text[: at + 7]}{'|'.join(names) or '0'}{text[end:]}"
    result = line.event.result
    known = result is not None and not line.failed and result < len(_CLOCK_STATES)
    return shown, f" ({_CLOCK_STATES[result or 0]})" if known else ""


def _key(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    key = line.at("key") & 0xFFFFFFFF
    shown[0] = hex(key) if key else "IPC_PRIVATE"
    return shown, ""


def _semaphores(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    count = line.at("nsops")
    data = try_read(line.event.read_before, line.at("tsops"), 6 * count)
    found = []
    for at in range(0, len(data) - 5, 6):
        number, bits = (int.from_bytes(data[at + more : at + more + 2], "little") for more in (0, 4))
        change = int.from_bytes(data[at + 2 : at + 4], "little", signed=True)
        words = [name for bit, name in _SEMAPHORE_FLAGS if bits & bit]
        rest = bits & ~sum(bit for bit, _ in _SEMAPHORE_FLAGS)
        words += [hex(rest)] if rest else []
        found.append(f"{{sem_num={number}, sem_op={change}, sem_flg={'|'.join(words) or '0'}}}")
    if found:
        shown[1] = f"[{', '.join(found)}{', ...' if len(found) < count else ''}]"
    return shown, ""


def _ipc_message(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    sends = line.signature.name == "msgsnd"
    if not sends and line.unwritten:
        return shown, ""
    size = line.at("msgsz") if sends else line.event.result or 0
    data = try_read(line.event.read, line.at("msgp"), 8 + size)
    if len(data) >= 8:
        kind = int.from_bytes(data[:8], "little", signed=True)
        more = "..." if size > line.limit else ""
        shown[1] = f"{{mtype={kind}, mtext={quote(data[8 : 8 + line.limit])}{more}}}"
    return shown, ""


def _utime(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = try_read(line.event.read, line.at("times"), 16)
    if len(data) == 16:
        pair = [int.from_bytes(data[at : at + 8], "little", signed=True) for at in (0, 8)]
        names = zip(("actime", "modtime"), pair, strict=True)
        shown[1] = "{" + ", ".join(f"{name}={value} /* {_moment(value)} */" for name, value in names) + "}"
    return shown, ""


def _two_times(unit: str, digits: int) -> Special:
    def write(line: StraceLine) -> tuple[list[str], str]:
        shown = line.arguments()
        param = line.signature.param("utimes")
        data = try_read(line.event.read, line.at("utimes"), 32)
        if param is None or len(data) < 32:
            return shown, ""
        found = []
        for at in (0, 16):
            seconds, rest = (
                int.from_bytes(data[at + more : at + more + 8], "little", signed=True) for more in (0, 8)
            )
            if digits == 9 and rest in (_UTIME_NOW, _UTIME_OMIT):
                found.append("UTIME_NOW" if rest == _UTIME_NOW else "UTIME_OMIT")
                continue
            fraction = f".{rest:0{digits}d}" if rest else ""
            found.append(f"{timespec_text(data[at : at + 16], unit)} /* {_moment(seconds, fraction)} */")
        shown[param.index] = f"[{', '.join(found)}]"
        return shown, ""

    return write


OBJECTS: dict[str, Special] = {
    "adjtimex": _adjust,
    "clock_adjtime": _adjust,
    "clock_nanosleep": _asleep,
    "futimesat": _two_times("tv_usec", 6),
    "mincore": _mincore,
    "mremap": _mremap,
    "msgget": _key,
    "msgrcv": _ipc_message,
    "msgsnd": _ipc_message,
    "nanosleep": _asleep,
    "process_vm_readv": _vectors,
    "process_vm_writev": _vectors,
    "semget": _key,
    "semop": _semaphores,
    "semtimedop": _semaphores,
    "shmget": _key,
    "time": _time,
    "timer_create": _timer,
    "utime": _utime,
    "utimensat": _two_times("tv_nsec", 9),
    "utimes": _two_times("tv_usec", 6),
}
