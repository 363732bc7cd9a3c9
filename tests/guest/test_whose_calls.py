"""Which calls are a guest's and which are this process's."""

from __future__ import annotations

import ctypes
import os
import threading

import pytest
from machine_calls import CALLS, GETPPID, call_of, orphan

from trapline import on
from trapline.errors import UsageError


def test_the_hosts_own_calls_are_not_caught(guest, assemble, outside):
    """Neither libc's nor those of any other machine code that is not the guest's."""
    libc = ctypes.CDLL(None)
    assembly = ctypes.CFUNCTYPE(ctypes.c_long)(outside[0])

    @on("*")
    def look(call):
        assert call.ip in call.guest.arena
        seen.append(call.name)
        libc.getppid()
        os.getppid()
        os.stat("/")
        assert assembly() == os.getppid()
        ctypes.CDLL(None).syscall(110)

    seen: list[str] = []
    g = guest(hooks=[look])
    g.call(g.arena.load_code(assemble(call_of(GETPPID))))
    assert seen == ["getppid"]


def test_code_outside_the_arena_is_the_guests_by_a_range(guest, outside):
    g = guest(hooks=[orphan], ranges=[outside])
    assert g.call(outside[0]) == 77
    g.remove_range(*outside)
    assert g.call(outside[0]) == os.getppid()


def test_ranges_come_and_go_while_the_guest_runs(guest, assemble, outside):
    """The guest calls code outside, and hooks of its own call before and after that change what is the guest's."""

    @on("getuid")
    def change(call):
        if call.args.arg0 == 1:
            call.guest.add_range(*outside)
        else:
            call.guest.remove_range(*outside)

    g = guest(hooks=[orphan, change])
    text = """
        push rbx
        push r12
        mov rbx, rdi
        xor r12d, r12d
        {call}
        mov edi, 1
        mov eax, 102
        syscall
        {call}
        mov edi, 0
        mov eax, 102
        syscall
        {call}
        mov rax, r12
        pop r12
        pop rbx
        ret
    """.format(call="call rbx\ncmp eax, 77\nsete al\nmovzx eax, al\nlea r12, [rax+r12*2]")
    code = g.arena.load_code(assemble(text))
    for _ in range(3):
        assert g.call(code, outside[0]) == 0b010


def test_a_range_that_was_not_added_cannot_be_removed(guest):
    with pytest.raises(UsageError, match="no range"):
        guest().remove_range(0x1000, 0x2000)


@pytest.fixture
def library(victim):
    made = ctypes.CDLL(victim("guest/host_library", "library"))
    made.own_getppid.restype = made.libc_getppid.restype = ctypes.c_long
    return made


def test_libraries_make_their_calls_while_a_guest_runs(guest, assemble, library):
    """On the guest's thread and on others, with instructions of their own and by libc."""
    outside, wrong = [], []
    over = threading.Event()

    @on("*")
    def look(call):
        if call.ip not in call.guest.arena:
            outside.append(call)
        if call.name != "getppid":
            return None
        if count[0] % 16 == 0:
            check()
        count[0] += 1
        return call.reply(77)

    def check():
        got = (library.own_getppid(), library.libc_getppid())
        if got != (os.getppid(), os.getppid()):
            wrong.append(got)

    def work():
        while not over.is_set():
            check()

    count = [0]
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        g = guest(hooks=[look])
        code = g.arena.load_code(assemble(CALLS))
        for _ in range(4):
            assert g.call(code, 100, GETPPID) == 77
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert count == [400]
    assert not outside
    assert not wrong


def test_the_same_instruction_is_caught_where_it_is_the_guests(guest, library):
    """So the calls of the library are not overlooked: what they are told by is where they are made."""
    address = ctypes.cast(library.own_getppid, ctypes.c_void_p).value
    g = guest(hooks=[orphan])
    assert g.call(address) == os.getppid()
    assert library.own_getppid() == os.getppid()
    page = address & -4096
    g.add_range(page, page + 4096)
    assert g.call(address) == 77
    g.remove_range(page, page + 4096)
    assert g.call(address) == os.getppid()
    assert library.own_getppid() == os.getppid()
