"""Say which system calls take long, and what came of them.

    trapline run -s examples/slow_calls.py --set over=50 --set only=read,recvfrom,connect -- make test

Each call that takes at least ``over`` milliseconds is told on standard error, with its arguments, its result and how
long it took. The time is that of the whole call, also of one that waits for somebody else. An engine is chosen that
sees results: ``notify`` does not.

Not covered: calls that end their process, as no result comes of them; what the vDSO answers without a call; and what
this file costs itself: about ten microseconds a call, so that nothing below a tenth of a millisecond says much.
"""

import sys
import threading
import time

import trapline
from trapline import decode

over = trapline.option("over", "100", "milliseconds from which on a call is slow")
only = trapline.option("only", "*", "the calls to look at, with commas between them")

LIMIT = float(over) / 1000
NAMES = [name.strip() for name in only.split(",")]

#: When the call of a thread began: a thread makes one at a time.
_began: dict[int, float] = {}
_lock = threading.Lock()


@trapline.on(*NAMES)
def begin(call: trapline.Call) -> object:
    with _lock:
        _began[call.tid] = time.monotonic()


@trapline.on_return(*NAMES)
def end(call: trapline.Call) -> object:
    now = time.monotonic()
    with _lock:
        took = now - _began.pop(call.tid, now)
    if took >= LIMIT:
        text = decode.call_text(call.name, call.arch, call.raw, call.read)
        result = call.error.name if call.error else call.result
        # In one piece, as several threads may have something to tell.
        sys.stderr.write(f"slow_calls: {text} = {result} took {took * 1000:.0f} ms in {call.pid}\n")
