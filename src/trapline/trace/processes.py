"""Calls about processes as strace writes them: waiting, scheduling, capabilities and their like."""

from __future__ import annotations

from trapline.abi import flags
from trapline.decode.memory import address_text, try_read
from trapline.decode.values import flags_text, signal_text
from trapline.trace.kernel import bits_text
from trapline.trace.prctl import capability, prctl
from trapline.trace.siginfo import siginfo_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.trace.strace import StraceLine

    Special = Callable[[StraceLine], tuple[list[str], str]]

__all__ = ["PROCESSES"]

_CAPABILITY_VERSIONS = {0x19980330: 1, 0x20071026: 2, 0x20080522: 3}
_IOPRIO = ("NONE", "RT", "BE", "IDLE")
_BATCH_WITH_UTIL = 56
_SCHED_FLAGS = ("RESET_ON_FORK", "RECLAIM", "DL_OVERRUN", "KEEP_POLICY", "KEEP_PARAMS", "UTIL_CLAMP_MIN",
                "UTIL_CLAMP_MAX")  # fmt: skip
_GET_FS, _GET_GS = 0x1003, 0x1004
_SECCOMP_FILTER, _SECCOMP_AVAILABLE = 1, 2
_ADDRESS_QUERY = 0xFFFFFFFF
#: Of syslog: those that have a buffer, and the one that has a number.
_SYSLOG_READS, _SYSLOG_LEVEL = (2, 3, 4), 8


def _capability_set(bits: int) -> str:
    return "|".join(f"1<<{capability(bit)}" for bit in range(bits.bit_length()) if bits >> bit & 1) or "0"


def _capabilities(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    name = "dataptr" if line.signature.name == "capget" else "data"
    header = try_read(line.event.read, line.at("header"), 8)
    if len(header) < 8:
        return shown, ""
    version, pid = int.from_bytes(header[:4], "little"), int.from_bytes(header[4:], "little", signed=True)
    known = _CAPABILITY_VERSIONS.get(version)
    shown[0] = f"{{version={f'_LINUX_CAPABILITY_VERSION_{known}' if known else hex(version)}, pid={pid}}}"
    data = try_read(line.event.read, line.at(name), 12 if known == 1 else 24)
    if data and not (line.unwritten and name == "dataptr"):
        words = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) - 3, 4)]
        sets = zip(("effective", "permitted", "inheritable"), words, (words[3:] or [0] * 3), strict=False)
        shown[1] = (
            "{" + ", ".join(f"{one}={_capability_set(low | high << 32)}" for one, low, high in sets) + "}"
        )
    return shown, ""


def _wait4(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    shown[2] = shown[2].replace("WUNTRACED", "WSTOPPED")
    if line.event.result == 0:
        shown[1] = address_text(line.at("stat_addr"))
        shown[3] = address_text(line.at("ru"))
    return shown, ""


def _with_siginfo(name: str) -> Special:
    def write(line: StraceLine) -> tuple[list[str], str]:
        shown = line.arguments()
        param = line.signature.param(name)
        assert param is not None
        if param.pointer == "in" or not line.unwritten:
            text = siginfo_text(try_read(line.event.read, line.at(name), 128))
            shown[param.index] = text or shown[param.index]
        waited = line.signature.name == "rt_sigtimedwait" and not line.unwritten
        return shown, f" ({signal_text(line.event.result or 0)})" if waited else ""

    return write


def _policy(text: str) -> str:
    return text.replace("SCHED_NORMAL", "SCHED_OTHER")


def _scheduler(line: StraceLine) -> tuple[list[str], str]:
    shown = [_policy(text) for text in line.arguments()]
    if "param" in line.values and (line.signature.name != "sched_getparam" or not line.unwritten):
        data = try_read(line.event.read, line.at("param"), 4)
        shown[-1] = f"[{int.from_bytes(data, 'little', signed=True)}]" if data else shown[-1]
    asked = line.signature.name == "sched_getscheduler" and not line.unwritten
    return shown, f" ({_policy(flags_text('sched', line.event.result or 0))})" if asked else ""


def _attributes(line: StraceLine) -> tuple[list[str], str]:
    """Only as many members of sched_attr as its size says."""
    shown = [_policy(text) for text in line.arguments()]
    data = try_read(line.event.read, line.at("uattr"), 16)
    bits = int.from_bytes(data[8:16], "little")
    if bits:
        shown[1] = shown[1].replace(
            f"sched_flags={bits},", f"sched_flags={bits_text(bits, _SCHED_FLAGS, 'SCHED_FLAG_')},"
        )
    data = data[:4]
    if data and int.from_bytes(data, "little") < _BATCH_WITH_UTIL and ", sched_util_min" in shown[1]:
        shown[1] = shown[1][: shown[1].index(", sched_util_min")] + "}"
    return shown, ""


def _numbers_behind(names: tuple[str, ...], size: int) -> Special:
    """What the kernel has written behind some arguments is a number: ``[1000]``."""

    def write(line: StraceLine) -> tuple[list[str], str]:
        shown = line.arguments()
        for param in line.signature.params:
            if param.name not in names or line.unwritten:
                continue
            data = try_read(line.event.read, line.at(param.name), size)
            if len(data) == size:
                number = int.from_bytes(data, "little")
                shown[param.index] = (
                    f"[{number if size == 4 or param.name == 'len_ptr' else address_text(number)}]"
                )
        return shown, ""

    return write


def _groups(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    sets = line.signature.name == "setgroups"
    count = line.at("gidsetsize") if sets else line.event.result or 0
    if line.at("grouplist") and line.at("gidsetsize") and (sets or not line.unwritten):
        data = try_read(line.event.read, line.at("grouplist"), 4 * count)
        if data or not count:
            found = [str(int.from_bytes(data[at : at + 4], "little")) for at in range(0, len(data), 4)]
            shown[1] = f"[{', '.join(found)}{', ...' if len(found) < count else ''}]"
    return shown, ""


def _seccomp(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    operation = line.at("op")
    data = try_read(line.event.read, line.at("uargs"), 16)
    if operation == _SECCOMP_AVAILABLE and len(data) >= 4:
        action = int.from_bytes(data[:4], "little")
        names = {value: name for name, value in flags.members("seccomp_action").items()}
        shown[2] = f"[{names.get(action, hex(action))}]"
    elif operation == _SECCOMP_FILTER and len(data) >= 16:
        count, start = int.from_bytes(data[:2], "little"), int.from_bytes(data[8:16], "little")
        shown[2] = f"{{len={count}, filter={address_text(start)}}}"
    return shown, ""


def _personality(line: StraceLine) -> tuple[list[str], str]:
    wanted = line.at("personality")
    shown = [hex(wanted) if wanted == _ADDRESS_QUERY else _domain(wanted)]
    return shown, "" if line.unwritten else f" ({_domain(line.event.result or 0)})"


def _domain(bits: int) -> str:
    text = flags_text("personality", bits & ~0xFF) if bits & ~0xFF else ""
    domain = {0: "PER_LINUX", 8: "PER_LINUX32"}.get(bits & 0xFF, hex(bits & 0xFF))
    return "|".join(word for word in (domain, text) if word)


def _priority(value: int) -> str:
    kind = value >> 13
    name = f"IOPRIO_CLASS_{_IOPRIO[kind]}" if kind < len(_IOPRIO) else hex(kind)
    return f"IOPRIO_PRIO_VALUE({name}, {value & 0x1FFF})"


def _ioprio(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    if line.signature.name == "ioprio_set":
        shown[2] = _priority(line.at("ioprio"))
        return shown, ""
    return shown, "" if line.unwritten else f" ({_priority(line.event.result or 0)})"


def _syslog(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    kind = line.at("type")
    shown[0] = f"{kind} /* {flags_text('syslog', kind)} */"
    count = 3 if kind in (*_SYSLOG_READS, _SYSLOG_LEVEL) else 1
    return shown[:count], ""


def _membarrier(line: StraceLine) -> tuple[list[str], str]:
    return line.arguments()[:2], ""


def _arch_prctl(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = b"" if line.unwritten else try_read(line.event.read, line.at("arg2"), 8)
    if line.at("option") in (_GET_FS, _GET_GS) and len(data) == 8:
        shown[1] = f"[{address_text(int.from_bytes(data, 'little'))}]"
    return shown, ""


def _affinity(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = try_read(line.event.read, line.at("user_mask_ptr"), line.at("len"))
    if line.signature.name == "sched_getaffinity" and line.unwritten:
        return shown, ""
    bits = int.from_bytes(data, "little")
    shown[2] = "[" + " ".join(str(cpu) for cpu in range(bits.bit_length()) if bits >> cpu & 1) + "]"
    return shown, ""


PROCESSES: dict[str, Special] = {
    "arch_prctl": _arch_prctl,
    "capget": _capabilities,
    "capset": _capabilities,
    "get_robust_list": _numbers_behind(("head_ptr", "len_ptr"), 8),
    "getcpu": _numbers_behind(("cpup", "nodep"), 4),
    "getgroups": _groups,
    "getresgid": _numbers_behind(("rgidp", "egidp", "sgidp"), 4),
    "getresuid": _numbers_behind(("ruidp", "euidp", "suidp"), 4),
    "ioprio_get": _ioprio,
    "ioprio_set": _ioprio,
    "membarrier": _membarrier,
    "personality": _personality,
    "pidfd_send_signal": _with_siginfo("info"),
    "prctl": prctl,
    "rt_sigqueueinfo": _with_siginfo("uinfo"),
    "rt_sigtimedwait": _with_siginfo("uinfo"),
    "rt_tgsigqueueinfo": _with_siginfo("uinfo"),
    "sched_getaffinity": _affinity,
    "sched_getattr": _attributes,
    "sched_getparam": _scheduler,
    "sched_getscheduler": _scheduler,
    "sched_setaffinity": _affinity,
    "sched_setattr": _attributes,
    "sched_setparam": _scheduler,
    "sched_setscheduler": _scheduler,
    "seccomp": _seccomp,
    "setgroups": _groups,
    "syslog": _syslog,
    "wait4": _wait4,
    "waitid": _with_siginfo("infop"),
}
