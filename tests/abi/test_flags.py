"""Errno, signals and flag families: against the system's headers, and how they behave."""

from __future__ import annotations

import enum
import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from trapline.abi import ARCHES, flags
from trapline.abi.errno import Errno
from trapline.abi.signals import Signal
from trapline.errors import UsageError

DATA = Path(__file__).parents[2] / "data"


def headers() -> dict[str, list[str]]:
    """The UAPI headers of each family."""
    found: dict[str, list[str]] = {}
    for line in (DATA / "families.tsv").read_text().splitlines():
        if not line.startswith(("#", "family\t")):
            family, _, _, names, *_ = line.split("\t")
            found.setdefault(family, []).extend(name for name in names.split(",") if name.endswith(".h"))
    return found


def complaints(text: str, arch: str) -> str:
    command = ["gcc", "-m32" if arch == "i386" else "-m64", "-w", "-fsyntax-only", "-x", "c", "-"]
    return subprocess.run(command, input=text, text=True, capture_output=True, check=False).stderr


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler: install gcc")
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the system's headers are not x86's")
@pytest.mark.parametrize("arch", ["x86_64", "i386"])
def test_constants_are_those_of_the_systems_headers(arch: str) -> None:
    checked = 0
    for family, names in headers().items():
        if any(name.startswith("src:") for name in names) or not names:
            continue
        includes = [f"#if __has_include(<{name}>)\n#include <{name}>\n#endif\n" for name in names]
        text = "typedef __SIZE_TYPE__ size_t;\ntypedef long time_t;\n#include <linux/types.h>\n"
        text += "".join(includes)
        mask = "0xffffffffffffffff" if family == "clone3" else "0xffffffff"
        for name, value in flags.members(family, arch).items():
            # Macros only: older headers lack some, and enumerators cannot be asked for.
            claim = f"(({name}) & {mask}) == ({value}LL & {mask})"
            text += f'#ifdef {name}\n_Static_assert({claim}, "{name}");\n#endif\n'
            checked += 1
        wrong = [line for line in complaints(text, arch).splitlines() if "static assertion failed" in line]
        assert not wrong, family
    assert checked > 1400


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="MIPS and its like number errors otherwise")
def test_errno_agrees_with_the_c_librarys() -> None:
    for value, name in errno.errorcode.items():
        assert Errno[name] == value
    assert Errno.ENOENT.message == os.strerror(2)


def test_errno_reads_well() -> None:
    assert (str(Errno.ENOENT), f"{Errno.ENOENT:>8}", int(Errno.ENOENT)) == ("ENOENT", "  ENOENT", 2)
    assert Errno["EWOULDBLOCK"] is Errno["EAGAIN"]
    assert Errno["ENOTSUP"] is Errno["EOPNOTSUPP"]
    assert Errno["EUCLEAN"].name == "EUCLEAN"


def test_signals_agree_with_the_c_librarys() -> None:
    for own in signal.Signals:
        if own.name not in ("SIGRTMIN", "SIGRTMAX"):  # the C library keeps some for itself
            assert Signal[own.name] == own.value


def test_real_time_signals_have_names_too() -> None:
    assert (str(Signal(32)), str(Signal(34)), str(Signal(64))) == ("SIGRTMIN", "SIGRT_2", "SIGRTMAX")
    with pytest.raises(ValueError, match="65 is not a valid Signal"):
        Signal(65)


def test_architectures_have_their_own_open_flags() -> None:
    found = [flags.family("open", arch)["O_DIRECTORY"].value for arch in ARCHES]
    assert found == [0o200000, 0o200000, 0o40000]
    assert flags.members("open", "aarch64")["O_NOFOLLOW"] == 0o100000


def test_constants_can_be_imported_by_name() -> None:
    from trapline.abi.flags import CLONE_VM, F_DUPFD, FUTEX_WAIT, MAP_PRIVATE, O_CREAT, POLLIN, PR_SET_NAME

    assert [O_CREAT, MAP_PRIVATE, CLONE_VM, POLLIN, F_DUPFD, PR_SET_NAME, FUTEX_WAIT] == [
        64,
        2,
        256,
        1,
        0,
        15,
        0,
    ]
    assert isinstance(O_CREAT, enum.IntFlag)
    assert isinstance(F_DUPFD, enum.IntEnum)
    with pytest.raises(AttributeError, match="no constant 'O_NONSENSE'"):
        _ = flags.O_NONSENSE


def test_unnamed_bits_are_kept_and_unknown_values_stay_numbers() -> None:
    opened = flags.value("open", 0x80000041, "x86_64")
    assert opened & flags.family("open", "x86_64")["O_CREAT"]
    assert int(opened) == 0x80000041
    assert flags.value("fcntl", 99999, "x86_64") == 99999
    assert repr(flags.value("seek", 2, "x86_64")) == "<seek.SEEK_END: 2>"


def test_families_are_built_once_and_all_can_be() -> None:
    assert flags.family("open", "x86_64") is flags.family("open", "x86_64")
    for name in flags.names():
        for arch in ARCHES:
            kind = flags.family(name, arch)
            assert issubclass(kind, enum.IntFlag if flags.is_flags(name) else enum.IntEnum)
            assert {key: member.value for key, member in kind.__members__.items()} == flags.members(
                name, arch
            )


def test_no_two_flags_of_a_family_share_a_value() -> None:
    for name in flags.names():
        values = list(flags.members(name, "x86_64").values())
        assert len(set(values)) == len(values) or name in ("errno", "signal"), name


def test_unknown_families_are_told_what_they_could_have_been() -> None:
    with pytest.raises(UsageError, match="unknown flag family 'opne'; did you mean open"):
        flags.members("opne", "x86_64")
    with pytest.raises(UsageError, match="unknown architecture 'vax'"):
        flags.members("open", "vax")
