"""Hooks that see results, replace them, and have calls performed."""

from __future__ import annotations

import errno
import os

import pytest

import trapline as library
from trapline import Errno, on, on_return


@pytest.fixture
def calls(victim, inside):
    """``calls(words, hooks)`` runs the ``caller`` victim under these hooks and returns its lines."""

    def start(words, hooks, **options):
        done = library.run(
            [victim("caller"), *words], hooks=hooks, engine=inside, capture_output=True, text=True, **options
        )
        assert done.returncode == 0, done
        return done.stdout.splitlines()

    return start


def test_a_hook_on_return_sees_every_result_and_error(calls):
    seen = []

    @on_return("close", "getuid", "syscall_700")
    def hook(call):
        if call.name != "close" or call.args.fd in (-1, 77):
            seen.append((call.name, call.result, call.error))

    lines = calls(["sys 102", "sys 3 -1", "sys 3 77", "sys 700 1 2"], [hook])
    assert lines == [str(os.getuid()), "-9", "-9", "-38"]
    assert seen == [
        ("getuid", os.getuid(), None),
        ("close", -errno.EBADF, Errno.EBADF),
        ("close", -errno.EBADF, Errno.EBADF),
        ("syscall_700", -errno.ENOSYS, Errno.ENOSYS),
    ]


def test_a_result_is_replaced_kept_or_made_an_error(calls):
    @on_return("getuid")
    def replace(call):
        return call.reply(call.result + 1000)

    @on_return("getppid")
    def refuse(call):
        return call.fail(Errno.EIO)

    @on_return("close")
    def keep(call):
        return None

    lines = calls(["sys 102", "sys 110", "sys 3 -1", "thread sys 102"], [replace, refuse, keep])
    assert lines == [str(os.getuid() + 1000), "-5", "-9", str(os.getuid() + 1000)]


@pytest.mark.parametrize("value", [0, 1, -1, -4095, -4096, 2**31, 2**63 - 1, -(2**63)])
def test_any_number_can_be_the_result(calls, value):
    @on_return("syscall_700")
    def hook(call):
        return call.reply(value)

    # The C library takes -4095 to -1 for errors.
    assert calls(["sys 700"], [hook]) == [str(value)]


def test_a_result_that_a_hook_gave_is_seen_on_return(calls):
    seen = []

    @on("getuid")
    def before(call):
        return call.reply(41)

    @on_return("getuid")
    def after(call):
        seen.append(call.result)
        return call.reply(call.result + 1)

    lines = calls(["sys 102"], [before, after])
    # Whether it is shown or not is the same on every engine: what never reached the kernel has no result of its own.
    assert (lines, seen) in ((["42"], [41]), (["41"], []))


def test_the_same_results_are_shown_by_every_engine_that_shows_any(victim, tmp_path):
    from trapline.engines.base import ENGINES, STARTABLE

    answers = {}
    for engine in STARTABLE:
        if "result" not in ENGINES[engine]:
            continue
        seen = []

        @on("getuid")
        def before(call):
            return call.reply(41)

        @on_return("*")
        def after(call, seen=seen):
            if call.name in ("getuid", "getgid", "getppid", "lseek"):
                seen.append((call.name, call.result, call.error, tuple(call.raw[:2])))

        words = ["sys 102 1 2", "sys 104 3 4", "sys 8 1 2", "fork sys 104 5 6", "thread sys 102 7 8"]
        done = library.run(
            [victim("caller"), *words], hooks=[before, after], engine=engine, capture_output=True, text=True
        )
        answers[engine] = (done.stdout, seen)
    assert len({str(answer) for answer in answers.values()}) == 1, answers


def test_a_hook_may_have_the_call_performed_and_then_decide(calls, tmp_path):
    results = []

    @on("getppid")
    def keeps(call):
        results.append(call.perform())

    @on("getuid")
    def replaces(call):
        results.append(call.perform())
        return call.reply(3)

    @on("close")
    def refuses(call):
        if call.args.fd == 99:
            results.append(call.perform())
            return call.fail(Errno.EPERM)
        return None

    lines = calls(["sys 110", "sys 102", "sys 3 99"], [keeps, replaces, refuses])
    assert lines[0] == str(results[0])
    assert lines[1:] == ["3", "-1"]
    assert results[1:] == [os.getuid(), -errno.EBADF]


def test_what_is_performed_is_performed_once(calls, tmp_path):
    results = []

    @on("mkdir")
    def hook(call):
        results.append(call.perform())

    assert calls([f"sys 83 s:{tmp_path}/made 0755", f"sys 83 s:{tmp_path}/made 0755"], [hook]) == ["0", "-17"]
    assert results == [0, -17]


def test_data_that_a_read_returned_is_there_on_return_and_can_be_changed(calls, tmp_path):
    (tmp_path / "file").write_text("secret text")
    path = str(tmp_path / "file")

    @on_return("read")
    def hook(call):
        if call.result > 0 and call.read(call.args.buf, call.result) == b"secret text":
            call.write(call.args.buf, b"public")

    assert calls([f"sys 2 s:{path} 0", "cat $"], [hook])[1] == "public text"


def test_hooks_on_return_run_at_the_same_time_for_threads(victim, inside):
    import threading

    meeting = threading.Barrier(8, timeout=60)

    @on_return("getppid")
    def hook(call):
        meeting.wait()
        return call.reply(1)

    assert library.run([victim("threads"), "8"], hooks=[hook], engine=inside).returncode == 0


def test_an_async_hook_sees_results(calls):
    import asyncio

    @on_return("getuid")
    async def hook(call):
        await asyncio.sleep(0.01)
        return call.reply(call.result + 1)

    assert calls(["sys 102"], [hook]) == [str(os.getuid() + 1)]


def test_a_result_before_the_call_is_refused_with_a_reason(calls):
    said = []

    @on("getuid")
    def hook(call):
        try:
            _ = call.result
        except Exception as error:
            said.append(str(error))
        return call.reply(1)

    assert calls(["sys 102"], [hook]) == ["1"]
    assert len(said) == 1
