"""The requests of ioctl, of the families that programs use most: terminals, descriptors, disks, interfaces."""

from __future__ import annotations

from trapline.decode.memory import quote, try_read
from trapline.decode.values import flags_text
from trapline.trace.request_names import BARE, NAMES, NUMBERS
from trapline.trace.sockets import address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline.trace.strace import StraceLine

__all__ = ["ioctl"]

_GET_MODES = frozenset({0x5401})
_SET_MODES = frozenset({0x5402, 0x5403, 0x5404})
_SIZES = {0x5413: True, 0x5414: False}
#: Requests that have no argument: FIOCLEX, FIONCLEX, TIOCEXCL, TIOCNXCL, TIOCNOTTY, TIOCSBRK, TIOCCBRK, BLKFLSBUF,
#: BLKRRPART, TIOCVHANGUP, TIOCCONS.
_BARE = frozenset({0x5451, 0x5450, 0x540C, 0x540D, 0x5422, 0x5427, 0x5428, 0x1261, 0x125F, 0x5437, 0x541D})
#: Those whose argument is a number itself.
_NUMBERS = frozenset({0x5409, 0x5425, 0x540E, 0x40049409})
_CHOICES = {
    0x540B: ("TCIFLUSH", "TCOFLUSH", "TCIOFLUSH"),
    0x540A: ("TCOOFF", "TCOON", "TCIOFF", "TCION"),
}
#: A number in memory, 4 bytes long, that the kernel writes.
_READS = frozenset({0x540F, 0x541B, 0x5429, 0x5411, 0x80045430, 0x80045438, 0x80045439, 0x80045440, 0x8903, 0x8904,
                    0x8905, 0x5424, 0x1268, 0x125E, 0x127B, 0x1278, 0x1279, 2, 0x80081270})  # fmt: skip
#: And one that the kernel reads.
_WRITES = frozenset({0x5410, 0x5421, 0x5452, 0x40045431, 0x40045436, 0x8901, 0x8902, 0x5420, 0x5423, 0x125D})
_NS_GET_NSTYPE, _FS_IOC_GETFLAGS, _FS_IOC_FSGETXATTR, _FITRIM, _TIOCSTI = (
    0xB703,
    0x80086601,
    0x801C581F,
    0xC0185879,
    0x5412,
)
#: BLKDISCARD, BLKSECDISCARD, BLKZEROOUT.
_RANGES = frozenset({0x1277, 0x127D, 0x127F})
_FSX = ("xflags", "extsize", "nextents", "projid", "cowextsize")
_NAMESPACES = {0x80: "CLONE_NEWTIME", 0x20000: "CLONE_NEWNS", 0x2000000: "CLONE_NEWCGROUP", 0x4000000: "CLONE_NEWUTS",
               0x8000000: "CLONE_NEWIPC", 0x10000000: "CLONE_NEWUSER", 0x20000000: "CLONE_NEWPID",
               0x40000000: "CLONE_NEWNET"}  # fmt: skip
_FILE_FLAGS = ("FS_SECRM_FL", "FS_UNRM_FL", "FS_COMPR_FL", "FS_SYNC_FL", "FS_IMMUTABLE_FL", "FS_APPEND_FL",
               "FS_NODUMP_FL",
               "FS_NOATIME_FL", "FS_DIRTY_FL", "FS_COMPRBLK_FL", "FS_NOCOMP_FL", "FS_ENCRYPT_FL", "FS_INDEX_FL",
               "FS_IMAGIC_FL", "FS_JOURNAL_DATA_FL", "FS_NOTAIL_FL", "FS_DIRSYNC_FL", "FS_TOPDIR_FL", "FS_HUGE_FILE_FL",
               "FS_EXTENT_FL", "FS_VERITY_FL", "FS_EA_INODE_FL", "FS_EOFBLOCKS_FL", "FS_NOCOW_FL", "", "FS_DAX_FL", "",
               "",
               "FS_INLINE_DATA_FL", "FS_PROJINHERIT_FL", "FS_CASEFOLD_FL", "FS_RESERVED_FL")  # fmt: skip
_TIOCGPTPEER, _BLKGETSIZE64 = 0x5441, 0x80081272

_INPUT = ("IGNBRK", "BRKINT", "IGNPAR", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IUCLC", "IXON",
          "IXANY", "IXOFF", "IMAXBEL", "IUTF8")  # fmt: skip
_OUTPUT = ("OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET", "OFILL", "OFDEL")
_DELAYS = (("NL", 0x100, 8), ("CR", 0x600, 9), ("TAB", 0x1800, 11), ("BS", 0x2000, 13), ("VT", 0x4000, 14),
           ("FF", 0x8000, 15))  # fmt: skip
_LOCAL = ("ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "ECHOCTL", "ECHOPRT",
          "ECHOKE", "FLUSHO", "", "PENDIN", "IEXTEN", "EXTPROC")  # fmt: skip
_CONTROL = ((0x40, "CSTOPB"), (0x80, "CREAD"), (0x100, "PARENB"), (0x200, "PARODD"), (0x400, "HUPCL"),
            (0x800, "CLOCAL"), (0x40000000, "CMSPAR"), (0x80000000, "CRTSCTS"))  # fmt: skip
_SPEEDS = (0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400)
_FAST = (57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000)
_CBAUDEX = 0x1000

_IFREQ = 40
_GETS, _SETS = "SIOCGIF", "SIOCSIF"
_IFF = ("IFF_UP", "IFF_BROADCAST", "IFF_DEBUG", "IFF_LOOPBACK", "IFF_POINTOPOINT", "IFF_NOTRAILERS", "IFF_RUNNING",
        "IFF_NOARP", "IFF_PROMISC", "IFF_ALLMULTI", "IFF_MASTER", "IFF_SLAVE", "IFF_MULTICAST", "IFF_PORTSEL",
        "IFF_AUTOMEDIA", "IFF_DYNAMIC")  # fmt: skip
_IFREQ_NUMBERS = {"INDEX": "ifr_ifindex", "MTU": "ifr_mtu", "METRIC": "ifr_metric", "TXQLEN": "ifr_qlen"}
_IFREQ_ADDRESSES = {
    "ADDR": "ifr_addr",
    "DSTADDR": "ifr_dstaddr",
    "BRDADDR": "ifr_broadaddr",
    "NETMASK": "ifr_netmask",
}
_HARDWARE = {1: "ARPHRD_ETHER", 772: "ARPHRD_LOOPBACK", 65534: "ARPHRD_NONE", 768: "ARPHRD_TUNNEL"}
_DIRECTIONS = ("_IOC_NONE", "_IOC_WRITE", "_IOC_READ", "_IOC_READ|_IOC_WRITE")


def ioctl(line: StraceLine) -> tuple[list[str], str]:
    """Write the arguments of an ioctl."""
    command, pointer = line.at("cmd"), line.event.args[2]
    name = _name(command)
    shown = [line.fd(line.at("fd")), name]
    if command in _BARE or command in BARE:
        return (
            shown,
            f" ({_NAMESPACES.get(line.event.result or 0, '?')})" if command == _NS_GET_NSTYPE else "",
        )
    argument = _argument(line, command, name, pointer)
    return [*shown, argument or (hex(pointer) if pointer else "0")], ""


def _name(command: int) -> str:
    known = NAMES.get(command) or flags_text("ioctl", command)
    if not known[:1].isdigit():
        return known
    direction, size = command >> 30, command >> 16 & 0x3FFF
    return f"_IOC({_DIRECTIONS[direction]}, {command >> 8 & 0xFF:#x}, {_hex(command & 0xFF)}, {_hex(size)})"


def _hex(value: int) -> str:
    return hex(value) if value else "0"


def _argument(line: StraceLine, command: int, name: str, pointer: int) -> str:
    """Return the last argument's text, or "": it is an address."""
    wrote = not line.unwritten
    if command in _NUMBERS or command in NUMBERS:
        return str(pointer & 0xFFFFFFFF)
    if command in _CHOICES:
        names = _CHOICES[command]
        return names[pointer] if pointer < len(names) else hex(pointer)
    if command == _TIOCGPTPEER:
        return flags_text("open", pointer & 0xFFFFFFFF)
    data = try_read(line.event.read, pointer, 64)
    number = int.from_bytes(data[:4], "little", signed=True)
    if (command in _GET_MODES and wrote) or command in _SET_MODES:
        return _modes(data) if len(data) >= 36 else ""
    if command in _SIZES and len(data) >= 8 and (wrote or not _SIZES[command]):
        parts = [int.from_bytes(data[at : at + 2], "little") for at in range(0, 8, 2)]
        names = ("ws_row", "ws_col", "ws_xpixel", "ws_ypixel")
        return "{" + ", ".join(f"{one}={part}" for one, part in zip(names, parts, strict=True)) + "}"
    if len(data) >= 4 and ((command in _READS and wrote) or command in _WRITES):
        return f"[{number}]"
    if command == _FS_IOC_GETFLAGS and wrote and len(data) >= 4:
        return f"[{'|'.join(_words(number & 0xFFFFFFFF, _FILE_FLAGS)) or '0'}]"
    if command == _FS_IOC_FSGETXATTR and wrote and len(data) >= 20:
        found = [int.from_bytes(data[at : at + 4], "little") for at in range(0, 20, 4)]
        return "{" + ", ".join(f"fsx_{name}={_hex(one) if name == 'xflags' else one}"
                               for name, one in zip(_FSX, found, strict=True)) + "}"  # fmt: skip
    if command in _RANGES and len(data) >= 16:
        return f"[{', '.join(str(int.from_bytes(data[at : at + 8], 'little')) for at in (0, 8))}]"
    if command == _FITRIM and len(data) >= 24:
        parts = [int.from_bytes(data[at : at + 8], "little") for at in (0, 8, 16)]
        return f"{{start={_hex(parts[0])}, len={parts[1]}, minlen={parts[2]}}}"
    if command == _TIOCSTI and data:
        return quote(data[:1])
    if command == _BLKGETSIZE64 and wrote and len(data) >= 8:
        return f"[{int.from_bytes(data[:8], 'little')}]"
    if name.startswith(_SETS) or (name.startswith(_GETS) and wrote):
        return _interface(name[len(_GETS) :], data, name.startswith(_GETS))
    return ""


def _words(value: int, names: tuple[str, ...]) -> list[str]:
    found = [name for bit, name in enumerate(names) if name and value >> bit & 1]
    rest = value & ~sum(1 << bit for bit, name in enumerate(names) if name)
    return [*found, hex(rest)] if rest else found


def _modes(data: bytes) -> str:
    """Write a struct termios."""
    into, out, control, local = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8, 12))
    delays = [f"{name}{(out & mask) >> shift}" for name, mask, shift in _DELAYS]
    output = delays + _words(out & ~0xFF00, _OUTPUT)
    speed = control & 0xF
    fast = _FAST[speed - 1] if control & _CBAUDEX and 0 < speed <= len(_FAST) else 0
    rest = [f"B{fast or _SPEEDS[speed]}", f"CS{5 + (control >> 4 & 3)}"]
    rest += [name for bit, name in _CONTROL if control & bit]
    fields = (
        ("c_iflag", _words(into, _INPUT)),
        ("c_oflag", output),
        ("c_cflag", rest),
        ("c_lflag", _words(local, _LOCAL)),
    )
    return "{" + ", ".join(f"{name}={'|'.join(words) or '0'}" for name, words in fields) + ", ...}"


def _interface(what: str, data: bytes, was_asked: bool) -> str:
    """Write a struct ifreq; "" where it is another one."""
    if len(data) < _IFREQ:
        return ""
    name = f"ifr_name={quote(data[:16].split(bytes(1))[0])}"
    body = data[16:_IFREQ]
    if what == "NAME" and was_asked:
        return f"{{ifr_ifindex={int.from_bytes(body[:4], 'little', signed=True)}, {name}}}"
    if what in _IFREQ_NUMBERS:
        if what == "INDEX" and not was_asked:
            return ""
        return f"{{{name}, {_IFREQ_NUMBERS[what]}={int.from_bytes(body[:4], 'little', signed=True)}}}"
    if what in _IFREQ_ADDRESSES:
        return f"{{{name}, {_IFREQ_ADDRESSES[what]}={address(body[:16])}}}"
    if what == "FLAGS":
        return f"{{{name}, ifr_flags={'|'.join(_words(int.from_bytes(body[:2], 'little'), _IFF)) or '0'}}}"
    if what == "HWADDR":
        kind = int.from_bytes(body[:2], "little")
        digits = ":".join(f"{byte:02x}" for byte in body[2:8])
        return f"{{{name}, ifr_hwaddr={{sa_family={_HARDWARE.get(kind, hex(kind))}, sa_data={digits}}}}}"
    return ""
