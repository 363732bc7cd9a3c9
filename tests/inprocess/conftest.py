"""Victims that look at everything a program can see, natively and under engines that act inside the program.

``TRAPLINE_EXACT=all`` runs each engine with each kind of hooks; without it, one run for each way that a call can take.
``TRAPLINE_ENGINES=sud,rewrite`` runs these engines only.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from trapline.engines.base import STARTABLE

TESTS = Path(__file__).parent.parent
ENGINES = [name for name in ("sud", "rewrite", "trap", "ptrace") if name in STARTABLE]
if "TRAPLINE_ENGINES" in os.environ:
    ENGINES = [name for name in os.environ["TRAPLINE_ENGINES"].split(",") if name]

#: Hooks that change nothing: none for the calls of the victims, none that applies, one for each call.
HOOKS = {
    "unmatched": "@on('personality', 'ustat', 'sysfs', when=arg(0) == 0x7177)\ndef hook(call): raise KeyError",
    "condition": "@on('*', when=arg(0) == 0x7177717771777177)\ndef hook(call): raise KeyError",
    "every": "@on('*')\ndef hook(call): pass",
    "result": "@on_return('*')\ndef hook(call): pass",
}
WAYS = {
    "sud": ["unmatched", "every"],
    "rewrite": ["unmatched", "every", "recorded"],
    "trap": ["unmatched"],
    "ptrace": ["every"],
}
if os.environ.get("TRAPLINE_EXACT") == "all":
    WAYS = {name: [*HOOKS, "recorded"] for name in WAYS}
RUNS = ["native", *[f"{engine}-{way}" for engine in ENGINES for way in WAYS.get(engine, ["every"])]]

#: These engines are seccomp filters, and a program may know that it has one.
FILTERING = ("trap", "ptrace")
SECCOMP = re.compile(r"^((?:.* )?seccomp(?:_filters)?:?\s+0*)[12]\b", re.IGNORECASE | re.MULTILINE)

#: A process has one tracer only, and the filter of ``trap`` cannot be left, so that a tracer would meet every trap.
NO_TRACERS = ("ptrace", "trap")

BUILD = ["gcc", "-std=gnu11", "-O1", "-Wall", "-pthread", "-D_GNU_SOURCE", f"-I{TESTS / 'victims'}"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "traces: traces programs, or is traced")
    config.addinivalue_line("markers", "not_on(engine, reason): what this engine cannot do, and need not")
    config.addinivalue_line(
        "markers", "limit(engine, reason): what this engine should do, and does not do yet"
    )


def engine_of(item: pytest.Item) -> str | None:
    params = getattr(item, "callspec", None)
    if params is None:
        return None
    if "exact" in params.params:
        return str(params.params["exact"]).partition("-")[0]
    return params.params.get("inside")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = []
    for item in items:
        if "/inprocess/" not in str(item.path):
            continue
        engine = engine_of(item)
        traces = engine in NO_TRACERS and item.get_closest_marker("traces")
        if traces or any(engine == mark.args[0] for mark in item.iter_markers("not_on")):
            left_out.append(item)
        for mark in item.iter_markers("limit"):
            if engine == mark.args[0]:
                item.add_marker(pytest.mark.xfail(reason=mark.args[1], strict=True))
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def _here(leaves_nothing: None) -> None:
    """The victims are code for one machine; no test leaves a process or a descriptor behind."""
    if platform.machine() != "x86_64":
        pytest.skip("the victims are made of x86-64 instructions")


class Builder:
    """Compiles tests/victims/FAMILY/NAME.c, with the flags that it asks for, once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, *flags: str) -> str:
        source = TESTS / "victims" / f"{name}.c"
        text = source.read_text()
        asked = [
            word for line in text.splitlines() if line.startswith("// build: ") for word in line.split()[2:]
        ]
        common = (TESTS / "victims" / "exact.h").read_text()
        content = hashlib.sha256(f"{text}{common}{asked}{flags}".encode()).hexdigest()[:12]
        built = self.folder / content / Path(name).name
        if not built.exists():
            built.parent.mkdir(exist_ok=True)
            part = f"{built}.{os.getpid()}"
            subprocess.run([*BUILD, *asked, *flags, "-o", part, str(source), "-ldl"], check=True)
            os.rename(part, built)
        return str(built)


@pytest.fixture(scope="session")
def build(public_folder: Path) -> Builder:
    """``build("signals/info")`` is the path of that compiled victim."""
    folder = public_folder / "exact"
    folder.mkdir()
    return Builder(folder)


@pytest.fixture(scope="session")
def null_hooks(public_folder: Path) -> dict[str, str]:
    """Hooks files by the way that calls take with them."""
    paths = {}
    for way, text in HOOKS.items():
        path = public_folder / f"null_{way}.py"
        path.write_text(f"from trapline import arg, on, on_return\n\n\n{text}\n")
        paths[way] = str(path)
    return paths


@pytest.fixture(scope="session")
def natively() -> dict[tuple[str, ...], subprocess.CompletedProcess[str]]:
    """What victims did natively; each needs to run once."""
    return {}


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    settings = {"capture_output": True, "text": True, "stdin": subprocess.DEVNULL, "timeout": 120}
    return subprocess.run(command, **{**settings, **options})


class Exact:
    """Runs a victim natively and in one other way, and asserts that it saw the same."""

    def __init__(
        self,
        build: Builder,
        trapline: str,
        hooks: dict[str, str],
        natively: dict[tuple[str, ...], subprocess.CompletedProcess[str]],
        way: str,
    ) -> None:
        self.build, self.trapline, self.hooks, self.natively = build, trapline, hooks, natively
        self.engine, _, self.way = way.partition("-")

    @property
    def prefix(self) -> list[str]:
        """What goes in front of a command; nothing natively."""
        if self.engine == "native":
            return []
        if self.way == "recorded":  # its calls go a way of their own
            return [
                self.trapline,
                "trace",
                "--engine",
                self.engine,
                "--format",
                "raw",
                "-o",
                "/dev/null",
                "--",
            ]
        return [self.trapline, "run", "--engine", self.engine, "-s", self.hooks[self.way], "--"]

    def __call__(self, name: str, *arguments: str, asked: tuple[str, ...] | None = None) -> str:
        """Run ``name``; return its output.

        :param asked: arguments for where each call asks Python: fewer rounds.
        """
        if asked is not None and self.way in ("every", "result"):
            arguments = asked
        return self.same([self.build(name), *arguments])

    def same(self, command: list[str], **options: Any) -> str:
        """Run any command; return its output."""
        key = (*command, str(options))
        if key not in self.natively:
            self.natively[key] = run(command, **options)
        native = self.natively[key]
        assert native.returncode == 0, f"natively: {native}"
        if self.engine != "native":
            # Half of the runs meet nothing but rewritten sites.
            rewriting = "at-once" if self.way in ("unmatched", "recorded") else ""
            environment = {**os.environ, "TRAPLINE_REWRITE": rewriting, **(options.pop("env", None) or {})}
            hooked = run(self.prefix + command, env=environment, **options)
            if self.engine in FILTERING:
                hooked.stdout = SECCOMP.sub(r"\g<1>0", hooked.stdout)
            # By design: what another program traces runs without hooks, and trapline says so.
            stderr = "".join(
                line for line in hooked.stderr.splitlines(True) if "another program traces it" not in line
            )
            assert (hooked.returncode, hooked.stdout, stderr) == (0, native.stdout, native.stderr)
        return native.stdout


@pytest.fixture(params=RUNS)
def exact(
    request: pytest.FixtureRequest,
    build: Builder,
    trapline: str,
    null_hooks: dict[str, str],
    natively: dict[tuple[str, ...], subprocess.CompletedProcess[str]],
) -> Exact:
    """``exact("signals/info")`` runs that victim natively and under an engine, and compares."""
    return Exact(build, trapline, null_hooks, natively, request.param)


@pytest.fixture(params=ENGINES)
def inside(request: pytest.FixtureRequest) -> str:
    """An engine that acts inside the program, or traces it: results are seen, arguments changed."""
    return str(request.param)


@pytest.fixture
def under(trapline: str, inside: str, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``under(command, hooks="...", rules=[...])`` runs a command with that text as hooks file."""

    def start(
        command: list[str], hooks: str = "", rules: tuple[str, ...] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        words = [trapline, "run", "--engine", inside]
        if hooks:
            path = tmp_path / "hooks.py"
            path.write_text(f"from trapline import Errno, arg, on, on_return\n\n\n{hooks}\n")
            words += ["-s", str(path)]
        for rule in rules:
            words += ["-e", rule]
        return run([*words, "--", *command], **options)

    return start
