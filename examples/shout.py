"""Change what a program writes, without its noticing: capitals, in this case.

    trapline run -s examples/shout.py -- echo hello

The kernel gets a copy of the buffer with other letters in it; the program's own memory, and the number of bytes that
it is told were written, stay as they were. ``only`` is the descriptor that is changed. An engine is chosen that can
change arguments: ``notify`` cannot.

Not covered: ``writev``, ``sendto``, ``sendfile``, ``splice`` and mapped files, by which data gets out as well. Only
letters of ASCII are changed, so that nothing grows.
"""

import trapline
from trapline import arg

only = trapline.option("only", "1", "the descriptor whose data are changed")

FD = int(only)


@trapline.on("write", when=arg("fd") == FD, changes_args=True)
def shout(call: trapline.Call) -> object:
    try:
        data = call.read(call.args.buf, call.args.count)
    except trapline.MemoryAccessError:
        return call.proceed()  # the kernel says EFAULT, or writes as much as there is
    call.write_arg("buf", data.upper())
