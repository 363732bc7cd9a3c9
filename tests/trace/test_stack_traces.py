"""Stack traces: where in a program each call was made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from elftools.elf.elffile import ELFFile

PYTHON = "/usr/bin/python3"


def stacks(text, name):
    """The places behind each call with a name, as file and address."""
    found, here = [], None
    for line in text.splitlines():
        if not line.startswith(" > "):
            here = [] if re.search(rf"\b{name}\(", line) else None
            if here is not None:
                found.append(here)
        elif here is not None:
            place = re.fullmatch(r" > (.*)\(.*\) \[(0x[0-9a-f]+)\]", line)
            here.append((place[1], int(place[2], 16)) if place else (line, 0))
    return found


def first_address(path):
    """Where a file is to be in memory; strace counts from there."""
    with open(path, "rb") as file:
        parts = [part["p_vaddr"] for part in ELFFile(file).iter_segments() if part["p_type"] == "PT_LOAD"]
    return min(parts) & -4096


def relative(stack):
    return [(path, address - first_address(path)) for path, address in stack]


@pytest.fixture
def strace_with_stacks(strace, tmp_path):
    output = tmp_path / "strace.out"

    def run(name, *command):
        done = subprocess.run(
            [strace, "-f", "-k", "-e", f"trace={name}", "-o", str(output), *command],
            capture_output=True,
            text=True,
        )
        if "not supported" in done.stderr or "-k" in done.stderr:
            pytest.skip("this strace has no stack traces")
        return stacks(output.read_text(), name)

    return run


@pytest.mark.parametrize("flags", [("-fomit-frame-pointer", "-O2"), ("-O0",)])
def test_stacks_are_those_that_strace_finds(recording, strace_with_stacks, traced, victim, flags):
    program = victim("deep", "dynamic", (), *flags)
    expected = strace_with_stacks("write", program)
    text, _ = traced(program, options=("-k", "-e", "write", "--engine", recording))
    got = [relative(stack) for stack in stacks(text, "write")]
    assert got == expected
    assert len(expected[0]) > 5


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mkdir", [PYTHON, "-Sc", "import os; sorted([1, 2], key=lambda x: os.path.isdir('/') or os.mkdir('/'))\n"
                   "try: list(map(os.mkdir, ['/', '/']))\nexcept OSError: pass"]),
        ("getcwd", ["git", "-C", os.path.dirname(__file__), "status", "--short", "."]),
        ("fadvise64", ["sort", "/etc/passwd"]),
    ],
)  # fmt: skip
def test_stacks_of_large_programs_too(strace_with_stacks, traced, name, command):
    expected = strace_with_stacks(name, *command)
    text, _ = traced(*command, options=("-k", "-e", name))
    assert [relative(stack) for stack in stacks(text, name)] == expected
    assert expected


@pytest.mark.parametrize("kind", ["dynamic", "static", "static-pie"])
def test_functions_are_named(traced, victim, kind):
    text, _ = traced(victim("deep", kind), options=("-k", "-e", "write"))
    names = re.findall(r"\((\w[\w.]*)\+0x", text)
    assert names[:3] == ["write", "innermost", "middle"]
    assert names.count("main") == 2
    assert names.count("handler") == 1


def test_code_that_is_loaded_later_is_known(traced):
    # _ctypes and libffi come by dlopen.
    script = "import ctypes; ctypes.CDLL(None).umask(18)"
    text, _ = traced(PYTHON, "-Sc", script, options=("-k", "-e", "umask"))
    assert "libffi.so" in text
    assert re.search(r"\(ffi_call\+0x", text)


def test_functions_of_a_go_program_are_followed_by_their_frame_pointers(
    traced, public_folder, go_environment
):
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    source = public_folder / "stacks.go"
    source.write_text(
        'package main\n\nimport "os"\n\n//go:noinline\nfunc inner() { os.Mkdir("/", 0) }\n\n'
        "//go:noinline\nfunc outer() { inner() }\n\nfunc main() { outer() }\n"
    )
    built = str(public_folder / "stacks-go")
    subprocess.run(["go", "build", "-o", built, str(source)], check=True, capture_output=True,
                   env=go_environment)  # fmt: skip
    text, _ = traced(built, options=("-k", "-e", "mkdir,mkdirat"))
    names = re.findall(r"\((main\.\w+)\+0x", text)
    assert names == ["main.inner", "main.outer", "main.main"]


def test_threads_and_children_have_stacks_of_their_own(recording, traced, victim):
    text, _ = traced(victim("storm"), "4", "50", "2", options=("-k", "-e", "getppid", "--engine", recording))
    found = stacks(text, "getppid")
    assert len(found) == 400
    assert all(stack[0][0].endswith("libc.so.6") and len(stack) >= 3 for stack in found)


def test_a_stack_that_is_deeper_than_what_is_kept_ends_with_dots(traced, victim):
    text, _ = traced(PYTHON, "-Sc", "import os, json\n"
                     "f = lambda n: json.loads('1', object_hook=None) if n else os.umask(18)\n"
                     "class A:\n def __init__(s, n): A(n - 1) if n else os.umask(18)\nA(300)",
                     options=("-k", "-e", "umask"))  # fmt: skip
    assert " > ...\n" in text


def test_a_report_has_stacks_too(cli, tmp_path, victim):
    record, program = str(tmp_path / "record"), victim("deep")
    assert cli("trace", "-k", "--format", "raw", "-o", record, "--", program).returncode == 0
    assert "(innermost+0x" in cli("trace", "report", "-k", "-e", "write", record).stderr
    assert '"stack":[' in cli("trace", "report", "--format", "jsonl", record).stderr
    assert " > " not in cli("trace", "report", record).stderr


def test_an_engine_without_stacks_says_who_has_them(cli):
    done = cli("trace", "-k", "--engine", "ptrace", "--", "true")
    assert done.returncode == 125
    assert "record the stacks of callers" in done.stderr
    assert "Use --engine rewrite, sud or trap" in done.stderr
