"""What real programs do is shown as strace shows it, thread by thread."""

from __future__ import annotations

import difflib
import http.server
import os
import re
import shutil
import subprocess
import threading

import pytest
from traced_lines import by_thread, normal

# A signal that the program leaves to the kernel is seen by tracers alone; so is the end that one brings.
UNSEEN = re.compile(r"^--- SIGCHLD .*---$|^--- SIG(TERM|KILL) .*---$|^\+\+\+ killed by .*\+\+\+$")


@pytest.fixture
def both(strace, traced, tmp_path):
    """Run a command under strace and under trapline, and return the normal lines of each thread."""

    def run(*command, engine="auto", **options):
        environment = {**os.environ, "LC_ALL": "C", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
        settings = {
            "env": environment,
            "capture_output": True,
            "stdin": subprocess.DEVNULL,
            "timeout": 100,
            **options,
        }
        subprocess.run(command, **settings)  # whatever is made once has been made
        subprocess.run([strace, "-f", "-o", str(tmp_path / "strace.out"), *command], **settings)
        theirs = (tmp_path / "strace.out").read_text(errors="surrogateescape")
        ours, _ = traced(*command, options=("--engine", engine), **settings)
        return [
            [[normal(line) for line in lines if not UNSEEN.match(line)] for lines in by_thread(text)]
            for text in (theirs, ours)
        ]

    return run


def same(found):
    theirs, ours = found
    assert len(theirs) == len(ours)
    for thread, (expected, got) in enumerate(zip(theirs, ours, strict=True)):
        difference = "\n".join(difflib.unified_diff(expected, got, "strace", "trapline", lineterm="", n=0))
        assert not difference, f"thread {thread}:\n{difference[:4000]}"


def test_git(both):
    same(both("git", "-C", os.path.dirname(__file__), "log", "-3", "--stat"))


def test_tar(both, tmp_path):
    same(both("tar", "cf", str(tmp_path / "x.tar"), "-C", os.path.dirname(__file__), "."))


def test_gcc(both, tmp_path):
    (tmp_path / "a.c").write_text("int main(void) { return 0; }\n")
    found = both("gcc", "-c", "-o", str(tmp_path / "a.o"), str(tmp_path / "a.c"))
    # For the names of temporary files, sometimes once more.
    same(
        [[[line for line in lines if not line.startswith("getrandom(")] for lines in side] for side in found]
    )


def test_python(both):
    theirs, ours = both("/usr/bin/python3", "-Sc", "import json, subprocess; print(json.dumps([1]))")
    # When it needs more memory depends on the addresses that it has been given.
    memory = re.compile(r"^(mmap\(NULL, 1048576|munmap\(|brk\()")
    same([[[line for line in lines if not memory.match(line)] for lines in side] for side in (theirs, ours)])


def test_shell_pipeline(both):
    found = both("sh", "-c", "cat /etc/passwd /etc/group > /dev/null; exit 3")
    # Whether the child ends before the shell waits for it is a matter of time.
    same([[[line for line in lines if not line.startswith(("rt_sigreturn(", "wait4("))] for lines in side]
          for side in found])  # fmt: skip


def test_threads_that_work_at_the_same_time(recording, both, victim, tmp_path):
    # Which of them begins first is a matter of time, and so is how they wait for each other.
    same([sorted([line for line in lines if not line.startswith(("futex(", "clone3("))] for lines in side)
          for side in both(victim("shown/threads"), engine=recording, cwd=str(tmp_path))])  # fmt: skip


def test_curl_to_a_local_server(both, tmp_path):
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    handler = type("Quiet", (http.server.BaseHTTPRequestHandler,), {
        "do_GET": lambda self: (self.send_response(204), self.end_headers()), "log_message": lambda *_: None,
    })  # fmt: skip
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            theirs, ours = both("curl", "-s", f"http://127.0.0.1:{server.server_port}/")
        finally:
            server.shutdown()
            thread.join()
    # How often it polls, and whether the answer was there, is a matter of time.
    waits = re.compile(r"^(poll|recvfrom|rt_sigaction|futex|clock_|getsockopt)\b")
    same([[[line for line in lines if not waits.match(line)] for lines in side] for side in (theirs, ours)])


def test_many_kinds_of_calls(recording, both, victim, tmp_path):
    theirs, ours = both(victim("traced"), engine=recording, cwd=str(tmp_path))
    # The call by which a thread ends itself does not return to it.
    finished = re.compile(r"^(tgkill\(.*SIGTERM).*")
    same([[[finished.sub(r"\1", line) for line in lines if not line.startswith("futex(")] for lines in side]
          for side in (theirs, ours)])  # fmt: skip
    names = {line.split("(")[0] for lines in ours for line in lines}
    assert len(names) > 75


def test_a_go_program_makes_the_same_kinds_of_calls(both, public_folder, go_environment):
    if shutil.which("go") is None:
        pytest.skip("go is not installed")
    source = public_folder / "traced.go"
    source.write_text(
        'package main\n\nimport "os"\n\nfunc main() { os.ReadFile("/etc/hostname"); os.Getppid() }\n'
    )
    built = public_folder / "traced-go"
    subprocess.run(["go", "build", "-o", str(built), str(source)], check=True, capture_output=True,
                   env=go_environment)  # fmt: skip
    theirs, ours = both(str(built))
    # Which thread runs what is its scheduler's choice, and how often they wait for each other.
    often = ("futex(", "nanosleep(", "sched_yield(", "clone(", "epoll", "tgkill(", "rt_sig", "sigaltstack(", "mmap(",
             "madvise(", "gettid(", "getpid(", "exit", "+++", "---", "munmap(", "pipe2(", "eventfd2(",
             "fcntl(")  # fmt: skip
    kinds = [
        sorted([line for lines in side for line in lines if not line.startswith(often)])
        for side in (theirs, ours)
    ]
    assert kinds[0] == kinds[1]
    assert [line for line in kinds[0] if "/etc/hostname" in line]
