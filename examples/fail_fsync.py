"""Let the third fsync of a program fail: does the database notice, and is it whole afterwards?

    trapline run -s examples/fail_fsync.py --set nth=3 -- sqlite3 test.db 'insert into t values (1)'

The same as a rule, without Python:

    trapline run -e 'fsync,fdatasync:error=EIO:when=3' -- sqlite3 test.db 'insert into t values (1)'

This form says which file it was, and can pick by name: ``--set only=*-journal`` counts only those.
"""

import fnmatch
import sys
import threading

import trapline
from trapline import Errno

nth = trapline.option("nth", 3, "which call fails, counted from 1 over the whole program")
only = trapline.option("only", "*", "count only files whose path matches this glob")

# Hooks run in several threads, one for each call that waits.
_lock = threading.Lock()
_count = 0


@trapline.on("fsync", "fdatasync")
def fail(call: trapline.Call) -> object:
    global _count  # noqa: PLW0603
    path = call.fd_path(call.args.fd) or "?"
    if not fnmatch.fnmatch(path, only):
        return None
    with _lock:
        _count += 1
        number = _count
    if number != nth:
        return None
    print(f"fail_fsync: {call.name} number {number} fails: {path}", file=sys.stderr)
    return call.fail(Errno.EIO)
