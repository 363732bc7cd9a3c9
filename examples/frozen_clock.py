"""Stop the clock on the wall for a program: reproducible builds, expiry dates, leap days.

    trapline run -s examples/frozen_clock.py --set at=2000-02-29T12:00:00 -- date

Every way to ask Linux for the time of day answers the same instant (UTC unless ``at`` has an offset).
Static and Go programs are covered too: the vDSO, which answers clock calls without a system call, is hidden
from the program because this file hooks those calls. Monotonic clocks run on, so timeouts and schedulers
work.

Not covered: the time stamps that the kernel gives to files, the processor's own counter (rdtsc), and absolute
timers, which fire by the real clock.
"""

import datetime

import trapline
from trapline import arg

at = trapline.option("at", "2000-02-29T12:00:00", "the moment, as ISO 8601")

_moment = datetime.datetime.fromisoformat(at)
if _moment.tzinfo is None:
    _moment = _moment.replace(tzinfo=datetime.UTC)
_since = _moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
SECONDS = _since // datetime.timedelta(seconds=1)
MICROSECONDS = _since.microseconds

#: CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI. The filter tests this: other clocks never come here.
WALL_CLOCKS = (0, 5, 11)


@trapline.on("clock_gettime", "clock_gettime64", when=arg("which_clock").isin(WALL_CLOCKS))
def clock_gettime(call: trapline.Call) -> object:
    # timespec of 64 or 32 bits: the call's own prototype knows.
    layout = call.signature.params[1].struct or "timespec"
    call.write_struct(layout, call.args.tp, tv_sec=SECONDS, tv_nsec=MICROSECONDS * 1000)
    return call.reply(0)


@trapline.on("gettimeofday")
def gettimeofday(call: trapline.Call) -> object:
    if call.args.tv:
        call.write_struct("timeval", call.args.tv, tv_sec=SECONDS, tv_usec=MICROSECONDS)
    if call.args.tz:
        call.write_struct("timezone", call.args.tz)
    return call.reply(0)


@trapline.on("time")
def time(call: trapline.Call) -> object:
    if call.args.tloc:
        call.write(call.args.tloc, SECONDS.to_bytes(4 if call.arch == "i386" else 8, "little"))
    return call.reply(SECONDS)
