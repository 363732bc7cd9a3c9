"""Give one program its own /etc/hosts; nobody else on the machine sees it.

    trapline run -s examples/virtual_hosts.py -- getent hosts trapline.test
    trapline run -s examples/virtual_hosts.py --set 'add=127.0.0.1 api.test db.test' -- curl http://api.test:8000/

The real file comes first, then the lines of ``add`` (separated by ``;``). Whoever opens /etc/hosts for
reading gets a sealed memfd instead, in one step with the answer, so nothing can change it afterwards.
glibc, musl, Go and the JVM all read that file before they ask a name server.

Not covered: programs that ask a resolver daemon (nscd, systemd-resolved by D-Bus), which reads its own
/etc/hosts.
"""

import os

import trapline

HOSTS = "/etc/hosts"
added = trapline.option("add", "127.0.0.1 trapline.test", "lines for /etc/hosts, separated by ;")


def content() -> bytes:
    try:
        with open(HOSTS, "rb") as file:
            real = file.read()
    except FileNotFoundError:
        real = b""
    lines = [line.strip() for line in added.split(";")]
    return real.rstrip(b"\n") + b"\n" + "".join([f"{line}\n" for line in lines]).encode()


@trapline.on("open", "openat")
def serve(call: trapline.Call) -> object:
    try:
        if call.path != HOSTS or call.args.flags & os.O_ACCMODE != os.O_RDONLY:
            return None
    except trapline.MemoryAccessError:
        return None  # A program that lets nobody look, such as ssh-agent, opens the real one.
    return call.reply_fd(content())
