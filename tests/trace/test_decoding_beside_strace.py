"""Arguments and results of the calls that programs make most are shown as strace shows them."""

from __future__ import annotations

import difflib
import re
import subprocess
import tempfile

import pytest
from traced_lines import by_thread, normal

VICTIMS = ("files", "processes", "sockets", "memory", "kernel")
#: What docs/trace.md lists: where strace writes something else, and what both are taken for here.
DIFFERENCES = {
    "sockets": [
        (r"\b(SNDCTL_TMR_\w+|BTRFS_IOC_CLONE) or ", ""),
        (r'SO_RCVTIMEO(_OLD, "[^"]*"|, \{tv_sec=3, tv_usec=4\}),', "SO_RCVTIMEO, TIME,"),
        (r"(TIOCGPTPEER), (0x102|O_NOCTTY\|O_RDWR)\)", r"\1, FLAGS)"),
        (r"(SIOCGIFCONF), (\{.*\}|ADDRESS)\)", r"\1, LIST)"),
    ],
    # The filter by which `trap` catches calls is seen.
    "processes": [(r"^--- SIGCHLD .*", ""), (r"^prctl\(PR_GET_SECCOMP\) = [02]$", "")],
    # Objects are numbered anew each time.
    "memory": [(r"^((?:shm|sem|msg)\w+\()\d{4,}", r"\1ID"), (r"^((?:shm|sem|msg)get\(.*) = \d+", r"\1 = ID")],
    "files": [],
    # Keys have random numbers; of a program and of a map the rest is rarely used.
    "kernel": [
        (r"^((?:add_key|keyctl)\(.*) = \d{5,}", r"\1 = KEY"),
        (r'^(bpf\(BPF_MAP_CREATE, .* map_name=""), .*\}', r"\1, ...}"),
        (r"^(bpf\(BPF_PROG_LOAD, .* log_buf=NULL), .*\}", r"\1, ...}"),
    ],
}
#: Likewise of 32-bit programs: which calls are left out, and what of others is not told.
SHORT_WORDS = {
    "files": "set_thread_area utime utimes futimesat utimensat sendfile fadvise64 getdents readahead",
    "processes": "set_thread_area rt_sigtimedwait rt_sigqueueinfo rt_sigreturn get_robust_list waitid getresuid "
    # What it gives to the last one is left over from others.
    "getresgid getgroups setgroups sched_setaffinity",
    "sockets": "set_thread_area ppoll pselect6",
}
SHORT_WORDS_DIFFERENCES = {
    "files": [(r"^fcntl\(.*F_OFD_SETLK.*", "")],
    "processes": [*DIFFERENCES["processes"]],
    "sockets": [
        *DIFFERENCES["sockets"],
        (r'SO_RCVTIMEO, "[^"]*",', "SO_RCVTIMEO, TIME,"),
        (r"\b(BLKGETSIZE64|FS_IOC32_GETFLAGS|_IOC\(.*?\))", "NUMBER"),
    ],
}
MOST_USED = """
access accept4 alarm arch_prctl bind brk capget chdir chmod chown clock_getres clock_gettime clock_nanosleep clone
clone3 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create1 epoll_ctl epoll_pwait epoll_wait
eventfd2 execve execveat exit_group faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchown fchownat fcntl
fdatasync flock fork fstat fstatfs fsync ftruncate futex getcwd getdents64 getegid geteuid getgid getgroups
getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid
getsockname getsockopt gettid gettimeofday getuid getxattr inotify_add_watch inotify_init1 ioctl kill lchown link
linkat listen listxattr lseek lstat madvise membarrier memfd_create mincore mkdir mkdirat mknod mlock mmap mprotect
mremap msync munmap nanosleep newfstatat open openat openat2 personality pidfd_open pidfd_send_signal pipe pipe2 poll
ppoll prctl pread64 preadv prlimit64 pselect6 pwrite64 pwritev read readlink readlinkat readv recvfrom recvmmsg
recvmsg rename renameat2 rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
rt_sigtimedwait sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_setaffinity sched_setscheduler
sched_yield seccomp select semop sendfile sendmmsg sendmsg sendto set_robust_list set_tid_address setgid setgroups
setitimer setpgid setpriority setresuid setrlimit setsid setsockopt setuid setxattr shmat shmget shutdown sigaltstack
signalfd4 socket socketpair splice stat statfs statx symlink sync_file_range sysinfo tgkill time timer_create
timer_settime timerfd_create timerfd_settime times truncate umask uname unlink unlinkat unshare utime utimensat vfork
vmsplice wait4 waitid write writev
"""


@pytest.fixture(scope="module")
def theirs(strace, victim, tmp_path_factory):
    """What strace shows of a program, asked once."""
    found = {}

    def ask(name):
        if name not in found:
            output = str(tmp_path_factory.mktemp(name) / "out")
            found[name] = lines([strace, "-f", "-o", output, victim(f"shown/{name}")], output)
        return found[name]

    return ask


def lines(command, output):
    """Run a command in an empty folder, whose name is always as long, and return what *output* then has."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="trapline-shown-") as folder:
        subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=100)
        with open(output, errors="surrogateescape") as file:
            threads = by_thread(file.read())
        return [[normal(line).replace(folder, "FOLDER") for line in thread] for thread in threads]


def alike(differences, thread):
    for pattern, replacement in differences:
        thread = [re.sub(pattern, replacement, line) for line in thread]
    return [line for line in thread if line]


@pytest.mark.parametrize("name", VICTIMS)
def test_calls_are_shown_as_strace_shows_them(recording, name, theirs, trapline, victim, tmp_path):
    output, program = str(tmp_path / "out"), victim(f"shown/{name}")
    expected = theirs(name)
    got = lines([trapline, "trace", "--engine", recording, "-o", output, "--", program], output)
    assert len(expected) == len(got)
    for thread, (one, other) in enumerate(zip(expected, got, strict=True)):
        found = difflib.unified_diff(
            alike(DIFFERENCES[name], one),
            alike(DIFFERENCES[name], other),
            "strace",
            "trapline",
            lineterm="",
            n=0,
        )
        difference = "\n".join(found)
        assert not difference, f"thread {thread}:\n{difference[:4000]}"


@pytest.mark.parametrize("name", SHORT_WORDS)
def test_calls_of_32_bit_programs_are_shown_as_strace_shows_them(name, strace, trapline, victim, tmp_path):
    # The names of these two calls there.
    names = ("-DSYS_newfstatat=SYS_fstatat64", "-DSYS_accept=SYS_accept4")
    program, output = victim(f"shown/{name}", "32", (), *names), str(tmp_path / "out")
    expected = lines([strace, "-f", "-o", output, program], output)
    got = lines([trapline, "trace", "-o", output, "--", program], output)
    assert len(expected) == len(got)
    left_out = tuple(f"{call}(" for call in SHORT_WORDS[name].split())
    compared = 0
    for one, other in zip(expected, got, strict=True):
        both = [
            [line for line in alike(SHORT_WORDS_DIFFERENCES[name], thread) if not line.startswith(left_out)]
            for thread in ([line for line in one if "runs in 32 bit mode" not in line], other)
        ]
        assert both[1] == both[0]
        compared += len(both[0])
    assert compared > 90


def test_the_most_used_calls_are_among_them(theirs):
    names = {line.split("(")[0] for name in VICTIMS for thread in theirs(name) for line in thread}
    wanted = set(MOST_USED.split())
    assert len(wanted) >= 120
    assert wanted - names == set()


@pytest.mark.parametrize("name", ["sockets", "processes", "kernel"])
def test_differences_that_are_listed_are_there(name, theirs):
    text = [line for thread in theirs(name) for line in thread]
    for pattern, _ in DIFFERENCES[name]:
        assert any(re.search(pattern, line) for line in text), pattern
