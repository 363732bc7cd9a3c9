"""Ask at the terminal before a program removes a file.

    trapline run -s examples/ask_unlink.py -- rm -r old/
    trapline run -s examples/ask_unlink.py --set seconds=10 --set default=yes -- make clean

A call that waits for a person needs a deadline: signals that the program handles wait as long as the answer
does. After ``seconds`` without one, or where there is no terminal, ``default`` is the answer. No means
EPERM. One question is asked at a time; other threads and processes of the program go on meanwhile.

It guards against mistakes, not against attackers: after a yes the kernel reads the path again, and a
hostile thread could have changed it. rename() over a file and truncation are not asked about.
"""

import select
import threading
import time

import trapline
from trapline import Errno

seconds = trapline.option("seconds", 30.0, "how long to wait for an answer")
default = trapline.option("default", False, "the answer when nobody answers: yes or no")

_one_at_a_time = threading.Lock()


def ask(question: str) -> bool:
    try:
        terminal = open("/dev/tty", "r+b", buffering=0)  # noqa: SIM115
    except OSError:
        return default
    with terminal:
        terminal.write(f"{question} [{'Y/n' if default else 'y/N'}, {seconds:g} s] ".encode())
        poller = select.poll()
        poller.register(terminal, select.POLLIN)
        deadline = time.monotonic() + seconds
        if not poller.poll(max(deadline - time.monotonic(), 0) * 1000):
            terminal.write(b"no answer\n")
            return default
        answer = terminal.readline().strip().lower()
    return default if not answer else answer in (b"y", b"yes")


@trapline.on("unlink", "unlinkat", "rmdir")
def guard(call: trapline.Call) -> object:
    try:
        path = call.path
    except trapline.MemoryAccessError:
        path = "(a path that it does not let us see)"
    if path is None:
        return None  # The kernel will refuse it.
    with _one_at_a_time:
        if not call.waits():
            return None  # Killed while others were asked about.
        allowed = ask(f"{call.process.comm}[{call.pid}] removes {path!r}. Allow?")
    return call.proceed() if allowed else call.fail(Errno.EPERM)
