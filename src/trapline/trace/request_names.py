"""Numbers of ioctl that only drivers know: names, and which of these have no argument or a number as it.

Where several drivers use a number it is the one that programs nearly always mean.
"""

from __future__ import annotations

__all__ = ["BARE", "NAMES", "NUMBERS"]

_WRITE, _READ = 1 << 30, 2 << 30


def _numbered(kind: str, prefix: str, names: str, direction: int = 0, size: int = 0) -> dict[int, str]:
    """Read ``0 FIRST 5 SIXTH SEVENTH``: a number is that of the next name."""
    found, number = {}, 0
    for word in names.split():
        if word.isdigit():
            number = int(word)
            continue
        found[direction | size << 16 | ord(kind) << 8 | number] = prefix + word
        number += 1
    return found


NAMES: dict[int, str] = {
    **_numbered("$", "PERF_EVENT_IOC_", "ENABLE DISABLE REFRESH RESET 5 SET_OUTPUT"),
    **_numbered("$", "PERF_EVENT_IOC_", "4 PERIOD 6 SET_FILTER", _WRITE, 8),
    **_numbered("$", "PERF_EVENT_IOC_", "7 ID", _READ, 8),
    **_numbered("$", "PERF_EVENT_IOC_", "8 SET_BPF PAUSE_OUTPUT", _WRITE, 4),
    **_numbered("T", "TUN", "200 SETNOCSUM SETDEBUG SETIFF SETPERSIST SETOWNER SETLINK SETGROUP 208 SETOFFLOAD "
                "SETTXFILTER 212 SETSNDBUF 216 SETVNETHDRSZ SETQUEUE SETIFINDEX", _WRITE, 4),
    **_numbered("T", "TUN", "207 GETFEATURES 210 GETIFF GETSNDBUF 215 GETVNETHDRSZ", _READ, 4),
    **_numbered("L", "LOOP_", "SET_FD CLR_FD SET_STATUS GET_STATUS SET_STATUS64 GET_STATUS64 CHANGE_FD SET_CAPACITY "
                "SET_DIRECT_IO SET_BLOCK_SIZE CONFIGURE 128 CTL_ADD CTL_REMOVE CTL_GET_FREE"),
    **_numbered("\xb7", "NS_GET_", "1 USERNS PARENT NSTYPE OWNER_UID"),
    **_numbered("\xae", "KVM_", "GET_API_VERSION CREATE_VM 3 CHECK_EXTENSION GET_VCPU_MMAP_SIZE 65 CREATE_VCPU "
                "71 SET_TSS_ADDR 96 CREATE_IRQCHIP 128 RUN 154 NMI"),
    **_numbered("\xae", "KVM_", "70 SET_USER_MEMORY_REGION", _WRITE, 32),
    **_numbered("\xae", "KVM_", "129 GET_REGS", _READ, 144),
    **_numbered("\xae", "KVM_", "130 SET_REGS", _WRITE, 144),
    **_numbered("\xae", "KVM_", "131 GET_SREGS", _READ, 312),
    **_numbered("\xae", "KVM_", "132 SET_SREGS", _WRITE, 312),
    **_numbered("\xae", "KVM_", "5 GET_SUPPORTED_CPUID", _READ | _WRITE, 8),
    **_numbered("\xae", "KVM_", "144 SET_CPUID2", _WRITE, 8),
    **_numbered("\xaa", "UFFDIO_", "63 API", _READ | _WRITE, 24),
    **_numbered("\xaa", "UFFDIO_", "0 REGISTER 4 ZEROPAGE", _READ | _WRITE, 32),
    **_numbered("\xaa", "UFFDIO_", "1 UNREGISTER WAKE", _READ, 16),
    **_numbered("\xaa", "UFFDIO_", "3 COPY", _READ | _WRITE, 40),
    **_numbered("f", "FS_IOC_", "11 FIEMAP", _READ | _WRITE, 32),
}  # fmt: skip
#: LOOP_CLR_FD, LOOP_CTL_GET_FREE, NS_GET_USERNS, NS_GET_PARENT, NS_GET_NSTYPE, FIFREEZE, FITHAW.
BARE = frozenset({0x4C01, 0x4C82, 0xB701, 0xB702, 0xB703, 0xC0045877, 0xC0045878})
#: LOOP_SET_FD, LOOP_CHANGE_FD, LOOP_CTL_ADD, LOOP_CTL_REMOVE.
NUMBERS = frozenset({0x4C00, 0x4C06, 0x4C80, 0x4C81})
