"""What it costs to see every call of a program, beside strace and perf; and to see one that it never makes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import Aim, Contender, Group
from bench.programs import ENVIRONMENT, TRAPLINE, Programs, elapsed, printed, printing
from trapline.trace.file import count_calls

_BYTES, _STRACED_BYTES = 1_000_000, 50_000
_IMPORTS = "import asyncio, email.mime.text, http.server, json, sqlite3, unittest, xml.dom.minidom"
_MILLISECOND = 1e6
_RECORDS, _PER_SECOND = 1_000_000, 1_000_000
_REQUESTS = "20000"
_NEVER = "mknod"
#: A contender's way of tracing: what goes in front of a command.
Way = Callable[[list[str]], list[str]]


def groups(programs: Programs) -> list[Group]:
    """Return the groups ``trace-dd`` to ``trace-redis``, ``trace-records``, and ``trace-never-dd`` to ``-python``."""
    tracers = _tracers(programs.folder)
    commands = _commands(programs.folder)
    found = [_dd(tracers)]
    found += [_whole(name, title, command, tracers) for name, (title, command) in commands.items()]
    found += [*_redis(programs.folder, tracers), _records(programs)]
    dd = ("dd of 300,000 single bytes", _dd_command(300_000))
    return found + [
        _never(programs, name, title, command) for name, (title, command) in {"dd": dd, **commands}.items()
    ]


def _missing(what: str) -> None:
    sys.stderr.write(f"bench: {what} is not installed, so it is left out\n")


def _tracers(folder: Path) -> dict[str, Way]:
    """Return who traces here, by name."""
    raw, text, other = (str(folder / name) for name in ("raw", "text", "other"))
    found: dict[str, Way] = {
        "trapline trace --format raw": lambda command: [
            TRAPLINE, "trace", "--format", "raw", "-o", raw, "--", *command,
        ],
        "trapline trace": lambda command: [TRAPLINE, "trace", "-o", text, "--", *command],
    }  # fmt: skip
    if strace := shutil.which("strace"):
        found["strace -f"] = lambda command: [strace, "-f", "-o", other, "--", *command]
        found["strace -f --seccomp-bpf"] = lambda command: [
            strace, "-f", "--seccomp-bpf", "-o", other, "--", *command,
        ]  # fmt: skip
    else:
        _missing("strace")
    if perf := shutil.which("perf"):
        found["perf trace"] = lambda command: [perf, "trace", "-o", other, "--", *command]
    else:
        _missing("perf")
    return found


def _aims(name: str, smaller: float, tracers: dict[str, Way]) -> list[Aim]:
    if not name.startswith("trapline"):
        return []
    aims = [Aim(1 / smaller, over="strace -f", overhead=True)] if "strace -f" in tracers else []
    return aims + ([Aim(1, over="perf trace", overhead=True)] if "perf trace" in tracers else [])


def _dd_command(count: int) -> list[str]:
    return ["dd", "if=/dev/zero", "of=/dev/null", "bs=1", f"count={count}", "status=none"]


def _dd(tracers: dict[str, Way]) -> Group:
    def cost(way: Way | None, count: int) -> Callable[[], float]:
        command = _dd_command(count)
        return lambda: elapsed(way(command) if way else command) / _MILLISECOND * (_BYTES / count)

    contenders = [Contender("native", cost(None, _BYTES))]
    for name, way in tracers.items():
        # A hundred times slower: so many bytes are enough to know.
        count = _STRACED_BYTES if name.startswith("strace") else _BYTES
        contenders.append(Contender(name, cost(way, count), also=_aims(name, 100, tracers)))
    return Group("trace-dd", f"dd of {_BYTES:,} single bytes, all calls traced", "ms", contenders, 0.3)


def _commands(folder: Path) -> dict[str, tuple[str, list[str]]]:
    source = folder / "traced.c"
    source.write_text(
        "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\nint main(void) { return 0; }\n"
    )
    return {
        "python": ("a start of Python that imports much", [sys.executable, "-c", _IMPORTS]),
        "git": ("git status of 20,000 files", ["git", "-C", str(_repository(folder)), "status"]),
        "find": ("find /usr", ["find", "/usr", "-newer", "/etc/hostname"]),
        "gcc": (
            "gcc -O2 -c of a few lines",
            ["gcc", "-O2", "-c", str(source), "-o", str(folder / "traced.o")],
        ),
        "build": (
            "gcc -O2 of twenty such files and a link of them all",
            ["gcc", "-O2", "-o", str(folder / "built"), *_sources(folder)],
        ),
    }


def _sources(folder: Path) -> list[str]:
    made = []
    for number in range(20):
        file = folder / f"part{number}.c"
        called = "".join(f"int part{other}(void); " for other in range(1, 20)) if number == 0 else ""
        body = (
            " + ".join(f"part{other}()" for other in range(1, 20)) if number == 0 else "(int)strlen(__FILE__)"
        )
        name = "main" if number == 0 else f"part{number}"
        file.write_text(
            f"#include <stdio.h>\n#include <string.h>\n{called}int {name}(void) {{ return {body}; }}\n"
        )
        made.append(str(file))
    return made


def _repository(folder: Path) -> Path:
    root = folder / "repository"
    for number in range(20_000):
        file = root / f"folder{number % 400}" / f"file{number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}\n")
    git = ["git", "-C", str(root), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "Files"], check=True)
    return root


def _whole(name: str, title: str, command: list[str], tracers: dict[str, Way]) -> Group:
    def cost(way: Way | None) -> Callable[[], float]:
        return lambda: elapsed(way(command) if way else command) / _MILLISECOND

    contenders = [Contender("native", cost(None))]
    contenders += [Contender(one, cost(way), also=_aims(one, 5, tracers)) for one, way in tracers.items()]
    return Group(f"trace-{name}", f"{title}, all calls traced", "ms", contenders, 0.3)


def _redis(folder: Path, tracers: dict[str, Way]) -> list[Group]:
    """Return a group about a server that answers many clients; its start is not in it."""
    programs = [shutil.which(name) for name in ("redis-server", "redis-benchmark", "redis-cli")]
    if None in programs:
        _missing("redis")
        return []
    server, load, client = (program or "" for program in programs)
    socket = str(folder / "redis.sock")
    command = [server, "--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"]

    def cost(way: Way | None) -> Callable[[], float]:
        def measured() -> float:
            words = way(command) if way else command
            with subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
            ) as process:
                try:
                    _wait_for(client, socket)
                    taken = elapsed([load, "-s", socket, "-n", _REQUESTS, "-c", "20", "-t", "set,get", "-q"])
                finally:
                    subprocess.run(
                        [client, "-s", socket, "shutdown", "nosave"], check=False, capture_output=True
                    )
                process.wait()
            return taken / _MILLISECOND

        return measured

    contenders = [Contender("native", cost(None))]
    contenders += [Contender(one, cost(way), also=_aims(one, 5, tracers)) for one, way in tracers.items()]
    title = f"redis, {_REQUESTS} SET and as many GET of 20 clients, all calls of the server traced"
    return [Group("trace-redis", title, "ms", contenders, 0.3)]


def _wait_for(client: str, socket: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done = subprocess.run([client, "-s", socket, "ping"], check=False, capture_output=True)
        if done.stdout == b"PONG\n":
            return
        time.sleep(0.01)
    raise RuntimeError("the server did not answer within 60 s")


def _records(programs: Programs) -> Group:
    """Return a group about how fast calls can be recorded without a loss."""
    path = programs.folder / "records"

    def cost(threads: int) -> Callable[[], float]:
        calls = [programs.calls, "getppid", str(_RECORDS), str(threads)]

        def measured() -> float:
            command = [
                TRAPLINE,
                "trace",
                "--engine",
                "rewrite",
                "--format",
                "raw",
                "-o",
                str(path),
                "--",
                *calls,
            ]
            taken = printed(command)
            found = count_calls(str(path))["getppid"]
            path.unlink()
            if found < threads * _RECORDS:
                raise RuntimeError(
                    f"{threads * _RECORDS - found:,} of {threads * _RECORDS:,} calls are not in the file"
                )
            return taken

        return measured

    native = printing(programs.calls, "getppid", str(_RECORDS))
    contenders = [Contender("getppid, native", native)]
    contenders += [
        Contender(
            f"recorded, {threads} threads",
            cost(threads),
            also=[Aim(1e9 / _PER_SECOND, excess=True)],
        )
        for threads in (2, 4)  # of one thread the program tells the median, without what it has waited for
    ]
    title = (
        f"getppid in a loop, {_RECORDS:,} times in each thread: time for each record of all threads together"
    )
    return Group("trace-records", title, "ns", contenders, 0.3)


def _never(programs: Programs, name: str, title: str, command: list[str]) -> Group:
    """Return a group about a trace of what never happens. CPU time of the program alone."""
    timed = [programs.timed, *command]
    trace = [TRAPLINE, "trace", "-e", _NEVER, "-o", str(programs.folder / "never")]
    contenders = [
        Contender("native", printing(*timed)),
        Contender("filter that always allows", printing(programs.supervisor, "allow", *timed)),
        Contender(f"trapline trace -e {_NEVER}", printing(*trace, "--", *timed), aim=1.03),
        Contender("the same with --engine rewrite", printing(*trace, "--engine", "rewrite", "--", *timed)),
    ]
    if strace := shutil.which("strace"):
        words = [
            strace,
            "-f",
            "--seccomp-bpf",
            "-e",
            f"trace={_NEVER}",
            "-o",
            str(programs.folder / "other"),
            "--",
        ]
        contenders.append(Contender("strace -f --seccomp-bpf", printing(*words, *timed)))
    return Group(f"trace-never-{name}", f"{title}, only {_NEVER} traced: CPU time", "ns", contenders, 0.5)
