"""What each probe stands for: what it is good for, what is lost without it, and how to get it."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """What a report says about one probe.

    :ivar fact: neither answer is wrong; it is told because it changes what to expect.
    :ivar purpose: what it is for; of a fact, what it means where it holds.
    :ivar absent: how to get it where the kernel does not have it.
    :ivar refused: how to get it where the kernel has it and something forbids it.
    :ivar calls: the system calls that a container's seccomp profile has to allow for it.
    """

    name: str
    group: str
    title: str
    purpose: str
    absent: str = ""
    refused: str = ""
    calls: tuple[str, ...] = ()
    fact: bool = False


GROUPS = {
    "seccomp": "seccomp filters",
    "notify": "seccomp user notification",
    "sud": "Syscall User Dispatch",
    "ptrace": "ptrace",
    "process": "other processes",
    "memory": "memory and code",
    "place": "what this place grants",
    "state": "how things stand here",
}

_SECCOMP_CONFIG = "CONFIG_SECCOMP=y and CONFIG_SECCOMP_FILTER=y"
_LAYERED = (
    "run trapline outside the other filter, or allow seccomp and prctl in it "
    "(docker run --security-opt seccomp=unconfined)"
)
_PTRACE_REFUSED = (
    "docker run --cap-add SYS_PTRACE (Kubernetes: capabilities.add: [SYS_PTRACE]), and "
    "sysctl kernel.yama.ptrace_scope=1 where it is 2; 3 lasts until the next boot"
)


def _action(name: str, title: str, purpose: str, since: str) -> Entry:
    return Entry(
        name,
        "seccomp",
        title,
        purpose,
        f"Linux {since} or later with {_SECCOMP_CONFIG}; a sandbox that emulates Linux may lack it",
        f"`sysctl kernel.seccomp.actions_avail` lists what the administrator left; {_LAYERED}",
        ("seccomp", "prctl"),
    )


def _notify(name: str, title: str, purpose: str, since: str) -> Entry:
    return Entry(
        name,
        "notify",
        title,
        purpose,
        f"Linux {since} or later with {_SECCOMP_CONFIG}",
        _LAYERED,
        ("seccomp", "prctl", "ioctl"),
    )


def _fact(name: str, title: str, purpose: str) -> Entry:
    return Entry(name, "state", title, purpose, fact=True)


ENTRIES = (
    Entry(
        "seccomp_filter",
        "seccomp",
        "filter mode",
        "notify, ptrace, trap and kernel-enforced rules; needs no privilege",
        f"a kernel with {_SECCOMP_CONFIG}",
        _LAYERED,
        ("seccomp", "prctl"),
    ),
    _action("seccomp_kill_process", "KILL_PROCESS", "call.kill() and rules that end the program", "4.14"),
    _action("seccomp_kill_thread", "KILL_THREAD", "OCI profiles that ask for it", "3.5"),
    _action("seccomp_trap", "TRAP", "the trap engine", "3.5"),
    _action("seccomp_errno", "ERRNO", "rules that fail a call without leaving the kernel", "3.5"),
    _action("seccomp_user_notif", "USER_NOTIF", "the notify engine", "5.0"),
    _action("seccomp_trace", "TRACE", "the ptrace engine", "3.5"),
    _action("seccomp_log", "LOG", "rules that only tell the audit log", "4.14"),
    _action("seccomp_allow", "ALLOW", "every filter", "3.5"),
    _notify("notify_listener", "listener, call answered", "the notify engine", "5.0"),
    Entry(
        "notify_listener_free",
        "notify",
        "no other listener present",
        "notify: the kernel allows one listener in a process tree",
        "use --engine rewrite or ptrace, or start trapline outside of what installed the other listener: another "
        "trapline, a container runtime (LXD interception, `listenerPath` in an OCI profile), a sandbox",
        _LAYERED,
        ("seccomp", "prctl"),
    ),
    _notify("notify_sizes", "sizes of its structures", "notify with kernels newer than trapline", "5.0"),
    _notify("notify_continue", "CONTINUE", "notify: hooks that only watch", "5.5"),
    _notify(
        "notify_tsync_esrch",
        "TSYNC_ESRCH",
        "nothing yet: processes are filtered before they have threads",
        "5.7",
    ),
    _notify(
        "notify_wait_killable",
        "WAIT_KILLABLE_RECV",
        "notify: a handled signal waits for the reply instead of cancelling a call half done",
        "5.19",
    ),
    _notify("notify_sync_wake_up", "SYNC_WAKE_UP", "notify: no hop between CPUs, 5 us a call, not 30", "6.6"),
    _notify("notify_addfd", "ADDFD", "reply_fd", "5.9"),
    _notify("notify_addfd_send", "ADDFD with SEND", "reply_fd in one step that nothing can split", "5.14"),
    Entry(
        "notify_addfd_send_retry",
        "notify",
        "ADDFD with SEND after a signal",
        "reply_fd: a signal to the supervisor loses no file",
        "nothing to do: trapline does not rely on repeating that step",
        _LAYERED,
        ("seccomp", "prctl", "ioctl"),
    ),
    _notify("notify_poll_hup", "poll tells the last one's end", "notify: ends with the program", "5.9"),
    _notify(
        "notify_receive_wakes", "receive wakes at that end", "notify: without it, poll goes first", "6.11"
    ),
    Entry(
        "sud_exclusive",
        "sud",
        "all but one range",
        "sud and rewrite, for programs and for guests",
        "Linux 5.11 or later on x86-64 (CONFIG_GENERIC_ENTRY=y); a sandbox that emulates Linux may lack it: "
        "use --engine ptrace",
        "allow prctl(59) in the other filter (docker run --security-opt seccomp=unconfined)",
        ("prctl",),
    ),
    Entry(
        "sud_inclusive",
        "sud",
        "only one range (INCLUSIVE_ON)",
        "sud and rewrite without selector: a guest's calls trap and the host's run at native speed",
        "Linux 6.16 or later; until then trapline flips the selector at each crossing",
        "allow prctl(59) in the other filter (docker run --security-opt seccomp=unconfined)",
        ("prctl",),
    ),
    Entry(
        "sud_selector",
        "sud",
        "selector byte",
        "sud for guests where INCLUSIVE_ON is missing",
        "Linux 5.11 or later on x86-64 (CONFIG_GENERIC_ENTRY=y)",
        "allow prctl(59) in the other filter (docker run --security-opt seccomp=unconfined)",
        ("prctl",),
    ),
    Entry(
        "ptrace_traceme",
        "ptrace",
        "TRACEME",
        "starting a program stopped",
        "a sandbox that emulates Linux may lack it: run trapline outside",
        _PTRACE_REFUSED,
        ("ptrace",),
    ),
    Entry(
        "ptrace_seize",
        "ptrace",
        "SEIZE a child",
        "the ptrace engine; placing the agent of rewrite, sud and trap in a program",
        "Linux 3.4 or later; a sandbox that emulates Linux may lack it: run trapline outside",
        _PTRACE_REFUSED,
        ("ptrace",),
    ),
    Entry(
        "ptrace_seccomp_stop",
        "ptrace",
        "stop before filtered calls",
        "the ptrace engine at native speed for calls that nobody hooks",
        f"Linux 4.8 or later with {_SECCOMP_CONFIG}",
        _PTRACE_REFUSED,
        ("ptrace", "seccomp", "prctl"),
    ),
    Entry(
        "ptrace_get_syscall_info",
        "ptrace",
        "GET_SYSCALL_INFO",
        "the ptrace engine: tells int 0x80 and x32 calls from native ones",
        "Linux 5.3 or later; until then trapline reads registers",
        _PTRACE_REFUSED,
        ("ptrace",),
    ),
    Entry(
        "ptrace_set_syscall_info",
        "ptrace",
        "SET_SYSCALL_INFO",
        "the ptrace engine: changes calls the same way on every machine",
        "Linux 6.16 or later; until then trapline writes registers",
        _PTRACE_REFUSED,
        ("ptrace",),
    ),
    Entry(
        "ptrace_sud_config",
        "ptrace",
        "see and set dispatch from outside",
        "sud, rewrite: attaching to a running program, and leaving it again",
        "Linux 6.4 or later on x86-64; until then `trapline attach` takes ptrace",
        _PTRACE_REFUSED,
        ("ptrace",),
    ),
    Entry(
        "ptrace_attach",
        "ptrace",
        "attach to an unrelated process",
        "Session.attach(pid)",
        "a sandbox that emulates Linux may lack it: run trapline outside",
        "sysctl kernel.yama.ptrace_scope=0, or run trapline as root (docker run --cap-add SYS_PTRACE), "
        "or start the program with `trapline run`",
        ("ptrace",),
    ),
    Entry(
        "procfs",
        "process",
        "/proc of this pid namespace",
        "call.path and call.fd_path, bookkeeping of the process tree",
        "mount -t proc proc /proc (with unshare: --mount-proc)",
        "mount /proc without hidepid, or with gid= of a group that you are in",
    ),
    Entry(
        "pidfd_open",
        "process",
        "pidfd_open",
        "holding on to a process whose number may be used again",
        "Linux 5.3 or later; until then trapline compares start times",
        "allow it in the other filter (docker run --security-opt seccomp=unconfined)",
        ("pidfd_open", "pidfd_send_signal"),
    ),
    Entry(
        "pidfd_getfd",
        "process",
        "pidfd_getfd of a child",
        "call.take_fd(); reply_fd of rewrite, sud and trap",
        "Linux 5.6 or later; only hooks that call take_fd() or reply_fd() need it",
        _PTRACE_REFUSED + "; only hooks that call take_fd() or reply_fd() need it",
        ("pidfd_open", "pidfd_getfd"),
    ),
    Entry(
        "process_vm",
        "process",
        "process_vm_readv of a child",
        "call.read, call.path: a caller's memory in one call",
        "a kernel with CONFIG_CROSS_MEMORY_ATTACH=y; until then trapline reads /proc/PID/mem",
        _PTRACE_REFUSED + "; until then trapline reads /proc/PID/mem",
        ("process_vm_readv", "process_vm_writev"),
    ),
    Entry(
        "proc_mem",
        "process",
        "/proc/PID/mem of a child",
        "call.read and call.write where process_vm_readv falls short",
        "mount -t proc proc /proc",
        _PTRACE_REFUSED + "; boot without proc_mem.restrict_*= (Linux 6.12 and later)",
    ),
    Entry(
        "clone3_clear_sighand",
        "process",
        "clone3 with CLEAR_SIGHAND",
        "nothing yet: trapline resets signal handlers one by one",
        "Linux 5.5 or later. A container that answers ENOSYS on purpose lets it pass with "
        "--security-opt seccomp=unconfined",
        "allow clone3 in the other filter",
        ("clone3",),
    ),
    Entry(
        "arena",
        "memory",
        "an arena of 1 TiB",
        "guests: one range check tells guest from host",
        "ulimit -v unlimited (systemd: LimitAS=infinity), and vm.overcommit_memory other than 2; "
        "or give trapline guest a smaller arena",
        "ulimit -v unlimited",
        ("mmap",),
    ),
    Entry(
        "membarrier_sync_core",
        "memory",
        "membarrier SYNC_CORE",
        "rewrite: patching code that other threads run",
        "Linux 4.16 or later with CONFIG_MEMBARRIER=y; use --engine sud",
        "allow membarrier in the other filter",
        ("membarrier",),
    ),
    Entry(
        "code_patching",
        "memory",
        "code may be changed",
        "rewrite: a hot syscall instruction becomes a jump",
        "use --engine sud",
        "SELinux: setsebool -P selinuxuser_execmod 1; systemd: MemoryDenyWriteExecute=no; or --engine sud",
        ("mprotect",),
    ),
    Entry(
        "thread_segment",
        "memory",
        "a segment of a thread's own",
        "rewrite: patched code finds its thread; without it every call traps, as with sud",
        "a kernel with CONFIG_IA32_EMULATION=y, and no ia32_emulation=0 at boot",
        "allow set_thread_area of the i386 table in the other filter",
        ("set_thread_area",),
    ),
    Entry(
        "memfd_exec",
        "memory",
        "code in a memfd",
        "rewrite, sud and trap: the agent that is placed in a program",
        "Linux 3.17 or later with CONFIG_MEMFD_CREATE=y; use --engine ptrace",
        "sysctl vm.memfd_noexec=0; SELinux: setsebool -P selinuxuser_execmod 1; or --engine ptrace",
        ("memfd_create", "mmap"),
    ),
    Entry(
        "memfd_sealing",
        "memory",
        "sealed memfd",
        "reply_fd(bytes): a file that its reader cannot change",
        "Linux 3.17 or later with CONFIG_MEMFD_CREATE=y",
        "sysctl vm.memfd_noexec=1 where it is 2; allow memfd_create in the other filter",
        ("memfd_create", "fcntl"),
    ),
    Entry(
        "user_namespace",
        "place",
        "user namespace, unprivileged",
        "sandboxes with their own root, mounts and network",
        "a kernel with CONFIG_USER_NS=y; sysctl user.max_user_namespaces=15000 where it is 0",
        "sysctl kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), "
        "kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=15000; "
        "docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
        ("unshare", "clone"),
    ),
    Entry(
        "close_range",
        "place",
        "close_range",
        "nothing yet: trapline's own descriptors are all close-on-exec",
        "Linux 5.11 or later",
        "allow close_range in the other filter",
        ("close_range",),
    ),
    Entry(
        "openat2",
        "place",
        "openat2 with RESOLVE_IN_ROOT",
        "opening a file on a caller's behalf, as the caller sees it",
        "Linux 5.6 or later; until then trapline walks the path itself",
        "allow openat2 in the other filter",
        ("openat2",),
    ),
    Entry(
        "tracefs",
        "place",
        "tracefs readable",
        "trapline's own tests: tables against this kernel's; nothing else needs it",
        "a kernel with CONFIG_FTRACE_SYSCALLS=y; mount -t tracefs tracefs /sys/kernel/tracing",
        "run as root, or mount -o remount,gid=GROUP /sys/kernel/tracing; containers need it mounted in",
    ),
    Entry(
        "perf_event",
        "place",
        "perf events of our own",
        "trapline bench: instructions and cycles beside times",
        "a kernel with CONFIG_PERF_EVENTS=y",
        "sysctl kernel.perf_event_paranoid=2, or docker run --cap-add PERFMON; without it bench shows times",
        ("perf_event_open",),
    ),
    Entry(
        "fsgsbase",
        "place",
        "FSGSBASE instructions",
        "guests: their thread pointer is swapped in 2 ns; without it by arch_prctl, 100 ns or more",
        "Linux 5.9 or later, an x86-64 processor since 2012, and no nofsgsbase at boot",
    ),
    _fact(
        "no_new_privs", "no_new_privs set", "setuid programs gain no rights here, with trapline or without"
    ),
    _fact(
        "seccomp_confined",
        "under a seccomp filter",
        "another filter is below trapline's and may refuse calls",
    ),
    _fact("traced", "our children are traced", "one tracer at a time: strace or a debugger is in the way"),
    _fact("io_uring", "io_uring usable", "programs could make calls unseen; refused unless --allow-io-uring"),
    _fact("vdso", "vDSO present", "no system call for clocks; hidden where clocks are hooked"),
    _fact("vsyscall", "vsyscall page", "calls there escape sud and rewrite, not notify, ptrace and trap"),
    _fact("rdtsc", "rdtsc permitted", "programs can read a clock that no hook sees"),
    _fact("int80", "int 0x80 (i386 calls)", "64-bit programs can use the i386 table as well"),
    _fact("x32", "x32 calls", "a third table of numbers; filters decide it explicitly either way"),
    _fact("shadow_stack", "CET shadow stack active", "rewrite comes back by jump alone"),
    _fact("map_page_zero", "page zero can be mapped", "NULL may not fault here; trapline never maps it"),
)
