"""The same hooks written for python-ptrace (x86-64). usage: peer_ptrace.py getppid|openat COMMAND [ARG...].

It knows no filter: every call of the program stops twice.
"""

from __future__ import annotations

import sys

from ptrace.debugger import ProcessExit, ProcessSignal, PtraceDebugger  # type: ignore[import-untyped]
from ptrace.debugger.child import createChild  # type: ignore[import-untyped]

_NUMBERS = {"getppid": 110, "openat": 257}


def main() -> int:
    kind, *command = sys.argv[1:]
    number = _NUMBERS[kind]
    debugger = PtraceDebugger()
    debugger.addProcess(createChild(command, False), is_attached=True).syscall()
    entering = True
    while True:
        try:
            event = debugger.waitSyscall()
        except ProcessExit as exited:
            return exited.exitcode or 0
        except ProcessSignal as signal:
            signal.process.syscall(signal.signum)
            continue
        process = event.process
        if process.getreg("orig_rax") == number:
            if kind == "openat" and entering:
                path, _ = process.readCString(process.getreg("rsi"), 4096)
                if path == b"/nowhere":
                    process.setreg("orig_rax", -1)
            elif kind == "getppid" and not entering:
                process.setreg("rax", 1)
            entering = not entering
        process.syscall()


if __name__ == "__main__":
    sys.exit(main())
