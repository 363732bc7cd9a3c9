"""Real programs and what to run of them. Each leaves its output where it can be compared."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

#: A command of which everything is compared, and what to do before each run.
Run = tuple[list[str], Callable[[], None] | None]

GO = """package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
)

func main() {
	var group sync.WaitGroup
	var lock sync.Mutex
	found := []string{}
	for number := 0; number < 50; number++ {
		group.Add(1)
		go func(number int) {
			defer group.Done()
			data, err := os.ReadFile("/etc/hostname")
			if err != nil {
				panic(err)
			}
			lock.Lock()
			found = append(found, fmt.Sprint(number, len(data)))
			lock.Unlock()
		}(number)
	}
	group.Wait()
	sort.Strings(found)
	fmt.Println(strings.Join(found, ","))
}
"""

NODE = """
const fs = require("fs"), { execFileSync } = require("child_process"), crypto = require("crypto");
const { Worker, isMainThread, parentPort } = require("worker_threads");
const work = (n) => new Promise((resolve) => {
  const worker = new Worker("require('worker_threads').parentPort.postMessage(" + n + " * 2)", { eval: true });
  worker.on("message", resolve);
});
(async () => {
  const texts = await Promise.all(Array.from({ length: 20 }, () => fs.promises.readFile("/etc/hostname", "utf8")));
  console.log(texts.length, new Set(texts).size, execFileSync("echo", ["from a child"]).toString().trim());
  console.log(await Promise.all([1, 2, 3].map(work)));
  console.log(crypto.createHash("sha256").update("x".repeat(1 << 20)).digest("hex"));
})();
"""

PYTHON = """
import concurrent.futures, hashlib, multiprocessing, os, subprocess, threading
def digest(number): return hashlib.sha256(open('/etc/hostname', 'rb').read() + bytes([number])).hexdigest()[:8]
if __name__ == '__main__':
    with concurrent.futures.ThreadPoolExecutor(16) as pool: print(list(pool.map(digest, range(64)))[-1])
    print([subprocess.run(['sh', '-c', f'exit {n}']).returncode for n in range(5)])
    with multiprocessing.Pool(3) as pool: print(pool.map(digest, range(8))[-1])
    done = subprocess.run(['sort'], input=b'b\\na\\n', capture_output=True); print(done.stdout, done.returncode)
    r, w = os.pipe(); pid = os.fork()
    if pid == 0: os.write(w, b'child'); os._exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.read(r, 9))
"""

C = '#include <stdio.h>\nint main(void) { for (int i = 0; i < 3; i++) printf("%d\\n", i); return 3; }\n'

BUSYBOX = (
    "set -e; cd {}; printf 'b\\nc\\na\\n' > f; sort f | tr a-z A-Z; md5sum f; tar cf t.tar f; tar tf t.tar; "
    "gzip -f t.tar; "
    "gunzip t.tar.gz; cksum t.tar >/dev/null; find . -type f | sort; awk '{{ n += length }} END {{ print n }}' f; "
    "sed s/a/x/ f | head -n 2; ls -1; id -u; (exit 4) || echo $?; sh -c 'kill -9 $$' || echo $?; rm f t.tar; exit 7"
)


class Catalog:
    """The programs, made in *folder*.

    :param compile_victim: ``(name, kind)`` gives the path of a victim.
    """

    def __init__(self, folder: Path, compile_victim: Callable[..., str]) -> None:
        self.folder = folder
        self.compile_victim = compile_victim

    def names(self) -> list[str]:
        """Return what can be asked of :meth:`make`."""
        return [name.removeprefix("make_") for name in dir(self) if name.startswith("make_")]

    def make(self, name: str) -> Run:
        """Return the command of a name.

        :raises FileNotFoundError: a program that it needs is not installed.
        """
        made: Run = getattr(self, f"make_{name}")()
        return made

    def _need(self, *names: str) -> None:
        for name in names:
            if shutil.which(name) is None:
                raise FileNotFoundError(f"{name} is not installed")

    def _fresh(self, name: str) -> Callable[[], None]:
        def clear() -> None:
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir()

        return clear

    def make_git(self) -> Run:
        self._need("git")
        origin = self.folder / "origin"
        if not origin.exists():
            origin.mkdir()
            settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
            for number in range(30):
                (origin / f"file{number}").write_text(f"{number}\n" * 100)
            for words in (
                ["init", "-q", "-b", "main"],
                ["add", "."],
                [*settings, "commit", "-q", "-m", "one"],
            ):
                subprocess.run(["git", *words], cwd=origin, check=True)
        target = self.folder / "clone"
        line = (
            f"git clone -q --no-hardlinks file://{origin} {target}/c && cd {target}/c && git fsck --strict && "
            "git log --format=%H && git status --short && cat file7 | md5sum && git gc -q && git count-objects"
        )
        return ["sh", "-c", line], self._fresh("clone")

    def make_gcc(self) -> Run:
        self._need("gcc")
        (self.folder / "main.c").write_text(C)
        target = self.folder / "gcc"
        line = f"gcc -O2 -Wall -o {target}/p {self.folder}/main.c && md5sum {target}/p && {target}/p"
        return ["sh", "-c", line], self._fresh("gcc")

    def make_go(self) -> Run:
        self._need("go")
        module = self.folder / "module"
        module.mkdir(exist_ok=True)
        (module / "main.go").write_text(GO)
        (module / "go.mod").write_text("module example.org/m\n\ngo 1.19\n")
        target = self.folder / "go"
        settings = (
            f"HOME={self.folder} GOCACHE={self.folder}/gocache GOFLAGS=-mod=mod GOPROXY=off CGO_ENABLED=0"
        )
        line = (
            f"cd {module} && {settings} go build -trimpath -o {target}/p . && md5sum {target}/p && {target}/p"
        )
        return ["sh", "-c", line], self._fresh("go")

    def make_node(self) -> Run:
        self._need("node")
        (self.folder / "program.js").write_text(NODE)
        return ["node", str(self.folder / "program.js")], None

    def make_python(self) -> Run:
        (self.folder / "program.py").write_text(PYTHON)
        return [sys.executable, str(self.folder / "program.py")], None

    def make_redis(self) -> Run:
        self._need("redis-server", "redis-benchmark", "redis-cli")
        target = self.folder / "redis"
        path = target / "socket"
        line = (
            f"cd {target}; redis-server --port 0 --unixsocket {path} --save '' --appendonly no --daemonize no > log & "
            f"until redis-cli -s {path} ping 2>/dev/null | grep -q PONG; do :; done; "
            f"redis-benchmark -s {path} -q -n 200 -c 8 -t set,get,incr,lpush > bench || echo failed $?; "
            f"tr '\\r' '\\n' < bench | grep -c 'requests per second'; "
            f"redis-cli -s {path} get counter:__rand_int__; redis-cli -s {path} dbsize; "
            f"redis-cli -s {path} shutdown nosave; wait; echo $?"
        )
        return ["sh", "-c", line], self._fresh("redis")

    def make_busybox(self) -> Run:
        self._need("busybox")
        return ["busybox", "sh", "-c", BUSYBOX.format(self.folder / "busybox")], self._fresh("busybox")

    def make_static_32_bit(self) -> Run:
        caller = self.compile_victim("caller", "32")
        words = [
            "sys 5 s:/etc/hostname 0",
            "cat $",
            "fork sys 24",
            "thread tid",
            "exec sys_39_s:/proc/x_0",
            "exit 9",
        ]
        return [caller, *words], None

    def make_shell(self) -> Run:
        line = (
            "for i in 1 2 3 4 5; do (sleep 0.0$i; echo $i > /dev/null) & done; wait; "
            "seq 1000 | xargs -n 100 -P 4 echo | "
            "sort | "
            "md5sum; cat /proc/self/status | grep -E '^(Sig[BIC]|Cap|Umask|Groups)'; env | sort | "
            "grep -vE '^(_|PWD|OLDPWD|SHLVL)='; ls /proc/self/fd; ulimit -a; umask; readlink /proc/self/exe; exit 11"
        )
        return ["bash", "-c", line], None

    def make_no_environment(self) -> Run:
        return ["env"], None


def environment() -> dict[str, str]:
    """Return what programs are run with."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C"}
