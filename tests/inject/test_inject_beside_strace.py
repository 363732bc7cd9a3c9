"""strace's injections have the effect that they have under strace, and what it refuses is refused."""

from __future__ import annotations

import subprocess

import pytest

EXPRESSIONS = [
    "getppid:error=EIO",
    "getppid:error=eperm:when=1",
    "getppid:error=5:when=3",
    "getppid:error=EAGAIN:when=3+",
    "getppid:error=EINTR:when=2+2",
    "getppid:error=EINTR:when=2..4",
    "getppid:error=EINTR:when=2..6+2",
    "getppid:error=EINTR:when=2..6+",
    "getppid:error=EINTR:when=7+1",
    "getppid:error=EINTR:when=8",
    "getppid:error=EINTR:when=3:when=5",
    "getppid:retval=0",
    "getppid:retval=0x7fff:when=1+6",
    "getppid:retval=77:when=2+",
    "getppid:error=EIO:syscall=getuid",
    "getppid:retval=7:syscall=gettid:when=4",
    "getuid,getpgid:error=EPERM:when=2",
    "getuid,getpgid,?nosuchcall:retval=5:when=3",
    "?nosuchcall:error=EIO",
    "/^getp:error=EIO:when=2",
    "/^get[up]:retval=3:when=2+",
    "39,102:error=EIO",
    "getuid@64:error=EIO",
    "%pure:error=EIO:when=2",
    "%creds:retval=9:when=3",
    "none:error=EIO",
    "openat:error=ENFILE:when=6",
    "read:error=EIO:when=2",
    "fstat,close:delay_enter=1:error=EBADF:when=4",
    "getppid:signal=SIGUSR1",
    "getppid:signal=usr1:when=2+3",
    "getppid:signal=10:error=EIO:when=2",
    "getppid:signal=SIGSEGV:when=2",
    "getppid:signal=TRAP:when=2",
    "getppid:signal=SYS:when=2",
    "getppid:signal=40:when=1+2",
    "getppid:signal=SIGCHLD",
    "getppid:signal=SIGTERM:when=5",
    "getppid:signal=KILL:when=5",
    "getppid:signal=URG:retval=4:when=5",
    "getuid:signal=SIGRT_8:when=2",
    "nanosleep,poll:signal=ALRM",
    "getuid:delay_enter=300ms:when=2",
    "getuid:delay_enter=300000:when=1",
    "getpgid:delay_enter=0.3s:retval=8:when=2",
]
#: These need an engine that sees results.
WITH_RESULT = [
    "getuid:delay_exit=300ms:when=2",
    "getuid:delay_exit=300000us:error=EIO:when=2",
    "write:poke_enter=@arg2=5859",
    "write:poke_enter=@arg2=585960:retval=3",
    "write:poke_exit=@arg2=6162,",
    "write:poke_exit=@arg2=6162:error=EIO",
    "read:poke_enter=@arg2=313233343536:when=2+",
    "read:poke_exit=@arg2=3132333435363738:when=2+",
    "openat:poke_enter=@arg2=2f64:when=5",
    "getppid:poke_enter=@arg7=00:error=EIO",
]
REFUSED = [
    "getppid",
    "getppid:when=2",
    "getppid:error=EIO:retval=1",
    "getppid:error=0",
    "getppid:error=4096",
    "getppid:error=0x5",
    "getppid:error=ENOSUCH",
    "getppid:error=EIO:error=EPERM",
    "getppid:error= EIO",
    "getppid:error=",
    "getppid:ERROR=EIO",
    "getppid:nosuch=1",
    "getppid:retval=99999999999999999999",
    "getppid:retval=x",
    "getppid:when=0:error=EIO",
    "getppid:when=1+0:error=EIO",
    "getppid:when=3..2:error=EIO",
    "getppid:when=65536:error=EIO",
    "getppid:when=1..65535:error=EIO",
    "getppid:when=1..:error=EIO",
    "getppid:when=1..2..3:error=EIO",
    "getppid:when=1+1+1:error=EIO",
    "getppid:when=+:error=EIO",
    "getppid:when=0x2:error=EIO",
    "getppid:signal=SIGNOSUCH",
    "getppid:signal=0",
    "getppid:signal=65",
    "getppid:signal=SIGRT_40",
    "getppid:signal=SIGRTMIN+1",
    "getppid:delay_enter=x",
    "getppid:delay_enter=-1",
    "getppid:delay_enter=1m",
    "getppid:delay_enter=1s:delay_enter=2s",
    "getppid:poke_enter=@arg1",
    "getppid:poke_enter=@arg0=00",
    "getppid:poke_enter=@arg8=00",
    "write:poke_enter=@arg2=0",
    "write:poke_enter=@arg2=zz",
    "write:poke_enter=arg2=41",
    "write:poke_enter=@arg2=41,@arg2=42",
    "getppid:syscall=write:error=EIO",
    "getppid:syscall=getuid",
    "nosuchcall:error=EIO",
    "%nosuchclass:error=EIO",
    "600:error=EIO",
    ":error=EIO",
    "!:error=EIO",
    "/(:error=EIO",
    "getppid@x:error=EIO",
    "getppid :error=EIO",
]


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    out = done.stdout
    if not any("delay" in word for word in words):  # a call may be slow where a machine has much to do
        out = out.replace(" slow\n", "\n")
    return done.returncode, out, done.stderr


@pytest.fixture(scope="module")
def beside(strace, victim):
    """What the victim does under strace with an expression, asked once."""
    program, found = victim("injected"), {}

    def ask(expression):
        if expression not in found:
            found[expression] = run(
                strace, "-f", "-qq", "-o", "/dev/null", "-e", f"inject={expression}", program
            )
        return found[expression]

    return ask


def same(beside, trapline, program, engine, expression):
    expected = beside(expression)
    # strace ends itself by the signal that its program has ended by.
    status = 128 - expected[0] if expected[0] < 0 else expected[0]
    got = run(trapline, "inject", "-q", "--engine", engine, "-e", expression, "--", program)
    assert (got[0], got[1].splitlines(), got[2]) == (status, expected[1].splitlines(), "")


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_injection_has_the_effect_that_it_has_under_strace(every, expression, beside, trapline, victim):
    same(beside, trapline, victim("injected"), every, expression)


@pytest.mark.parametrize("expression", WITH_RESULT)
def test_one_that_needs_the_result_too(with_results, expression, beside, trapline, victim):
    same(beside, trapline, victim("injected"), with_results, expression)


@pytest.mark.parametrize(
    "expression", ["getppid", "getppid:error=EPERM:when=2", "getppid:error=EIO:when=2..3"]
)
def test_fault_is_an_injection_with_enosys(every, expression, strace, trapline, victim):
    program = victim("injected")
    expected = run(strace, "-f", "-qq", "-o", "/dev/null", "-e", f"fault={expression}", program)
    got = run(trapline, "inject", "-q", "--engine", every, "-e", f"fault={expression}", "--", program)
    assert got == expected


@pytest.mark.parametrize("expression", REFUSED)
def test_what_strace_refuses_is_refused_with_what_would_be_right(expression, strace, trapline):
    assert run(strace, "-o", "/dev/null", "-e", f"inject={expression}", "true")[0] != 0
    status, out, err = run(trapline, "inject", "-e", expression, "--", "true")
    assert (status, out) == (125, "")
    assert err.startswith(f"trapline: '{expression}': ")
    assert err.count("\n") == 1
