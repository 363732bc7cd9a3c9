"""What every test may use: victims, engines, runs beside native, and guards against what a test leaves behind."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

# What an earlier run has kept must not decide what this one tests, nor belong to whoever runs it.
os.environ["TRAPLINE_PLAN_CACHE"] = ""

TESTS = Path(__file__).parent
ENGINES = ["notify", "ptrace"]
#: Those that see results, change arguments and perform calls for a hook.
RESULT_ENGINES = ["ptrace"]
REQUIRE_ALL = os.environ.get("TRAPLINE_REQUIRE_ALL") == "1"
#: Seconds after which a test counts as hung.
DEADLINE = int(os.environ.get("TRAPLINE_TEST_DEADLINE", "150"))
#: A sanitized build needs its runtime preloaded into Python, and into nothing that Python starts.
BARE_ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}

COMPILE = {
    "dynamic": [],
    "static": ["-static"],
    "static-pie": ["-static-pie", "-fPIE"],
    "32": ["-m32", "-static"],
    "tsan": ["-fsanitize=thread", "-g"],
    "sanitized": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"],
    "library": ["-shared", "-fPIC"],
}


def pytest_collection_finish() -> None:
    # Thousands of tests are alive to the end; whoever collects garbage need not look at them again each time.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[Any]:
    report = yield
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.longrepr = f"{item.nodeid} would be skipped, and TRAPLINE_REQUIRE_ALL=1 is set: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[Any]:
    report = yield
    if REQUIRE_ALL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} would be skipped, and TRAPLINE_REQUIRE_ALL=1 is set"
    return report


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        # A folder may be about one engine.
        own = metafunc.definition.path.parent.name
        metafunc.parametrize("engine", [own] if own in ENGINES else ENGINES)
    if "result_engine" in metafunc.fixturenames:
        metafunc.parametrize("result_engine", RESULT_ENGINES)


@pytest.fixture(autouse=True)
def deadline(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that hangs fails, and the rest goes on."""

    def hung(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"{request.node.nodeid} hung for {DEADLINE} seconds")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(DEADLINE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            text = Path(f"/proc/self/task/{task}/children").read_text()
        except OSError:
            continue
        found.update(map(int, text.split()))
    return found


def descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def opened_since(before: dict[int, str]) -> dict[int, str]:
    return {
        fd: name
        for fd, name in descriptors().items()
        if before.get(fd) != name and not name.startswith("/dev/pts") and "hypothesis" not in name
    }


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Fail a test that leaves a child process or a descriptor behind."""
    children_before, fds_before = children(), descriptors()
    yield
    left = children() - children_before
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left if os.path.exists(f"/proc/{pid}")]
    assert not left, f"child processes are left: {left} {names}"
    # A hook that a test has just let go on may still be on its way out.
    until = time.monotonic() + 10
    while opened := opened_since(fds_before):
        gc.collect()
        if time.monotonic() > until:
            break
    assert not opened, f"descriptors are left open: {opened}"


# -- victims -----------------------------------------------------------------------------------------------------------


class Victims:
    """Compiles tests/victims/NAME.c once for each kind and content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, kind: str = "dynamic", sources: tuple[Path, ...] = (), *flags: str) -> str:
        source = TESTS / "victims" / f"{name}.c"
        options = ["-std=gnu11", "-O1", "-Wall", "-pthread", *COMPILE[kind], *flags]
        content = b"".join(path.read_bytes() for path in (source, *sources)) + " ".join(options).encode()
        suffix = ".so" if kind == "library" else ""
        flat = name.replace("/", "-")
        built = self.folder / f"{flat}-{kind}-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
        if not built.exists():
            part = f"{built}.{os.getpid()}"
            command = ["gcc", *options, "-o", part, str(source), *map(str, sources), "-ldl"]
            done = subprocess.run(command, capture_output=True, text=True, env=BARE_ENVIRONMENT)
            if done.returncode:
                if kind == "32" and "-m32" in command:
                    pytest.skip(f"gcc cannot build 32-bit programs here (gcc-multilib): {done.stderr[-200:]}")
                raise AssertionError(f"{' '.join(command)}\n{done.stderr}")
            os.rename(part, built)
        return str(built)


@pytest.fixture(scope="session")
def public_folder() -> Iterator[Path]:
    """A folder that every user may read and execute from."""
    folder = Path(tempfile.mkdtemp(prefix="trapline-tests-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def victim(public_folder: Path) -> Victims:
    """``victim(name)`` is the path of the compiled tests/victims/NAME.c; kinds: dynamic, static, 32, library."""
    (public_folder / "victims").mkdir()
    return Victims(public_folder / "victims")


@pytest.fixture(scope="session")
def go_environment(public_folder: Path) -> dict[str, str]:
    """What ``go build`` is run with: its own library is compiled once for all tests."""
    return {
        **os.environ,
        "GOCACHE": str(public_folder / "go"),
        "GOFLAGS": "",
        "GO111MODULE": "off",
        "CGO_ENABLED": "0",
    }


# -- runs --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def trapline() -> str:
    """The installed command."""
    path = Path(sys.executable).parent / "trapline"
    assert path.exists(), f"{path} is missing: run make build"
    return str(path)


@pytest.fixture(scope="session")
def never_matches(public_folder: Path) -> str:
    """A hooks file whose hook no program ever reaches, but that holds back a call all the same."""
    path = public_folder / "never_matches.py"
    path.write_text(
        "from trapline import arg, on\n\n\n"
        '@on("personality", "ustat", "sysfs", when=arg(0) == 0x7177)\n'
        "def never(call):\n"
        '    raise AssertionError("no program calls this")\n'
    )
    return str(path)


@pytest.fixture
def cli(trapline: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed command and return what it said."""

    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {
            "capture_output": True,
            "text": True,
            "timeout": 60,
            "stdin": subprocess.DEVNULL,
        }
        return subprocess.run([trapline, *words], **{**settings, **options})

    return run


class Comparison:
    """Runs a command natively and under trapline and asserts that nobody can tell which was which."""

    def __init__(self, trapline: str, engine: str, script: str) -> None:
        self.prefix = [trapline, "run", "--engine", engine, "-s", script, "--"]

    def __call__(
        self, command: list[str], *, times: int = 1, prepare: Callable[[], None] | None = None, **options: Any
    ) -> subprocess.CompletedProcess[bytes]:
        native = self._run(command, prepare, options)
        for _ in range(times):
            hooked = self._run(self.prefix + command, prepare, options)
            assert (hooked.returncode, hooked.stdout, hooked.stderr) == (
                native.returncode,
                native.stdout,
                native.stderr,
            )
        return native

    @staticmethod
    def _run(
        command: list[str], prepare: Callable[[], None] | None, options: dict[str, Any]
    ) -> subprocess.CompletedProcess[bytes]:
        if prepare is not None:
            prepare()
        settings = {"capture_output": True, "timeout": 120}
        if "input" not in options:
            settings["stdin"] = subprocess.DEVNULL
        return subprocess.run(command, **{**settings, **options})


@pytest.fixture
def same_as_native(trapline: str, engine: str, never_matches: str) -> Comparison:
    """``same_as_native(command)``: same output, error output and status with hooks that never match."""
    return Comparison(trapline, engine, never_matches)
