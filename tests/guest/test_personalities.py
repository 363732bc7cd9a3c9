"""Personalities other than Linux, and what a guest of Linux may not do."""

from __future__ import annotations

import importlib.util
import os
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from trapline import Errno, on
from trapline.errors import UsageError
from trapline.guest import Convention, GuestExit, Linux, Personality, does

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "guests" / "foreign_kernel.py"


@pytest.fixture(scope="session")
def tiny():
    spec = importlib.util.spec_from_file_location("foreign_kernel", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CALL = """
    push rbx
    mov rbx, rdi
    mov r8, rsi
    mov r9, rdx
    {enter}
    setc al
    movzx eax, al
    shl rax, 32
    or rax, rdx
    pop rbx
    ret
"""


@pytest.mark.parametrize("enter", ["syscall", "int 0x80"])
def test_a_foreign_kernel_has_its_own_numbers_registers_and_errors(guest, assemble, tiny, enter):
    personality = tiny.Tiny()
    g = guest(personality=personality)
    code = g.arena.load_code(assemble(CALL.format(enter=enter)))
    text = g.arena.map(4096)
    g.arena.memory(text, 5)[:] = b"hello"
    for _ in range(20):
        assert g.call(code, 0x1002, 40, 2) == 42
    assert g.call(code, 0x1001, text, 5) == 5
    assert personality.said == ["hello"]
    assert g.call(code, 0x1003) == 1 << 32 | 2
    assert g.call(code, 39) == 1 << 32 | 99
    assert g.call(code, 0x1001, 8, 5) == 1 << 32 | Errno.EFAULT
    with pytest.raises(GuestExit) as caught:
        g.call(code, 0x1000, 12)
    assert caught.value.status == 12


def test_hooks_see_foreign_calls_by_their_names(guest, assemble, tiny):
    seen = []

    @on("*")
    def look(call):
        seen.append((call.name, call.nr, call.args.arg0, call.args.arg1))
        if call.name == "fetch":
            return call.reply(7)

    g = guest(personality=tiny.Tiny(), hooks=[look])
    code = g.arena.load_code(assemble(CALL.format(enter="syscall")))
    assert g.call(code, 0x1002, 1, 2) == 3
    assert g.call(code, 0x1003, 4, 5) == 7
    assert seen == [("add", 0x1002, 1, 2), ("fetch", 0x1003, 4, 5)]


def test_hooks_are_for_foreign_calls_by_their_names(guest, assemble, tiny):
    seen = []

    @tiny.Tiny.on("fetch", "add")
    def look(call):
        seen.append(call.name)
        return call.reply(7) if call.name == "fetch" else None

    @tiny.Tiny.on_return("add")
    def more(call):
        return call.reply(call.result + 1)

    g = guest(personality=tiny.Tiny(), hooks=[look, more])
    code = g.arena.load_code(assemble(CALL.format(enter="syscall")))
    for _ in range(20):
        assert g.call(code, 0x1003) == 7
        assert g.call(code, 0x1002, 40, 2) == 43
    assert g.call(code, 0x1001, g.arena.map(4096), 0) == 0
    assert seen == ["fetch", "add"] * 20
    assert g.calls == {"fetch": 20, "add": 20}
    with pytest.raises(UsageError, match="no number for 'open'"):
        tiny.Tiny.on("open")


def test_numbers_of_a_foreign_kernel_are_never_linuxs(guest, assemble):
    """From a rewritten site too, though it has no method for most of them."""

    class Small(Personality):
        numbers: ClassVar = {39: "one"}

        @does("one")
        def one(self, thread, call):
            return 1

    g = guest(personality=Small())
    code = g.arena.load_code(assemble("mov eax, edi\nsyscall\nret"))
    for _ in range(40):
        assert g.call(code, 39) == 1
        assert g.call(code, 110) == -Errno.ENOSYS
        assert g.call(code, 425) == -Errno.ENOSYS


def test_a_method_for_a_name_without_a_number_is_an_error(guest):
    class Wrong(Personality):
        numbers: ClassVar = {1: "one"}

        @does("two")
        def two(self, thread, call):
            return 0

    with pytest.raises(UsageError, match="no number for 'two'"):
        guest(personality=Wrong())


def test_a_convention_names_registers():
    with pytest.raises(UsageError, match="no register 'eax'"):
        Convention("eax", ("rdi",), "rax")


def test_a_personality_belongs_to_one_guest(guest):
    personality = Linux()
    guest(personality=personality)
    with pytest.raises(UsageError, match="one guest"):
        guest(personality=personality)


def test_linux_has_methods_added_and_replaced(guest, assemble):
    class Mine(Linux):
        @does("getppid")
        def parent(self, thread, call):
            return 4242

        @does("getuid")
        def user(self, thread, call):
            thread.registers.rax = 17

    g = guest(personality=Mine())
    assert g.call(g.arena.load_code(assemble("mov eax, 110\nsyscall\nret"))) == 4242
    assert g.call(g.arena.load_code(assemble("mov eax, 102\nsyscall\nret"))) == 17


@pytest.mark.parametrize(
    ("number", "error"),
    [(57, Errno.ENOSYS), (59, Errno.EPERM), (282, Errno.ENOSYS), (317, Errno.EPERM), (101, Errno.EPERM),
     (105, Errno.EPERM), (425, Errno.EPERM), (334, Errno.ENOSYS)],
)  # fmt: skip
def test_what_would_change_this_process_is_refused(guest, assemble, number, error):
    g = guest()
    assert g.call(g.arena.load_code(assemble(f"mov eax, {number}\nsyscall\nret"))) == -error


def test_memory_outside_of_the_arena_is_not_the_guests(guest, assemble):
    g = guest()
    code = g.arena.load_code(assemble("mov r10, rcx\nmov eax, 9\nsyscall\nret"))
    here = id(g) & -4096
    assert g.call(code, here, 4096, 3, 0x32) == -Errno.ENOMEM
    got = g.call(code, here, 4096, 3, 0x22)
    assert got in g.arena
    unmap = g.arena.load_code(assemble("mov eax, 11\nsyscall\nret"))
    assert g.call(unmap, here, 4096) == 0
    assert g.call(unmap, got, 4096) == 0
    assert g.arena.find(got) is None


def test_a_guest_with_files_of_its_own_closes_none_of_ours(guest, assemble):
    reader, writer = os.pipe()
    before = os.getcwd()
    g = guest(personality=Linux(own_files=True))
    path = g.arena.map(4096)
    g.arena.memory(path, 2)[:] = b"/\0"
    close = g.arena.load_code(assemble("mov eax, 3\nsyscall\nret"))
    assert g.call(close, writer) == 0
    assert g.call(close, writer) == -Errno.EBADF
    assert g.call(g.arena.load_code(assemble("mov eax, 80\nsyscall\nret")), path) == 0
    assert os.write(writer, b"x") == 1
    assert os.getcwd() == before
    os.close(reader)
    os.close(writer)


def test_fs_is_the_guests_own(guest, assemble):
    """arch_prctl(ARCH_SET_FS), then a load by fs: before a hook and after it."""
    mine = []

    @on("getppid")
    def look(call):
        mine.append(threading.current_thread())
        return call.reply(0)

    g = guest(hooks=[look])
    data = g.arena.map(4096)
    g.arena.memory(data, 8)[:] = (1234).to_bytes(8, "little")
    text = "mov rsi, rdi\nmov edi, 0x1002\nmov eax, 158\nsyscall\nmov eax, 110\nsyscall\nmov rax, fs:[0]\nret"
    assert g.call(g.arena.load_code(assemble(text)), data) == 1234
    assert mine
