"""Calls about what few programs use, as strace writes them: keys, BPF, events, mounts, quotas."""

from __future__ import annotations

from trapline.abi import flags
from trapline.decode.memory import address_text, quote, try_read
from trapline.decode.values import flags_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from trapline.trace.strace import StraceLine

    Special = Callable[[StraceLine], tuple[list[str], str]]

__all__ = ["KERNEL", "bits_text"]

_RINGS = ("THREAD", "PROCESS", "SESSION", "USER", "USER_SESSION", "GROUP")
_KEY_RIGHTS = ("VIEW", "READ", "WRITE", "SEARCH", "LINK", "SETATTR")
_KEY_OWNERS = ("OTH", "GRP", "USR", "POS")
_JOIN, _SETPERM, _DESCRIBE, _SEARCH, _READ = 1, 5, 6, 10, 11
#: keyctl: what the arguments behind the operation are: a key, a number, an address, a string, an address that is
#: followed by its size.
_KEYCTL = {
    0: "kn", 1: "s", 2: "kan", 3: "k", 4: "knn", 5: "kp", 6: "kan", 7: "k", 8: "kk", 9: "kk", 10: "kssk", 11: "kan",
    12: "kank", 13: "knk", 14: "n", 15: "kn", 16: "k", 17: "kan", 18: "", 21: "k", 22: "nk",
}  # fmt: skip
_MAPS = ("UNSPEC", "HASH", "ARRAY", "PROG_ARRAY", "PERF_EVENT_ARRAY", "PERCPU_HASH", "PERCPU_ARRAY", "STACK_TRACE",
         "CGROUP_ARRAY", "LRU_HASH", "LRU_PERCPU_HASH", "LPM_TRIE", "ARRAY_OF_MAPS", "HASH_OF_MAPS", "DEVMAP",
         "SOCKMAP",
         "CPUMAP", "XSKMAP", "SOCKHASH", "CGROUP_STORAGE", "REUSEPORT_SOCKARRAY", "PERCPU_CGROUP_STORAGE", "QUEUE",
         "STACK", "SK_STORAGE", "DEVMAP_HASH", "STRUCT_OPS", "RINGBUF", "INODE_STORAGE", "TASK_STORAGE",
         "BLOOM_FILTER")  # fmt: skip
_PROGRAMS = ("UNSPEC", "SOCKET_FILTER", "KPROBE", "SCHED_CLS", "SCHED_ACT", "TRACEPOINT", "XDP", "PERF_EVENT",
             "CGROUP_SKB", "CGROUP_SOCK", "LWT_IN", "LWT_OUT", "LWT_XMIT", "SOCK_OPS", "SK_SKB", "CGROUP_DEVICE",
             "SK_MSG",
             "RAW_TRACEPOINT", "CGROUP_SOCK_ADDR", "LWT_SEG6LOCAL", "LIRC_MODE2", "SK_REUSEPORT", "FLOW_DISSECTOR",
             "CGROUP_SYSCTL", "RAW_TRACEPOINT_WRITABLE", "CGROUP_SOCKOPT", "TRACING", "STRUCT_OPS", "EXT", "LSM",
             "SK_LOOKUP", "SYSCALL")  # fmt: skip
_ELEMENT_FLAGS = ("BPF_ANY", "BPF_NOEXIST", "BPF_EXIST")
_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY = 1, 2, 3, 4
_EVENTS = ("HARDWARE", "SOFTWARE", "TRACEPOINT", "HW_CACHE", "RAW", "BREAKPOINT")
_HARDWARE = ("CPU_CYCLES", "INSTRUCTIONS", "CACHE_REFERENCES", "CACHE_MISSES", "BRANCH_INSTRUCTIONS", "BRANCH_MISSES",
             "BUS_CYCLES", "STALLED_CYCLES_FRONTEND", "STALLED_CYCLES_BACKEND", "REF_CPU_CYCLES")  # fmt: skip
_SOFTWARE = ("CPU_CLOCK", "TASK_CLOCK", "PAGE_FAULTS", "CONTEXT_SWITCHES", "CPU_MIGRATIONS", "PAGE_FAULTS_MIN",
             "PAGE_FAULTS_MAJ", "ALIGNMENT_FAULTS", "EMULATION_FAULTS", "DUMMY", "BPF_OUTPUT",
             "CGROUP_SWITCHES")  # fmt: skip
_SAMPLES = ("IP", "TID", "TIME", "ADDR", "READ", "CALLCHAIN", "ID", "CPU", "PERIOD", "STREAM_ID", "RAW", "BRANCH_STACK",
            "REGS_USER", "STACK_USER", "WEIGHT", "DATA_SRC", "IDENTIFIER", "TRANSACTION", "REGS_INTR", "PHYS_ADDR",
            "AUX",
            "CGROUP", "DATA_PAGE_SIZE", "CODE_PAGE_SIZE", "WEIGHT_STRUCT")  # fmt: skip
_FORMATS = ("TOTAL_TIME_ENABLED", "TOTAL_TIME_RUNNING", "ID", "GROUP", "LOST")
_EVENT_BITS = ("disabled", "inherit", "pinned", "exclusive", "exclude_user", "exclude_kernel", "exclude_hv",
               "exclude_idle",
               "mmap", "comm", "freq", "inherit_stat", "enable_on_exec", "task", "watermark")  # fmt: skip
_SKIDS = ("arbitrary skid", "constant skid", "requested to have 0 skid", "must have 0 skid")
_EVENT_SIZES = (64, 72, 80, 96, 104, 112, 120, 128, 136)
_QUOTAS = ("USRQUOTA", "GRPQUOTA", "PRJQUOTA")
_QUOTA_COMMANDS = {
    0x800001: "Q_SYNC", 0x800002: "Q_QUOTAON", 0x800003: "Q_QUOTAOFF", 0x800004: "Q_GETFMT", 0x800005: "Q_GETINFO",
    0x800006: "Q_SETINFO", 0x800007: "Q_GETQUOTA", 0x800008: "Q_SETQUOTA", 0x800009: "Q_GETNEXTQUOTA",
    0x5801: "Q_XQUOTAON", 0x5802: "Q_XQUOTAOFF", 0x5803: "Q_XGETQUOTA", 0x5804: "Q_XSETQLIM", 0x5805: "Q_XGETQSTAT",
    0x5806: "Q_XQUOTARM", 0x5807: "Q_XQUOTASYNC", 0x5808: "Q_XGETQSTATV", 0x5809: "Q_XGETNEXTQUOTA",
}  # fmt: skip
_Q_SYNC, _Q_QUOTAON, _Q_QUOTAOFF = 0x800001, 0x800002, 0x800003
_OF_SOMEBODY = frozenset({0x800007, 0x800008, 0x800009, 0x5803, 0x5804, 0x5809})
_QUOTA_FORMATS = {1: "QFMT_VFS_OLD", 2: "QFMT_VFS_V0", 3: "QFMT_OCFS2", 4: "QFMT_VFS_V1", 5: "QFMT_SHMEM"}
_SET_STRING = 1
_FAN_CLASSES = ("FAN_CLASS_NOTIF", "FAN_CLASS_CONTENT", "FAN_CLASS_PRE_CONTENT")
_REBOOT = {0xFEE1DEAD: "LINUX_REBOOT_MAGIC1", 672274793: "LINUX_REBOOT_MAGIC2", 85072278: "LINUX_REBOOT_MAGIC2A",
           369367448: "LINUX_REBOOT_MAGIC2B", 537993216: "LINUX_REBOOT_MAGIC2C"}  # fmt: skip
_RESTART2 = 0xA1B2C3D4
_PROPAGATIONS = {1 << 17: "MS_UNBINDABLE", 1 << 18: "MS_PRIVATE", 1 << 19: "MS_SLAVE", 1 << 20: "MS_SHARED"}
_RIGHTS_OF_PROTECTION_KEYS = ("PKEY_DISABLE_ACCESS", "PKEY_DISABLE_WRITE")


def bits_text(bits: int, names: tuple[str, ...], prefix: str = "") -> str:
    """Write bits by the names that they have from the lowest one on, which may be ""; and what is left over."""
    words = [prefix + name for bit, name in enumerate(names) if name and bits >> bit & 1]
    rest = bits & ~sum(1 << bit for bit, name in enumerate(names) if name)
    return "|".join([*words, *([hex(rest)] if rest else [])]) or "0"


def _enumerated(value: int, names: tuple[str, ...], prefix: str) -> str:
    return prefix + names[value] if value < len(names) else f"{value:#x} /* {prefix}??? */"


def _word(data: bytes, at: int, size: int = 4) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _ring(number: int) -> str:
    number &= 0xFFFFFFFF
    inverted = (1 << 32) - number
    if 0 < inverted <= len(_RINGS):
        return f"KEY_SPEC_{_RINGS[inverted - 1]}_KEYRING"
    return str(number - (1 << 32) if number >> 31 else number)


def _with_ring(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    shown[-1] = _ring(line.event.args[len(shown) - 1])
    return shown, ""


def _key_rights(bits: int) -> str:
    names = [""] * 32
    for place, owner in enumerate(_KEY_OWNERS):
        for bit, right in enumerate(_KEY_RIGHTS):
            names[8 * place + bit] = f"KEY_{owner}_{right}"
    # The owner's first, as strace has them.
    found = [
        bits_text(bits & 0xFF << 8 * place, tuple(names))
        for place in (3, 2, 1, 0)
        if bits >> 8 * place & 0xFF
    ]
    return "|".join(found) or "0"


def _keyctl(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    operation, registers = line.at("option"), line.event.args
    kinds = _KEYCTL.get(operation)
    if kinds is None:
        return shown, ""
    shown = shown[:1]
    for value, kind in zip(registers[1:], kinds, strict=False):
        if kind == "k":
            shown.append(_ring(value))
        elif kind == "n":
            shown.append(str(value & 0xFFFFFFFF))
        elif kind == "p":
            shown.append(_key_rights(value & 0xFFFFFFFF))
        else:
            data = try_read(line.event.read, value, 64) if value else b""
            text = quote(data.split(b"\0")[0], line.limit) if kind == "s" and data else ""
            if kind == "a" and data and not line.unwritten and operation in (_DESCRIBE, _READ):
                data = data[: min(line.event.result or 0, registers[3])]
                text = quote(data.removesuffix(b"\0") if operation == _DESCRIBE else data, line.limit)
            shown.append(text or address_text(value))
    return shown, ""


def _bpf(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    command, size = line.at("cmd"), line.at("size")
    data = try_read(line.event.read_before, line.at("uattr"), min(size, 144))
    if len(data) < min(size, 16):
        return shown, ""
    data = data.ljust(144, b"\0")
    text = ""
    if command == 0:
        name = quote(data[28:44].split(b"\0")[0])
        text = (
            f"map_type={_enumerated(_word(data, 0), _MAPS, 'BPF_MAP_TYPE_')}, key_size={_word(data, 4)}, "
            f"value_size={_word(data, 8)}, max_entries={_word(data, 12)}, map_flags={_zero(_word(data, 16))}, "
            f"inner_map_fd={_word(data, 20)}, map_name={name}, ..."
        )
    elif command in (_LOOKUP, _UPDATE, _DELETE, _NEXT_KEY):
        text = f"map_fd={line.fd(_word(data, 0))}, key={address_text(_word(data, 8, 8))}"
        if command == _DELETE:
            text += ", ..." if any(data[16:size]) else ""
        elif command == _NEXT_KEY:
            text += f", next_key={address_text(_word(data, 16, 8))}"
        else:
            way = _enumerated(_word(data, 24, 8), _ELEMENT_FLAGS, "")
            text += f", value={address_text(_word(data, 16, 8))}, flags={way}"
    elif command == 5:
        text = (
            f"prog_type={_enumerated(_word(data, 0), _PROGRAMS, 'BPF_PROG_TYPE_')}, insn_cnt={_word(data, 4)}, "
            f"insns={address_text(_word(data, 8, 8))}, license={_string_behind(line, _word(data, 16, 8))}, "
            f"log_level={_word(data, 24)}, log_size={_word(data, 28)}, log_buf={address_text(_word(data, 32, 8))}, ..."
        )
    elif command in (6, 7):
        text = (
            f"pathname={_string_behind(line, _word(data, 0, 8))}, bpf_fd={_word(data, 8)}, "
            f"file_flags={_zero(_word(data, 12))}"
        )
    if text:
        shown[1] = f"{{{text}}}"
    return shown, ""


def _zero(value: int) -> str:
    return hex(value) if value else "0"


def _string_behind(line: StraceLine, address: int) -> str:
    data = try_read(line.event.read, address, 64) if address else b""
    return quote(data.split(b"\0")[0]) if data else address_text(address)


def _perf_event(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = try_read(line.event.read_before, line.at("attr_uptr"), 64)
    if len(data) < 64:
        return shown, ""
    kind, size, config = _word(data, 0), _word(data, 4), _word(data, 8, 8)
    bits = _word(data, 40, 8)
    named = (_HARDWARE, _SOFTWARE)[kind] if kind < 2 else ()
    prefix = "PERF_COUNT_HW_" if kind == 0 else "PERF_COUNT_SW_"
    shown_config = prefix + named[config] if config < len(named) else _zero(config)
    period = "sample_freq" if bits >> 10 & 1 else "sample_period"
    parts = [
        f"type={_enumerated(kind, _EVENTS, 'PERF_TYPE_')}",
        f"size={f'PERF_ATTR_SIZE_VER{_EVENT_SIZES.index(size)}' if size in _EVENT_SIZES else _zero(size)}",
        f"config={shown_config}",
        f"{period}={_word(data, 16, 8)}",
        f"sample_type={bits_text(_word(data, 24, 8), _SAMPLES, 'PERF_SAMPLE_')}",
        f"read_format={bits_text(_word(data, 32, 8), _FORMATS, 'PERF_FORMAT_')}",
    ]
    parts += [f"{name}=1" for bit, name in enumerate(_EVENT_BITS) if bits >> bit & 1]
    skid = bits >> 15 & 3
    shown[0] = f"{{{', '.join(parts)}, precise_ip={skid} /* {_SKIDS[skid]} */, ...}}"
    return shown, ""


def _ruleset(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = try_read(line.event.read_before, line.at("attr"), min(line.at("size"), 24))
    if len(data) >= 8:
        parts = [f"handled_access_fs={flags_text('landlock_access_fs', _word(data, 0, 8))}"]
        parts += [f"handled_access_net={_zero(_word(data, 8, 8))}"] if len(data) >= 16 else []
        parts += [f"scoped={_zero(_word(data, 16, 8))}"] if len(data) >= 24 else []
        shown[0] = f"{{{', '.join(parts)}}}"
    return shown, ""


def _landlock_rule(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = try_read(line.event.read_before, line.at("rule_attr"), 12)
    if line.at("rule_type") == 1 and len(data) == 12:
        access = flags_text("landlock_access_fs", _word(data, 0, 8))
        fd = int.from_bytes(data[8:12], "little", signed=True)
        shown[2] = f"{{allowed_access={access}, parent_fd={line.fd(fd)}}}"
    return shown, ""


def _handle(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    before = try_read(line.event.read_before, line.at("handle"), 8)
    if len(before) < 8:
        return shown, ""
    place = 2 if line.signature.name == "name_to_handle_at" else 1
    shown[0] = str(line.at("mountdirfd")) if place == 1 else shown[0]
    if place == 1:
        shown[1] = f"{{handle_bytes={_word(before, 0)}, {_bytes_of_handle(line, True)}}}"
        return shown, ""
    if line.unwritten:
        shown[2] = f"{{handle_bytes={_word(before, 0)}}}"
        return shown, ""
    size = _word(try_read(line.event.read, line.at("handle"), 4), 0)
    mount = try_read(line.event.read, line.at("mnt_id"), 4)
    shown[3] = f"[{_word(mount, 0)}]" if mount else shown[3]
    changed = f" => {size}" if size != _word(before, 0) else ""
    shown[2] = f"{{handle_bytes={_word(before, 0)}{changed}, {_bytes_of_handle(line, False)}}}"
    return shown, ""


def _bytes_of_handle(line: StraceLine, before: bool) -> str:
    # Its head may have been kept on its own too.
    address = line.at("handle")
    kept = [data for start, data, after in line.event.memory if start == address and after is not before]
    data = max(kept, key=len, default=b"")
    text = "".join(f"\\x{byte:02x}" for byte in data[8 : 8 + min(_word(data, 0), 128)])
    return f'handle_type={_word(data, 4)}, f_handle="{text}"'


def _quota(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    by_name = line.signature.name == "quotactl"
    registers = line.event.args
    word = registers[0 if by_name else 1] & 0xFFFFFFFF
    command, kind = word >> 8, word & 0xFF
    name = _QUOTA_COMMANDS.get(command, f"{command:#x} /* Q_??? */")
    text = f"QCMD({name}, {_enumerated(kind, _QUOTAS, '')})"
    first = [text, shown[1]] if by_name else [shown[0], text]
    if command in (_Q_SYNC, _Q_QUOTAOFF):
        return first, ""
    if command not in _OF_SOMEBODY and command != _Q_QUOTAON:
        return [*first, shown[3]], ""
    number = registers[2] & 0xFFFFFFFF
    third = _QUOTA_FORMATS.get(number, _zero(number)) if command == _Q_QUOTAON else str(number)
    return [*first, third, shown[3]], ""


def _fsconfig(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    if line.at("cmd") == _SET_STRING:
        shown[3] = _string_behind(line, line.event.args[3])
    return shown, ""


def _mount_setattr(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    data = try_read(line.event.read_before, line.at("uattr"), 32)
    if len(data) == 32:
        put, taken, way, namespace = (_word(data, at, 8) for at in (0, 8, 16, 24))
        shown[3] = (
            f"{{attr_set={_attributes(put)}, attr_clr={_attributes(taken)}, "
            f"propagation={_PROPAGATIONS.get(way, _zero(way))}, userns_fd={namespace}}}"
        )
    return shown, ""


def _attributes(bits: int) -> str:
    return flags_text("mount_attr", bits) if bits else "0"


def _fanotify(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    bits, events = line.at("flags"), line.at("event_f_flags")
    kind = bits >> 2 & 3
    rest = flags_text("fanotify_init", bits & ~12) if bits & ~12 else ""
    first = _enumerated(kind, _FAN_CLASSES, "") if kind < len(_FAN_CLASSES) else "0xc /* FAN_CLASS_??? */"
    shown[0] = f"{first}{'|' if rest else ''}{rest}"
    shown[1] = flags_text("open", events)
    return shown, ""


def _fanotify_mark(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    if line.event.args[3] & 0xFFFFFFFF == 0xFFFFFFFF:
        shown[3] = "FAN_NOFD"
    return shown, ""


def _pkey(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    shown[1] = bits_text(line.event.args[1], _RIGHTS_OF_PROTECTION_KEYS)
    return shown, ""


def _reboot(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    for place in (0, 1):
        number = line.event.args[place] & 0xFFFFFFFF
        shown[place] = _REBOOT.get(number, f"{_zero(number)} /* LINUX_REBOOT_MAGIC_??? */")
    return shown if line.event.args[2] & 0xFFFFFFFF == _RESTART2 else shown[:3], ""


def _delete_module(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    bits = line.event.args[1] & 0xFFFFFFFF
    shown[1] = flags_text("open", bits).removeprefix("O_RDONLY|").removesuffix("|O_RDONLY") if bits else "0"
    return shown, ""


def _policy(line: StraceLine) -> tuple[list[str], str]:
    shown = line.arguments()
    place = next(param.index for param in line.signature.params if param.name in ("mode", "policy"))
    word = line.event.args[place] & 0xFFFFFFFF
    known = {value: name for name, value in flags.members("mempolicy").items()}
    kind = known.get(word & 0x1FFF, hex(word & 0x1FFF))
    named = [
        name
        for bit, name in ((15, "STATIC_NODES"), (14, "RELATIVE_NODES"), (13, "NUMA_BALANCING"))
        if word >> bit & 1
    ]
    shown[place] = "|".join([kind, *[f"MPOL_F_{name}" for name in named]])
    return shown, ""


KERNEL: dict[str, Special] = {
    "add_key": _with_ring,
    "bpf": _bpf,
    "delete_module": _delete_module,
    "fanotify_init": _fanotify,
    "fanotify_mark": _fanotify_mark,
    "fsconfig": _fsconfig,
    "keyctl": _keyctl,
    "landlock_add_rule": _landlock_rule,
    "landlock_create_ruleset": _ruleset,
    "mbind": _policy,
    "mount_setattr": _mount_setattr,
    "name_to_handle_at": _handle,
    "open_by_handle_at": _handle,
    "perf_event_open": _perf_event,
    "pkey_alloc": _pkey,
    "quotactl": _quota,
    "quotactl_fd": _quota,
    "reboot": _reboot,
    "request_key": _with_ring,
    "set_mempolicy": _policy,
}
