"""The options of prctl as strace writes them: how many arguments each has, and what they are."""

from __future__ import annotations

from trapline.decode.memory import address_text, quote, try_read
from trapline.decode.values import signal_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.trace.strace import StraceLine

__all__ = ["capability", "prctl"]

_CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
#: How many arguments each option has. Others have all five.
_COUNTS = {1: 2, 2: 2, 3: 1, 4: 2, 5: 2, 6: 2, 7: 1, 8: 2, 9: 2, 10: 2, 11: 2, 12: 2, 13: 1, 14: 2, 15: 2, 16: 2, 19: 2,
           20: 2, 21: 1, 22: 2, 23: 2, 24: 2, 25: 2, 26: 2, 27: 1, 28: 2, 29: 2, 30: 1, 31: 1, 32: 1, 33: 5, 34: 5,
           35: 5, 36: 2, 37: 2, 38: 5, 39: 5, 40: 2, 41: 5, 42: 5, 47: 5, 52: 2, 53: 3, 57: 5, 58: 5,
           0x59616D61: 2}  # fmt: skip
_SET_PDEATHSIG, _GET_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE, _SET_NAME, _GET_NAME = 1, 2, 3, 4, 15, 16
_CAPBSET, _GET_TSC, _SET_TSC, _MCE_KILL, _MCE_KILL_GET, _SET_MM = (23, 24), 25, 26, 33, 34, 35
_GET_SUBREAPER, _GET_TID_ADDRESS, _CAP_AMBIENT, _SPECULATION = 37, 40, 47, (52, 53)
_SET_VMA, _SET_PTRACER = 0x53564D41, 0x59616D61
#: What is written behind the pointer has not been kept, or is of other machines.
_ADDRESSES = (5, 9, 11, 19)
_AMBIENT = {1: "PR_CAP_AMBIENT_IS_SET", 2: "PR_CAP_AMBIENT_RAISE", 3: "PR_CAP_AMBIENT_LOWER",
            4: "PR_CAP_AMBIENT_CLEAR_ALL"}  # fmt: skip
_CLEAR_ALL = 4
_DUMPABLE = {0: "SUID_DUMP_DISABLE", 1: "SUID_DUMP_USER", 2: "SUID_DUMP_ROOT"}
_TSC = {1: "PR_TSC_ENABLE", 2: "PR_TSC_SIGSEGV"}
_MCE = {0: "PR_MCE_KILL_CLEAR", 1: "PR_MCE_KILL_SET"}
_MCE_POLICIES = {0: "PR_MCE_KILL_LATE", 1: "PR_MCE_KILL_EARLY", 2: "PR_MCE_KILL_DEFAULT"}
_MM = ("", "START_CODE", "END_CODE", "START_DATA", "END_DATA", "START_STACK", "START_BRK", "BRK", "ARG_START",
       "ARG_END",
       "ENV_START", "ENV_END", "AUXV", "EXE_FILE", "MAP", "MAP_SIZE")  # fmt: skip
_SPECULATIONS = {0: "PR_SPEC_STORE_BYPASS", 1: "PR_SPEC_INDIRECT_BRANCH", 2: "PR_SPEC_L1D_FLUSH"}
_SPECULATED = ((2, "PR_SPEC_ENABLE"), (4, "PR_SPEC_DISABLE"), (8, "PR_SPEC_FORCE_DISABLE"),
               (16, "PR_SPEC_DISABLE_NOEXEC"), (1, "PR_SPEC_PRCTL"))  # fmt: skip
_ANYBODY = (1 << 64) - 1


def capability(number: int) -> str:
    """Write a capability."""
    return f"CAP_{_CAPABILITIES[number]}" if number < len(_CAPABILITIES) else f"{number:#x} /* CAP_??? */"


def prctl(line: StraceLine) -> tuple[list[str], str]:
    """Write prctl."""
    shown = line.arguments()
    option, second, third = line.at("option"), line.at("arg2"), line.at("arg3")
    data = try_read(line.event.read, second, 16)
    written = b"" if line.unwritten else data
    if option == _SET_NAME or (option == _GET_NAME and not line.unwritten):
        return [shown[0], quote(data.split(b"\0")[0], line.limit)] if data else shown[:2], ""
    if written and option in (_GET_PDEATHSIG, _GET_SUBREAPER, _GET_TSC, _GET_TID_ADDRESS):
        return [shown[0], f"[{_got(option, written)}]"], ""
    if option == _SET_VMA:
        return [shown[0], "PR_SET_VMA_ANON_NAME" if not second else hex(second), *shown[2:3],
                str(line.at("arg4")), shown[4]], ""  # fmt: skip
    count = _COUNTS.get(option, 5)
    shown = shown[:count]
    if option in _COUNTS and option not in (_GET_PDEATHSIG, _GET_NAME, _GET_SUBREAPER):
        shown[1:] = [str(line.at(f"arg{index}")) for index in range(2, count + 1)]
    name = _second(option, second)
    if name:
        shown[1] = name
    elif option in (_GET_PDEATHSIG, _GET_SUBREAPER, _GET_TSC, _GET_TID_ADDRESS, *_ADDRESSES):
        shown[1] = address_text(second)
    if option == _CAP_AMBIENT and second != _CLEAR_ALL:
        shown[2] = capability(third)
    elif option == _MCE_KILL and second == 1:
        shown[2] = _MCE_POLICIES.get(third, shown[2])
    elif option == _SET_MM and third:
        shown[2] = hex(third)
    return shown, "" if line.unwritten else _behind(option, line.event.result or 0)


def _got(option: int, data: bytes) -> str:
    if option == _GET_TID_ADDRESS:
        return address_text(int.from_bytes(data[:8], "little"))
    number = int.from_bytes(data[:4], "little")
    if option == _GET_TSC:
        return _TSC.get(number, str(number))
    return signal_text(number) if option == _GET_PDEATHSIG and number else str(number)


def _second(option: int, value: int) -> str:
    """Return the second argument's name, or ""."""
    if option == _SET_PDEATHSIG and value:
        return signal_text(value)
    if option in _CAPBSET:
        return capability(value)
    if option == _SET_PTRACER and value == _ANYBODY:
        return "PR_SET_PTRACER_ANY"
    if option == _SET_MM and 0 < value < len(_MM):
        return f"PR_SET_MM_{_MM[value]}"
    names = {_SET_DUMPABLE: _DUMPABLE, _SET_TSC: _TSC, _CAP_AMBIENT: _AMBIENT}
    names |= dict.fromkeys(_SPECULATION, _SPECULATIONS)
    if option == _MCE_KILL:
        return _MCE.get(value, f"{value:#x} /* PR_MCE_KILL_??? */")
    return names.get(option, {}).get(value, "")


def _behind(option: int, result: int) -> str:
    """Return what follows the result."""
    if option == _GET_DUMPABLE:
        return f" ({_DUMPABLE.get(result, '')})"
    if option == _MCE_KILL_GET and result in _MCE_POLICIES:
        return f" ({_MCE_POLICIES[result]})"
    if option == _SPECULATION[0]:
        names = [name for bit, name in _SPECULATED if result & bit]
        return f" ({'|'.join(names)})" if names else ""
    return ""
