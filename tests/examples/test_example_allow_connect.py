"""examples/allow_connect.py"""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from example_runs import NOBODY, Run, needed


@contextlib.contextmanager
def listening(*, answer: bytes = b"") -> Iterator[int]:
    """A server on the loopback that closes each connection after an answer; yields its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as server:

        def serve() -> None:
            while True:
                peer, _ = server.accept()
                with peer:
                    if peer.recv(1) == b"!":
                        return
                    peer.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        if answer:
            thread.start()
        yield server.getsockname()[1]
        if answer:
            with socket.create_connection(server.getsockname()) as last:
                last.sendall(b"!")
            thread.join()


PAGE = b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nhi\n"


def test_curl_reaches_what_is_allowed_without_a_word(native: Run, hooked: Run) -> None:
    needed("curl")
    with listening(answer=PAGE) as port:
        command = ["curl", "-sS", "--noproxy", "*", f"http://127.0.0.1:{port}/"]
        assert native(*command).stdout == "hi\n"
        done = hooked("allow_connect", *command, settings={"allow": f"127.0.0.1:{port}"})
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")


def test_curl_does_not_reach_another_port_and_that_is_logged(tmp_path: pathlib.Path, hooked: Run) -> None:
    needed("curl")
    log = tmp_path / "log"
    with listening() as port:
        settings = {"allow": f"127.0.0.1:{port + 1 if port < 65535 else 1}", "log": log}
        done = hooked("allow_connect", "curl", "-sS", f"http://127.0.0.1:{port}/", settings=settings)
    assert done.returncode == 7
    assert f"refused connect to 127.0.0.1:{port} by curl[" in log.read_text()


@pytest.mark.parametrize("flags", [(), ("-static",), ("-m32", "-static")], ids=["dynamic", "static", "i386"])
@pytest.mark.parametrize(
    ("how", "call"), [("connect", "connect"), ("send", "sendto"), ("fastopen", "sendto")]
)
def test_c_program_of_every_kind_is_held_to_the_list(
    flags: tuple[str, ...], how: str, call: str, compiled: Callable[..., str], native: Run, hooked: Run
) -> None:
    program = compiled("connect_to", *flags)
    with listening() as port, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        command = [program, str(port), "127.0.0.1", how]
        expected = native(*command).stdout
        assert expected == ("0 \n" if how == "connect" else "5 \n")
        allowed = hooked("allow_connect", *command, settings={"allow": "127.0.0.0/8"})
        assert (allowed.stdout, allowed.stderr) == (expected, "")
        refused = hooked("allow_connect", *command, settings={"allow": "10.0.0.0/8"})
        assert refused.stdout == "-1 Permission denied\n"
        assert f"refused {call} to 127.0.0.1:{port} by connect_to[" in refused.stderr


def test_datagram_to_an_address_without_a_family_does_not_slip_through(
    compiled: Callable[..., str], native: Run, hooked: Run
) -> None:
    program = compiled("connect_to")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        command = [program, str(receiver.getsockname()[1]), "127.0.0.1", "send-unspec"]
        assert native(*command).stdout == "5 \n"
        assert (
            hooked("allow_connect", *command, settings={"allow": "10.0.0.0/8"}).stdout
            == "-1 Permission denied\n"
        )


def test_address_that_another_thread_changes_never_leads_elsewhere(
    compiled: Callable[..., str], hooked: Run
) -> None:
    program = compiled("race_connect", "-pthread")
    with listening(answer=b"x") as good, listening(answer=b"x") as bad:
        settings = {"allow": f"127.0.0.1:{good}", "log": "/dev/null"}
        done = hooked("allow_connect", program, str(good), str(bad), "300", settings=settings)
    made, elsewhere = map(int, done.stdout.split())
    assert made > 0
    assert elsewhere == 0


PYTHON_SOCKETS = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
os.chdir(sys.argv[1])
server.bind("here")
server.listen()
for where in ("here", sys.argv[1] + "/here", "missing"):
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(where)
        print("connected")
    except OSError as error:
        print(error.strerror)
left, right = socket.socketpair()
reader, writer = os.pipe()
socket.send_fds(left, [b"take"], [writer])
data, (fd,), _, _ = socket.recv_fds(right, 10, 1)
os.write(fd, b"through " + data)
print(os.read(reader, 100).decode())
receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
receiver.bind(("127.0.0.1", 0))
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print(sender.sendmsg([b"one", b"two"], [], 0, receiver.getsockname()), receiver.recv(10).decode())
sender.connect(receiver.getsockname())
print(sender.sendmsg([b"three"]), receiver.recv(10).decode())
tcp = socket.create_server(("::1", 0), family=socket.AF_INET6)
quick = socket.socket(socket.AF_INET6)
quick.setblocking(False)
print(quick.connect_ex(tcp.getsockname()) in (0, 115))
"""


def test_unix_sockets_passed_descriptors_and_datagrams_work_as_natively(
    tmp_path: pathlib.Path, native: Run, hooked: Run
) -> None:
    folders = [tmp_path / "1", tmp_path / "2"]
    for folder in folders:
        folder.mkdir()
    expected = native("python3", "-c", PYTHON_SOCKETS, str(folders[0]))
    assert expected.returncode == 0, expected.stderr
    settings = {"allow": f"127.0.0.0/8 [::1] unix:{folders[1]}/*"}
    done = hooked("allow_connect", "python3", "-c", PYTHON_SOCKETS, str(folders[1]), settings=settings)
    assert (done.stdout, done.stderr) == (expected.stdout, "")


def test_link_to_a_socket_is_judged_by_what_it_leads_to(tmp_path: pathlib.Path, hooked: Run) -> None:
    (tmp_path / "allowed").mkdir()
    secret = tmp_path / "secret"
    (tmp_path / "allowed" / "link").symlink_to(secret)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(secret))
        server.listen()
        program = (
            f"import socket; socket.socket(socket.AF_UNIX).connect({str(tmp_path / 'allowed' / 'link')!r})"
        )
        settings = {"allow": f"unix:{tmp_path}/allowed/*"}
        done = hooked("allow_connect", "python3", "-c", program, settings=settings)
    assert "PermissionError" in done.stderr
    assert f"refused connect to unix:{secret} by python3[" in done.stderr


@pytest.mark.parametrize("way", ["another user", "user namespace"])
def test_unix_socket_is_not_used_with_rights_that_the_program_has_given_up(
    way: str, tmp_path: pathlib.Path, native: Run, hooked: Run
) -> None:
    connect = f"import os, socket; socket.socket(socket.AF_UNIX).connect('\\0{tmp_path}')"
    command = ["python3", "-c", connect]
    if way == "user namespace":
        given_up = ["unshare", "--user", "--map-root-user", *command]
    elif os.geteuid() == 0:
        drop = f"os.setgroups([]); os.setresuid(*[{NOBODY}] * 3); socket.socket("
        given_up = ["python3", "-c", connect.replace("socket.socket(", drop)]
    else:
        pytest.skip("only root can become another user")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{tmp_path}")
        server.listen()
        if native(*given_up).returncode != 0:
            pytest.skip("user namespaces are not allowed here")
        settings = {"allow": "unix:*"}
        assert hooked("allow_connect", *command, settings=settings).returncode == 0
        assert "PermissionError" in hooked("allow_connect", *given_up, settings=settings).stderr


def test_name_resolution_works_under_it(native: Run, hooked: Run) -> None:
    needed("getent")
    expected = native("getent", "ahosts", "localhost")
    done = hooked("allow_connect", "getent", "ahosts", "localhost")
    assert (done.returncode, done.stdout) == (expected.returncode, expected.stdout)
