"""examples/virtual_hosts.py"""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator

from example_runs import Run, command_line, needed


@contextlib.contextmanager
def web_server() -> Iterator[int]:
    """A server that answers every GET with its Host header; yields its port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (self.headers["Host"] or "").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def test_getent_finds_a_host_that_only_the_program_knows(native: Run, hooked: Run) -> None:
    needed("getent")
    assert native("getent", "-s", "files", "hosts", "trapline.test").returncode == 2
    done = hooked("virtual_hosts", "getent", "hosts", "trapline.test")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, ["127.0.0.1", "trapline.test"], "")


def test_hosts_file_keeps_its_lines_and_has_the_added_ones_last(native: Run, hooked: Run) -> None:
    added = {"add": "10.0.0.1 one.test; 10.0.0.2 two.test"}
    done = hooked("virtual_hosts", "cat", "/etc/hosts", settings=added)
    real = native("cat", "/etc/hosts").stdout.rstrip("\n")
    assert done.stdout == f"{real}\n10.0.0.1 one.test\n10.0.0.2 two.test\n"


def test_curl_connects_by_a_virtual_name(hooked: Run) -> None:
    needed("curl")
    with web_server() as port:
        url = f"http://api.test:{port}/"
        added = {"add": "127.0.0.1 api.test"}
        done = hooked("virtual_hosts", "curl", "-sS", "--noproxy", "*", url, settings=added)
    assert (done.returncode, done.stdout) == (0, f"api.test:{port}")


def test_relative_path_and_dots_reach_the_virtual_file_too(hooked: Run) -> None:
    done = hooked("virtual_hosts", "sh", "-c", "cd /usr && tail -n 1 ../etc/./hosts")
    assert done.stdout == "127.0.0.1 trapline.test\n"


def test_program_that_lets_nobody_look_reads_the_real_file(as_nobody: list[str], native: Run) -> None:
    program = "import ctypes; ctypes.CDLL(None).prctl(4, 0); print(open('/etc/hosts').read(), end='')"
    done = native(*as_nobody, *command_line("virtual_hosts", "python3", "-c", program))
    assert (done.returncode, done.stdout, done.stderr) == (0, native("cat", "/etc/hosts").stdout, "")


def test_what_is_served_cannot_be_written(hooked: Run) -> None:
    program = "import os; fd = os.open('/etc/hosts', os.O_RDONLY); os.write(fd, b'x')"
    assert "Bad file descriptor" in hooked("virtual_hosts", "python3", "-c", program).stderr
