"""Rewritten code does what the original did, to the last register, flag, byte and fault address."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trapline.rewriting.blocks import encode
from trapline.rewriting.windows import Plan, Refusal, plan
from trapline.rewriting.wire import pack

from .machine import CODE, GATE, REGISTERS, TRAP_FLAG, Machine
from .streams import Stream, streams

SETTINGS = settings(deadline=None, suppress_health_check=list(HealthCheck))
VALUES = st.one_of(
    st.integers(0, 2), st.integers(0, (1 << 64) - 1), st.sampled_from((1 << 63, (1 << 64) - 1))
)
FLAGS = st.sampled_from((0x202, 0x203, 0x242, 0x2C6, 0xA02, 0xAD7))


def registers_from(draw: st.DataObject, stream: Stream) -> dict[str, int]:
    found = {name: draw.draw(VALUES, name) for name in REGISTERS if name not in ("rax", "rsp", "rsi")}
    return found | {"rax": stream.number}


def planned(stream: Stream, known: bool) -> Plan | Refusal:
    return plan(stream.code, CODE, stream.site, starts=[CODE] if known else None)


@settings(SETTINGS, max_examples=250)
@given(data=st.data(), known=st.booleans(), in_two=st.booleans(), flags=FLAGS)
def test_a_rewritten_stream_does_what_the_original_did(
    machine: Machine, data: st.DataObject, known: bool, in_two: bool, flags: int
) -> None:
    stream = data.draw(streams(machine.ending()))
    found = planned(stream, known)
    if isinstance(found, Refusal):
        return
    registers = registers_from(data, stream)
    answer = pack(found, encode(found, GATE, in_two=in_two))
    native = machine.run(stream.code, registers=registers, flags=flags)
    rewritten = machine.run(stream.code, site=stream.site, answer=answer, registers=registers, flags=flags)
    assert rewritten.visible == native.visible


@settings(SETTINGS, max_examples=120)
@given(data=st.data(), in_two=st.booleans())
def test_a_thread_that_stands_in_the_window_goes_on(
    machine: Machine, data: st.DataObject, in_two: bool
) -> None:
    stream = data.draw(streams(machine.ending()))
    found = planned(stream, True)
    if isinstance(found, Refusal):
        return
    registers = registers_from(data, stream)
    answer = pack(found, encode(found, GATE, in_two=in_two))
    for boundary in found.boundaries:
        entry = stream.site + boundary
        native = machine.run(stream.code, entry=entry, registers=registers)
        landed = machine.run(stream.code, site=stream.site, entry=entry, answer=answer, registers=registers)
        assert landed.visible == native.visible
        assert landed.landings == (0 if boundary == 0 and found.keeps_syscall else 1)


@settings(SETTINGS, max_examples=80)
@given(data=st.data(), in_two=st.booleans())
def test_a_debugger_steps_through_the_same_instructions(
    machine: Machine, data: st.DataObject, in_two: bool
) -> None:
    stream = data.draw(streams(machine.ending()))
    found = planned(stream, True)
    if isinstance(found, Refusal):
        return
    registers = registers_from(data, stream)
    answer = pack(found, encode(found, GATE, in_two=in_two))
    native = machine.run(stream.code, registers=registers, flags=0x202 | TRAP_FLAG)
    rewritten = machine.run(
        stream.code, site=stream.site, answer=answer, registers=registers, flags=0x202 | TRAP_FLAG
    )
    assert rewritten.visible == native.visible
    # Where the kernel comes back the first step is swallowed, natively as in the block, where one more follows.
    swallowed = stream.site + 2
    assert [hex(at) for at in rewritten.trace if at != swallowed] == [
        hex(at) for at in native.trace if at != swallowed
    ]


def test_a_branch_on_rcx_leads_where_it_led(machine: Machine) -> None:
    # jrcxz 1f; cltd; syscall; 1: call 2f; 2: pop %rax
    code = bytes.fromhex("e303 99 0f05 e800000000 58") + machine.ending()
    site = CODE + 3
    found = plan(code, CODE, site, starts=[CODE])
    assert isinstance(found, Plan)
    assert (found.start, found.end) == (-3, 2)
    for in_two in (False, True):
        answer = pack(found, encode(found, GATE, in_two=in_two))
        for rcx in (0, 1):
            registers = {"rcx": rcx, "rdx": 7, "rax": 39}
            native = machine.run(code, registers=registers)
            assert native.registers["rdx"] == (7 if rcx == 0 else 0)
            assert machine.run(code, site=site, answer=answer, registers=registers).visible == native.visible
