"""Rules: what to do about system calls without any Python, written as ``-e`` expressions.

::

    openat:path=/etc/*:error=EACCES      getuid:retval=0
    connect:delay_enter=200ms            fsync,fdatasync:error=EIO:when=3
    sendto:error=EAGAIN:p=0.01:seed=7    unlink,unlinkat:count
"""

from __future__ import annotations

import os

from trapline import abi
from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MOST", "Hit", "Rule", "parse", "targets"]

_NANOSECONDS = {"": 1000, "us": 1000, "ns": 1, "ms": 10**6, "s": 10**9}
_KEYS = "path, error, retval, delay_enter, delay_exit, when, p, seed, count"
#: How many rules a program can have: the room that its agents look into.
MOST = 1024
#: How many bytes a rule can poke.
MOST_POKED = 4096
# struct tl_rule_more and struct tl_rule_poke, see native/agent/rule.h.
_MORE, _POKE = "<IIiiHB5xQ6Q16s8x", "<BBH"
_PER_THREAD, _LOGS, _POKES_EXIT = 1, 2, 4
_ALL = (1 << 64) - 1


class Rule:
    """One parsed rule. Rules act in order, before hooks; the first with a result ends it.

    :ivar text: as it was written.
    :ivar names: system calls, or ``"*"``.
    :ivar path: glob (``*`` crosses ``/``) that one of the call's paths must match, or None.
    :ivar error: errno to fail with, or None.
    :ivar retval: result to give instead, or None.
    :ivar delay_enter_ns: how long the call waits before anything else happens, in nanoseconds.
    :ivar delay_exit_ns: how long it waits with its result in hand, before its caller goes on.
    :ivar first: ``when=first..last+step``: which of the matching calls, counted from 1 over the whole program.
    :ivar last: 0 is no end.
    :ivar step: 0 is *first* alone.
    :ivar probability: of acting on such a call, above 0 and at most 1.
    :ivar seed: of the random numbers, one per matching call: the same seed hits the same calls. None: the number of
        the rule among all, from 1.
    :ivar count: it is counted, although it may give a result to every call.
    :ivar per_thread: *first*, *last* and *step* count each call of each thread by itself.
    :ivar logs: it is recorded where the rule acts.
    :ivar signal: number of a signal that its caller finds when the call returns, or 0.
    :ivar pid: the process that the call must come from, or None.
    :ivar comm: the name that the calling thread must have, or "".
    :ivar fd: the descriptor that one of the call's arguments must be, or None.
    :ivar after: a rule that must have acted before, or None.
    :ivar set_args: what arguments are replaced by, by position.
    :ivar most: the size that the call hands to the kernel is cut down to this, or None.
    :ivar pokes: what overwrites memory: position of the argument that points to it, whether that happens after
        the call, and the bytes.
    """

    __slots__ = (
        "after", "comm", "count", "delay_enter_ns", "delay_exit_ns", "error", "fd", "first", "last", "logs", "most",
        "names", "path", "per_thread", "pid", "pokes", "probability", "retval", "seed", "set_args", "signal", "step",
        "text",
    )  # fmt: skip

    def __init__(self, text: str, names: tuple[str, ...]) -> None:
        self.text = text
        self.names = names
        self.path: str | None = None
        self.error: int | None = None
        self.retval: int | None = None
        self.delay_enter_ns = self.delay_exit_ns = 0
        self.first, self.last, self.step = 1, 0, 1
        self.probability = 1.0
        self.seed: int | None = None
        self.count = self.per_thread = self.logs = False
        self.signal = 0
        self.pid: int | None = None
        self.comm = ""
        self.fd: int | None = None
        self.after: Rule | None = None
        self.set_args: dict[int, int] = {}
        self.most: int | None = None
        self.pokes: tuple[tuple[int, bool, bytes], ...] = ()

    @property
    def result(self) -> int | None:
        """What the call returns; -1 to -4095 is an error."""
        return -self.error if self.error is not None else self.retval

    @property
    def always_decides(self) -> bool:
        """It has a result for every call, so that later rules and hooks are not asked."""
        every = (self.first, self.last, self.step, self.probability) == (1, 0, 1, 1.0)
        wanted = (self.path, self.pid, self.fd, self.after) == (None, None, None, None) and not self.comm
        return every and wanted and self.result is not None

    @property
    def is_constant(self) -> bool:
        """It is nothing but one result for every call: nobody has to run for it, and nobody counts."""
        acts = self.delay_enter_ns or self.delay_exit_ns or self.signal or self.pokes or self.set_args
        return self.always_decides and not (self.count or self.logs or acts or self.most is not None)

    def __repr__(self) -> str:
        return f"<Rule {self.text}>"


class Hit:
    """Where a rule has acted.

    :ivar rule: its text.
    :ivar name: the call.
    :ivar pid: the process that made it, and *tid* the thread.
    :ivar number: which of the calls it was, as the rule counts them.
    """

    __slots__ = ("name", "number", "pid", "rule", "tid")

    def __init__(self, rule: str, name: str, pid: int, tid: int, number: int) -> None:
        self.rule = rule
        self.name = name
        self.pid = pid
        self.tid = tid
        self.number = number

    def __repr__(self) -> str:
        return f"<Hit {self.name} {self.number} of thread {self.tid}: {self.rule}>"


def _split(text: str) -> list[str]:
    """Split at colons; a backslash takes the next character as it is."""
    parts = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            parts[-1] += next(characters, "\\")
        elif character == ":":
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _integer(text: str) -> int | None:
    try:
        return int(text, 0)
    except ValueError:
        return None


def _errno(text: str, rule: str) -> int:
    number = _integer(text)
    if number is None:
        from trapline.abi.errno import Errno

        try:
            number = int(Errno[text])
        except KeyError:
            raise UsageError(f"rule '{rule}': unknown error {text!r}; write a name such as EIO") from None
    if not 1 <= number <= 4095:
        raise UsageError(f"rule '{rule}': error {number} is not within 1 to 4095")
    return number


def _duration(text: str, rule: str) -> int:
    digits = text.rstrip("nums")
    unit = _NANOSECONDS.get(text[len(digits) :])
    try:
        value = float(digits)
    except ValueError:
        unit = None
    if unit is None or not 0 <= value < 10**6:
        raise UsageError(f"rule '{rule}': {text!r} is no duration; write 200ms, 1.5s, 50us, or microseconds")
    return round(value * unit)


def _probability(text: str, rule: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise UsageError(f"rule '{rule}': p={text!r} is no probability above 0 and at most 1, such as 0.01")
    return value


def _occurrences(text: str, rule: str) -> tuple[int, int, int]:
    """Read strace's ``first[..last][+[step]]``."""
    head, plus, step_text = text.partition("+")
    first_text, dots, last_text = head.partition("..")
    first = _integer(first_text)
    last = _integer(last_text) if dots else 0
    step: int | None = 0
    if plus:
        step = _integer(step_text) if step_text else 1
    elif dots:
        step = 1
    if (
        first is None
        or last is None
        or step is None
        or first < 1
        or step < bool(plus)
        or (dots and last < first)
    ):
        raise UsageError(
            f"rule '{rule}': when={text!r} is not FIRST, FIRST+, FIRST+STEP or FIRST..LAST+STEP, counted from 1"
        )
    return first, last, step


def parse(text: str) -> Rule:
    """Read one rule, ``call[,call...]:key=value[:key=value...]``.

    :raises UsageError: it cannot be understood; the message says which part and what would be right.
    :raises UnknownSyscallError: it names a system call that no table has.
    """
    head, *rest = _split(text)
    names = tuple([name.strip() for name in head.split(",") if name.strip()])
    if not names or not rest:
        raise UsageError(f"rule '{text}' is not CALL[,CALL...]:KEY=VALUE[:KEY=VALUE...], with keys {_KEYS}")
    for name in names:
        if name != "*" and not any(abi.exists(name, arch) for arch in abi.ARCHES):
            abi.number(name)
    rule = Rule(text, names)
    seen: set[str] = set()
    for part in rest:
        key, equals, value = part.partition("=")
        if (not equals or not value) and part != "count":
            raise UsageError(f"rule '{text}': {part!r} is not KEY=VALUE, with keys {_KEYS}")
        if key in seen:
            raise UsageError(f"rule '{text}': {key} is given twice")
        seen.add(key)
        _set(rule, key, value)
    if rule.error is not None and rule.retval is not None:
        raise UsageError(f"rule '{text}': error and retval exclude each other; keep one")
    if rule.result is None and not (rule.delay_enter_ns or rule.delay_exit_ns or rule.count):
        raise UsageError(
            f"rule '{text}' does nothing: add error=, retval=, delay_enter=, delay_exit= or count"
        )
    if rule.seed is not None and "p" not in seen:
        raise UsageError(f"rule '{text}': seed= is nothing without p=, such as p=0.01")
    if rule.path is not None:
        _check_paths(rule)
    return rule


def _set(rule: Rule, key: str, value: str) -> None:
    if key == "path":
        rule.path = value
    elif key == "error":
        rule.error = _errno(value, rule.text)
    elif key == "retval":
        number = _integer(value)
        if number is None or not -(1 << 63) <= number < 1 << 63:
            raise UsageError(f"rule '{rule.text}': retval {value!r} is no 64-bit number")
        rule.retval = number
    elif key == "delay_enter":
        rule.delay_enter_ns = _duration(value, rule.text)
    elif key == "delay_exit":
        rule.delay_exit_ns = _duration(value, rule.text)
    elif key == "when":
        rule.first, rule.last, rule.step = _occurrences(value, rule.text)
    elif key == "p":
        rule.probability = _probability(value, rule.text)
    elif key == "seed":
        seed = _integer(value)
        if seed is None or not 0 <= seed < 1 << 64:
            raise UsageError(
                f"rule '{rule.text}': seed {value!r} is no number from 0 to 18446744073709551615"
            )
        rule.seed = seed
    elif key == "count":
        if value:
            raise UsageError(f"rule '{rule.text}': count takes no value")
        rule.count = True
    else:
        raise UsageError(f"rule '{rule.text}': unknown key {key!r}; there are {_KEYS}")


def _check_paths(rule: Rule) -> None:
    for name in rule.names:
        if name == "*":
            continue
        arches = [arch for arch in abi.ARCHES if abi.exists(name, arch)]
        if not any(abi.signature(name, arch).paths for arch in arches):
            raise UsageError(f"rule '{rule.text}': {name} takes no path; leave path= out")


def targets(rule: Rule, calls: Iterable[tuple[str, int, str, int]]) -> tuple[tuple[int, ...], ...]:
    """Return what the native core needs to find a rule's paths.

    :param calls: ``(arch, nr, name, inner)`` of each call; *inner* is the number inside a multiplexer, or -1.
    :returns: ``(audit_arch, nr, inner, path, dirfd, path, dirfd, fds, size)`` each, argument positions or -1; *fds*
        and *size* as of :func:`roles`.
    """
    found: list[tuple[int, ...]] = []
    for arch, nr, name, inner in calls:
        places: list[int] = []
        if rule.path is None or inner >= 0:
            found.append((abi.AUDIT_ARCH[arch], nr, inner, -1, -1, -1, -1, *roles(rule, arch, nr)))
            continue
        signature = abi.signature(name, arch)
        for param in signature.paths[:2]:
            dirfd = signature.param(param.dirfd) if param.dirfd is not None else None
            places += [param.index, -1 if dirfd is None else dirfd.index]
        places += [-1] * (4 - len(places))
        found.append((abi.AUDIT_ARCH[arch], nr, inner, *places, *roles(rule, arch, nr)))
    return tuple(found)


def roles(rule: Rule, arch: str, nr: int | None) -> tuple[int, int]:
    """Return a bit for each argument that is a descriptor, and which one is the size of a buffer, or -1.

    Only as far as the rule is about them.
    """
    if (rule.fd is None and rule.most is None) or nr is None or nr < 0:
        return 0, -1
    signature = abi.signature(abi.name(nr, arch), arch)
    fds = sum(1 << param.index for param in signature.params if param.kind == "fd")
    size = signature.buffer_size if rule.most is not None else None
    return fds, -1 if size is None else size.index


def more(rule: Rule, rules: Sequence[Rule]) -> tuple[bytes, bytes]:
    """Return ``struct tl_rule_more`` for the native core, and the pokes."""
    import struct

    pokes = b"".join(
        [struct.pack(_POKE, arg, at_exit, len(data)) + data for arg, at_exit, data in rule.pokes]
    )
    if len(pokes) > MOST_POKED:
        raise UsageError(f"rule '{rule.text}' pokes more than {MOST_POKED} bytes")
    at_exit = any(at_exit for _, at_exit, _ in rule.pokes)
    arguments = [rule.set_args.get(index, 0) & _ALL for index in range(6)]
    packed = struct.pack(
        _MORE, rule.per_thread * _PER_THREAD | rule.logs * _LOGS | at_exit * _POKES_EXIT, rule.signal,
        -1 if rule.pid is None else rule.pid, -1 if rule.fd is None else rule.fd,
        0 if rule.after is None else rules.index(rule.after) + 1, sum(1 << index for index in rule.set_args),
        _ALL if rule.most is None else rule.most, *arguments, os.fsencode(rule.comm)[:15],
    )  # fmt: skip
    return packed, pokes
