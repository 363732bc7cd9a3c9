"""The supervisor's C core. Private: use :class:`trapline.Session` and :class:`trapline.Call`."""

from collections.abc import Callable, Sequence
from typing import Any, Self, final

from trapline.trace.file import Event

@final
class Decision:
    """What a hook returns to say that it has decided its call."""

class Call:
    """One call as the kernel's notification describes it."""

    nr: int
    tid: int
    ip: int
    @property
    def audit_arch(self) -> int: ...
    @property
    def raw(self) -> tuple[int, ...]: ...
    @property
    def pid(self) -> int:
        """The process of the calling thread.

        :raises CallGoneError: it is gone.
        """

    @property
    def path(self) -> str | None:
        """The first path argument, absolute; None when the call has none or the kernel will refuse it anyway.

        *dirfd* and working directory are resolved, ``.`` and ``..`` taken out of the text, symbolic links not
        followed; as seen from the caller's own root directory. Bytes that are no UTF-8 are surrogate-escaped.

        :raises CallGoneError: the caller is gone.
        """

    @property
    def paths(self) -> tuple[str | None, ...]:
        """Every path argument, as :attr:`path` gives the first."""

    def read(self, address: int, size: int, /) -> bytes:
        """Read exactly *size* bytes of the caller's memory.

        :raises MemoryAccessError: not all of it is mapped and readable.
        :raises CallGoneError: the caller is gone.
        """

    def read_str(self, address: int, limit: int = 4096, /) -> str:
        """Read a string that ends with a NUL, at most *limit* bytes, in the file system's encoding."""

    def write(self, address: int, data: bytes | bytearray | memoryview, /) -> None:
        """Write into the caller's own memory, as the kernel does with an output argument.

        :raises MemoryAccessError: the memory there is not mapped and writable.
        """

    def fd_path(self, fd: int, /) -> str | None:
        """What a descriptor of the caller points to, as ``/proc/PID/fd`` names it; None when it is not open."""

    def take_fd(self, fd: int, /) -> int:
        """Return a descriptor here for the same open file as one of the caller's, to act on the caller's behalf.

        It is close-on-exec and yours to close.

        :raises OSError: the caller has no such descriptor (EBADF), or pidfd_getfd is not permitted.
        :raises CallGoneError: the caller is gone.
        """

    def proceed(self) -> Decision:
        """Decide that the kernel performs the call unchanged, and that no further hook is asked."""

    def reply(self, value: int, /) -> Decision:
        """Decide the call's result; it never reaches the kernel.

        :param value: 64 bits, signed. The kernel reads -1 to -4095 as an errno.
        """

    def fail(self, error: int, /) -> Decision:
        """Decide that the call fails with an errno, 1 to 4095; it never reaches the kernel."""

    def kill(self, number: int = 9, /) -> Decision:
        """Decide that the calling process gets a signal, SIGKILL by default, and the call never happens."""

    @property
    def returned(self) -> bool:
        """Whether the kernel has performed the call: this is a hook on its return."""

    @property
    def result(self) -> int:
        """What the call returned, signed; -1 to -4095 is an errno.

        :raises AttributeError: it has not returned yet.
        """

    def perform(self) -> int:
        """Have the kernel perform the call now, wait for that, and return the result, as :attr:`result` gives it.

        The hook still decides: ``reply`` and ``fail`` replace the result, None and ``proceed`` keep it.

        :raises UnsupportedByEngineError: this engine does not tell results.
        :raises CallGoneError: the caller has ended meanwhile; the call may have done its work.
        """

    def waits(self) -> bool:
        """Whether the caller still waits for this call."""

    _name: str
    _arguments: Any
    @property
    def _is_decided(self) -> bool: ...
    @property
    def _id(self) -> int: ...
    def _set_arg(self, index: int, value: int, /) -> None: ...
    def _copy_arg(self, index: int, data: bytes | bytearray | memoryview, /) -> None: ...
    def _open(self, dirfd: int, path: str, flags: int, mode: int, resolve: int, /) -> int: ...
    def _reply_fd(self, fd: int, close_on_exec: bool, /) -> Decision: ...
    def _add_fd(self, fd: int, close_on_exec: bool, /) -> int: ...
    def _check(self, result: object, /) -> bool: ...
    def _answer(self) -> None: ...

@final
class Listener:
    """Worker threads that take calls from an engine's transport, apply rules and call hooks."""

    def __new__(
        cls,
        transport: Transport,
        workers: int,
        call_type: type[Call],
        on_error: Callable[..., int],
        defer: Callable[..., None],
        describe: Callable[[int, int], tuple[tuple[int, int, int, int, bool], ...]],
        /,
    ) -> Listener: ...
    @property
    def fd(self) -> int: ...
    def set_hooks(
        self,
        audit_arch: int,
        nr: int,
        hooks: tuple[Callable[..., Any], ...],
        deferred: bool,
        returned: bool,
        /,
    ) -> None: ...
    def add_rule(
        self,
        glob: str | None,
        which: tuple[int, int, int],
        chance: tuple[int, int],
        delay_enter_ns: int,
        delay_exit_ns: int,
        action: int,
        value: int,
        targets: tuple[tuple[int, ...], ...],
        more: bytes,
        pokes: bytes,
        /,
    ) -> None: ...
    def meet_exec(
        self, audit_arch: int, nr: int, command: int, on_unhidden: Callable[[int], None], /
    ) -> None: ...
    def rule_count(self, index: int, /) -> int: ...
    def rule_hits(self) -> tuple[int, list[tuple[int, int, int, int, int, int]]]:
        """How often rules that log have acted, and the first of these: rule, pid, tid, arch, nr, number."""

    def start(self) -> None: ...
    def close(self) -> None: ...
    def wait_idle(self, milliseconds: int, /) -> bool: ...
    def counts(self) -> tuple[int, int, int, int, int, int]:
        """(received, replied, gone, workers, most_waiting, failure)."""

    def call_counts(self) -> dict[tuple[int, int], int]: ...

@final
class Spawn:
    """A command that was started under a filter and is about to be executed, or is held before it is filtered."""

    pid: int
    pidfd: int
    listener: int
    waits_killable: bool
    @property
    def no_new_privs(self) -> bool: ...
    def __new__(
        cls,
        path: bytes,
        argv: Sequence[bytes],
        envp: Sequence[bytes],
        cwd: bytes | None,
        stdio: tuple[int, int, int],
        filter: bytes | None,
        job: Job | None,
        hold: bool,
        passed: tuple[tuple[int, int], tuple[int, int]] = ...,
        /,
    ) -> Spawn:
        """Start a process for a command.

        :param stdio: descriptors to become its 0, 1 and 2; -1: what is there.
        :param filter: instructions to install, as the kernel reads them; None only where *hold* is set.
        :param hold: it waits for :meth:`release` before its filter and its execve; its filter has no listener.
        :param passed: two more descriptors that it gets, each with its number there.
        :raises OSError: it cannot be made, or not be filtered.
        """

    def release(self) -> None: ...
    def close(self) -> None: ...
    def wait_exec(self, wake: int, /) -> bool: ...
    @property
    def exec_error(self) -> int: ...
    @property
    def filter_error(self) -> int: ...

@final
class Job:
    """Signals that are meant for the command are passed on to it, until :meth:`end`."""

    interrupted: bool
    def __new__(cls) -> Job: ...
    def early_signal(self) -> int: ...
    def pass_early(self, pidfd: int, /) -> None: ...
    def wait(
        self,
        pid: int,
        pidfd: int,
        tracer: Tracer | None,
        listener: int,
        wake: int,
        milliseconds: int,
        /,
    ) -> tuple[int, int]: ...
    def end(self) -> None: ...

@final
class Tracer:
    """The thread that traces one program, for the ptrace engine."""

    def __new__(
        cls,
        filter: bytes,
        filtered: bool,
        on_unhidden: Callable[[int], None] | None,
        on_signal: Callable[[int, int, bytes], None] | None,
        /,
    ) -> Tracer:
        """Start the thread.

        :param filter: which calls are for us, as instructions that the kernel reads.
        :param filtered: the program has that filter itself; else each of its calls stops, and the thread looks.
        :param on_unhidden: ``(errno)``: a program has kept its vDSO; None: it is to keep it.
        :param on_signal: ``(tid, number, siginfo)``: a thread is about to enter a handler.
        """

    def seize(self, pid: int, /) -> None:
        """Trace a process that has one thread and is held (``Spawn`` with *hold*).

        :raises OSError: it may not be traced, or is already.
        """

    def attach(self, pid: int, /) -> None:
        """Trace every thread of a process that runs; they stop until :meth:`begin`.

        :raises OSError: it may not be traced, or is already.
        """

    def begin(self) -> None:
        """Let what was attached to go on."""

    def detach(self, milliseconds: int, /) -> bool:
        """Let everything go on untraced; False when not all of it could be let go in that time."""

    def close(self) -> None:
        """Give back what a :class:`Job` has looked at."""

    def transport(self) -> Transport:
        """Return what a :class:`Listener` takes; once."""

    def exit_status(self) -> int | None:
        """Return the wait status of the process that was seized or attached to, if the thread has been told of it.

        It mostly lets go of it in time for the parent to be told.
        """

class Agent:
    """What the agents of one program and its supervisor share, for the in-process engines.

    Absent where there is no agent for the processor: it is for x86-64 alone.
    """

    def __new__(
        cls,
        flags: int,
        threshold: int,
        hide_vdso: bool,
        program: bytes,
        on_unhooked: Callable[[int, int, int, bytes], None],
        /,
    ) -> Agent:
        """Make the shared memory, with the agent in it.

        :param flags: 1: sites that trap often are rewritten.
        :param threshold: how often a site traps before that.
        :param program: the filter that the agent applies to calls of the slow class.
        :param on_unhooked: ``(pid, reason, errno, name)``: a process runs a program that the agent could not enter;
            the reason is one of ``enum tl_unhooked``. Called from any thread.
        :raises OSError: the kernel lacks or refuses what the flags need, or there are no descriptors or no memory.
        """

    @property
    def descriptors(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """What a command has to be given (``passed`` of :class:`Spawn`)."""

    def transport(self) -> Transport:
        """Return what a :class:`Listener` takes; once, and before :meth:`enter`."""

    def classify(self, kind: int, numbers: Sequence[int] | None, /) -> None:
        """Say how calls are treated: 0 straight to the kernel, 1 a constant result, 2 the slow path.

        :param numbers: of x86-64 calls; None means all.
        """

    def classify_own(self) -> None:
        """Put the calls that the agent itself has to see on the slow path."""

    def set_constant(self, nr: int, result: int, /) -> None:
        """Have a call answered by the agent, always with the same result."""

    def set_rules(self, audit_arch: int, nr: int, uses: tuple[tuple[int, int, int, int], ...], /) -> bool:
        """Say which rules the agent applies to a call, before the program begins.

        :param nr: -1, which has to come first: all.
        :param uses: in order, each the index of a rule, the subcall of a multiplexer that it is for, or -1, a
            bit per argument that is a descriptor, and the argument that is a size that can be cut down, or -1.
        :returns: False when there is no room for more.
        """

    def capture(
        self, fd: int, part: int, limit: int, drop: bool, signals: bool, alone: bool, plans: bytes, /
    ) -> None:
        """Have agents record calls, before the program begins; the file is left alone.

        :param alone: no hook and no rule is about any call.
        :param plans: ``struct tl_capture_plan`` for each number and one for all others; see native/agent/capture.h.
        """

    def begin_capture(self) -> None:
        """Write to the file from now on, also what was recorded meanwhile.

        :raises OSError: it cannot be written.
        """

    def append_chunk(self, kind: int, pid: int, tid: int, data: bytes, /) -> int: ...
    def ticks(self) -> int:
        """The time stamp counter, by which records tell the time."""

    def end_capture(self) -> int:
        """0, or the errno of what could not be written."""

    def enter(self, spawn: Spawn, /) -> tuple[int, int]:
        """Let a command that is held go on to its execve, and put the agent into the new program.

        :returns: why it could not be put there, as for *on_unhooked*, and an errno; 0 and 0 when it was, or when the
            execve has failed.
        :raises OSError: something else failed.
        """

    def attach(self, pid: int, /) -> None:
        """Put the agent into a running process, with all of its threads, and keep them stopped.

        :raises OSError: that cannot be; the process goes on as before.
        """

    def begin(self) -> None:
        """Let the threads go on."""

    def detach(self) -> int:
        """Take the agent out of every process that has it, which go on as before; it is of no use afterwards.

        :returns: how many processes keep it.
        """

    @staticmethod
    def gate() -> tuple[bytes, int, tuple[tuple[int, int, int], ...]]:
        """Return the template of blocks: code, the offset of its system call, and (offset, kind, addend) each."""

    def next_plan(self, milliseconds: int, /) -> tuple[int, int, int, int, int] | tuple[()] | None:
        """Wait for an agent's question how to rewrite a site.

        :returns: its number, the process, the address of the ``syscall``, and from where to where there is room for a
            block; None when nobody has asked; nothing at all once :meth:`end_plans` was called.
        """

    def end_plans(self) -> None:
        """Have nobody wait for a question any more."""

    def answer_plan(self, number: int, plan: bytes, /) -> None:
        """Answer it, in the form of :mod:`trapline.rewriting.wire`."""

    def reports(self) -> list[tuple[int, int, int, dict[int, int]]]:
        """Return for each process its id, sites met, sites rewritten, and how many were left alone by reason."""

@final
class Transport:
    """How calls come from a program and answers go back: a capsule that one :class:`Listener` takes."""

def notify_transport(fd: int, /) -> Transport:
    """Return the transport over a seccomp listener, which it owns from here on."""

def probe(name: str, timeout_ms: int = 5000) -> tuple[bool | None, int, str]:
    """Try one kernel feature in a process of its own.

    The GIL is released meanwhile. Whatever the attempt does, this process is as before: no child is left, no
    signal is delivered to it, no descriptor stays open.

    :param name: one of :func:`probe_names`.
    :param timeout_ms: milliseconds after which the attempt is ended.
    :returns: whether it works (``None``: it could not be tried), the errno that decided it or 0, and a value
        or the reason as text.
    :raises ValueError: there is no such probe.
    :raises OSError: no process or pipe could be made to try it with.
    """

def probe_names() -> tuple[str, ...]:
    """Return the names that :func:`probe` knows on this architecture, in order."""

def find_mapping(pid: int, address: int, /) -> tuple[int, int, int, int, int, int, int, str]:
    """Ask the kernel what a process has mapped at an address.

    :returns: start, end, flags (1 readable, 2 writable, 4 executable, 8 shared), offset in the file, inode, major
        and minor number of the device, path or name.
    :raises OSError: ESRCH without such a process, ENOENT where nothing is mapped, ENOTTY or EINVAL from a kernel
        that cannot be asked; or the process may not be looked at.
    """

@final
class Guest:
    """What the threads of one guest share. Absent where :class:`Agent` is."""

    def __new__(
        cls,
        engine: int,
        rewrites: bool,
        handlers: dict[tuple[int, int], Callable[..., Any]],
        on_kick: Callable[..., None],
        on_hot: Callable[[int], None],
        /,
    ) -> Guest:
        """Make its tables.

        :param engine: ``enum tl_guest_engine``: 0 dispatch, 1 a filter that traps, 2 one that notifies.
        :param handlers: by ``AUDIT_ARCH_*`` and number (-1: all others), what does calls: ``(thread, call)``.
        :param on_kick: called with a thread that was kicked, before it goes on.
        :param on_hot: called with the address of a site that has trapped often.
        :raises OSError: there is no room, or the processor lacks what it takes.
        """

    @property
    def region(self) -> int: ...
    @property
    def bell(self) -> int: ...
    @property
    def passed(self) -> int: ...
    def transport(self) -> Transport: ...
    def set_listener(self, listener: Listener, program: bytes, /) -> None: ...
    def set_ranges(self, ranges: tuple[tuple[int, int], ...], selects: bool, /) -> None: ...
    def rearm(self) -> None: ...
    def set_catching(self, program: bytes, later: bool, /) -> None: ...
    def set_convention(
        self, number: int, args: tuple[int, ...], result: int, carry_is_error: bool, /
    ) -> None: ...
    def classify(self, kind: int, numbers: Sequence[int] | None, /) -> None: ...
    def set_constant(self, nr: int, value: int, /) -> None: ...
    def own_files(self) -> None: ...
    def close_descriptors(self) -> None: ...
    def add_patch(self, site: int, gate: int, /) -> int: ...

class GuestThread:
    """Runs code of a guest on the calling thread."""

    fs: int
    return_to: int
    nr: int
    goes_on_at: int
    interrupted: bool
    begun: bool
    piped: bool
    def __new__(cls, guest: Guest, /) -> Self: ...
    @property
    def notified(self) -> bool: ...
    @property
    def index(self) -> int: ...
    @property
    def tid(self) -> int: ...
    @property
    def arch(self) -> int: ...
    @property
    def block(self) -> int: ...
    @property
    def killed_by(self) -> int: ...
    def attach(self) -> None:
        """Have the calling thread be the one that runs it next."""

    def detach(self) -> None: ...
    def run(self) -> int:
        """Run until it has returned (0), faulted (1), a hook has failed (2) or killed it (3).

        It stays attached, so that what goes on after a fault is the same thread to the kernel.
        """

    def kick(self) -> None: ...
    def nudge(self) -> None: ...
    def perform(self, nr: int, *args: int) -> int | None:
        """Have the kernel perform a call on this thread; None when the guest is to make its own call again later."""

    def interrupt(self) -> None: ...
    def get(self, register: int, /) -> int: ...
    def set(self, register: int, value: int, /) -> None: ...
    def copy_from(self, other: GuestThread, /) -> None: ...
    def fault(self) -> tuple[int, int, int, int, int]: ...
    def vectors(self) -> bytes: ...
    def set_vectors(self, data: bytes, /) -> None: ...
    def write_memory(self, address: int, data: bytes, /) -> bool: ...

def memory_map(address: int, size: int, protection: int, flags: int, fd: int, offset: int, /) -> int: ...
def memory_unmap(address: int, size: int, /) -> None: ...
def memory_protect(address: int, size: int, protection: int, /) -> None: ...
def memory_view(address: int, size: int, is_writable: bool, /) -> memoryview: ...
def memory_grow(address: int, old_size: int, new_size: int, /) -> None: ...
def memory_move(address: int, old_size: int, new_size: int, to: int, /) -> None: ...
def memory_exchange(address: int, old: int, new: int, /) -> bool: ...
def write_window(address: int, data: bytes, boundaries: int, restores: bool, /) -> None: ...
def system_call(nr: int, *args: int) -> int: ...
def shared_memory_size(id: int, /) -> int: ...
def keep_descriptor(fd: int, /) -> None: ...
def tell_descriptors(is_i386: bool, nr: int, kind: int, /) -> None: ...
def unshare_files() -> None: ...

class TraceText:
    """Writes events as lines.

    :param plan: ``plan(nr)`` returns a ``struct tl_text_plan``, see native/core/trace_text.h, or nothing.
    :param named: ``named(nr, index, value)`` returns the text of an argument, a result (6) or a mode (7).
    :param line: returns a line but for its beginning and end, or None; behind a NUL in it are lines that follow.
    :param write: gets a thread, if each has its own text, and the text, piece by piece.
    :param path: ``path(pid, fd)`` returns the file behind a descriptor, or "".
    :param learn: gets calls that have changed these, unless *line* was asked for them.
    """

    def __new__(
        cls,
        limit: int,
        column: int,
        pids: int,
        stamp: int,
        durations: bool,
        paths: bool,
        keeps: bool,
        event_type: type[Event],
        plan: Callable[[int], bytes],
        named: Callable[[int, int, int], str],
        line: Callable[[Event], str | None],
        write: Callable[[int, bytes], object],
        path: Callable[[int, int], str],
        learn: Callable[[Event], object],
        /,
    ) -> Self: ...

class TraceReader:
    """Reads a recorded file piece by piece; see native/agent/capture.h."""

    def __new__(cls, event_type: type[Event], /) -> Self: ...
    def feed(self, data: bytes, /) -> None:
        """Take the next bytes, behind the file's header."""

    def give_back(self) -> int:
        """Forget the bytes at the end that are no whole chunk, and return how many: the next ones begin there."""

    def next(self, everything: bool, /) -> Event | None:
        """Return the next event that nothing can come before any more, or with *everything* the next there is."""

    def counts(self) -> list[tuple[int, int, int, int, int, tuple[int, int, int, int, int, int]]]:
        """Return (number, whether of i386, whether failed, calls, nanoseconds, calls by time) of the calls so far.

        Those by time took under 1, 10, 100 microseconds, 1, 10 milliseconds, or longer.
        """

    def write(
        self, everything: bool, text: TraceText | None, also: Callable[[Event], object] | None, /
    ) -> None:
        """Write all such events as lines; *also* is called with each."""
