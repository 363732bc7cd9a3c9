"""Injections as text: strace's expressions, and what trapline adds to them.

::

    fsync:error=EIO:when=3+2          inject=%network:error=ENETDOWN:p=0.01:seed=7
    read:short=1                      write:after=openat(/etc/*):error=ENOSPC
    openat:path=/etc/*:error=EACCES   getrandom:poke_exit=@arg1=00000000
"""

from __future__ import annotations

from trapline import abi
from trapline.abi.classes import CLASSES, EVERY, select
from trapline.errors import UnknownSyscallError, UsageError
from trapline.rules import MOST_POKED, Rule

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["parse", "read_rules"]

_UNITS = {"": 1000, "us": 1000, "ns": 1, "ms": 10**6, "s": 10**9}
_LIMIT = 65535
_ARGUMENTS = 7
_KEYS = "error, retval, signal, syscall, delay_enter, delay_exit, poke_enter, poke_exit, when"
_MORE_KEYS = "path, fd, pid, comm, p, seed, short, arg1 to arg6, after, count"
_EFFECTS = frozenset(
    ["error", "retval", "signal", "delay_enter", "delay_exit", "poke_enter", "poke_exit", "short", "count"]
)
_ENOSYS = 38


class _WrongError(Exception):
    """What is wrong with a value, without the expression around it."""


def parse(text: str) -> list[Rule]:
    """Read one expression, ``[inject=|fault=]SET[:KEY=VALUE]...``.

    strace's keys mean what they mean to strace: ``when`` counts each call of each thread by itself, delays are in
    microseconds unless they say otherwise, ``fault=`` without an error is ENOSYS.

    :returns: the rule, after those that only watch for what it waits for.
    :raises UsageError: it cannot be understood; the message says which part, and what would be right.
    """
    body, is_fault = text, False
    for prefix in ("inject=", "fault="):
        if text.startswith(prefix):
            body, is_fault = text.removeprefix(prefix), prefix == "fault="
    head, *parts = _split(body)
    try:
        names = select(head)
    except (UsageError, UnknownSyscallError) as error:
        raise UsageError(f"'{text}': {error}") from None
    rule = Rule(text, names)
    rule.per_thread = rule.logs = True
    rule.seed = None
    seen: set[str] = set()
    watchers: list[Rule] = []
    for part in parts:
        if not part:
            continue
        key, equals, value = part.partition("=")
        if key in seen and key != "when":
            raise UsageError(f"'{text}': {key} is given twice")
        seen.add(key)
        try:
            if (not equals or not value) and part != "count":
                raise _WrongError(f"{part!r} is not KEY=VALUE, with keys {_KEYS}; and {_MORE_KEYS}")
            _set(rule, watchers, key, value)
        except _WrongError as wrong:
            raise UsageError(f"'{text}': {wrong}") from None
    if is_fault and seen - {"error", "when"}:
        raise UsageError(f"'{text}': fault= takes error and when; write inject= for more")
    if is_fault and rule.error is None:
        rule.error = _ENOSYS
        seen.add("error")
    _check(rule, seen)
    return [*watchers, rule]


def read_rules(path: str) -> list[Rule]:
    """Read a file with one expression a line; what follows ``#`` at the start of a line or after a space is a comment.

    :raises UsageError: it cannot be read, or a line cannot be understood; the message has the line's number.
    """
    rules: list[Rule] = []
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read rules from '{path}': {getattr(error, 'strerror', None) or error}"
        ) from None
    for number, line in enumerate(lines, 1):
        expression = f" {line}".split(" #", 1)[0].strip()
        if not expression:
            continue
        try:
            rules += parse(expression)
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
    return rules


def _split(text: str) -> list[str]:
    """Split at colons outside of parentheses; a backslash takes the next character as it is."""
    parts, depth = [""], 0
    characters = iter(text)
    for character in characters:
        if character == "\\":
            parts[-1] += next(characters, "\\")
            continue
        # A regular expression may have any parenthesis.
        depth += {"(": 1, ")": -1}.get(character, 0) if len(parts) > 1 else 0
        if character == ":" and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _decimal(text: str, low: int, high: int) -> int:
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise _WrongError(f"{text!r} is not a number from {low} to {high}")
    return int(text)


def _integer(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise _WrongError(f"{text!r} is no number") from None


def _error(text: str) -> int:
    if text[:1].isdigit():
        try:
            return _decimal(text, 1, 4095)
        except _WrongError:
            raise _WrongError(f"error {text!r} is not within 1 to 4095") from None
    from trapline.abi.errno import Errno

    try:
        return int(Errno[text.upper()])
    except KeyError:
        raise _WrongError(f"unknown error {text!r}; write a name such as EIO") from None


def _retval(text: str) -> int:
    value = _integer(text)
    if not -(1 << 63) <= value < 1 << 64:
        raise _WrongError(f"retval {text!r} is no 64-bit number")
    return value - ((1 << 64) if value >= 1 << 63 else 0)


def _signal(text: str) -> int:
    if text[:1].isdigit():
        return _decimal(text, 1, 64)
    from trapline.abi import flags

    name = text.upper() if text.upper().startswith("SIG") else f"SIG{text.upper()}"
    known = flags.members("signal") | {f"SIGRT_{number}": 32 + number for number in range(33)}
    known |= {"SIGRTMIN": 32, "SIGRTMAX": 64}
    if name not in known:
        raise _WrongError(f"unknown signal {text!r}; write a name such as SIGUSR1, or a number from 1 to 64")
    return known[name]


def _delay(text: str) -> int:
    digits = text.rstrip("nmus")
    unit = _UNITS.get(text[len(digits) :])
    whole, _, fraction = digits.partition(".")
    if unit is None or not (whole + fraction).isdigit() or not (whole + fraction).isascii():
        raise _WrongError(f"{text!r} is no duration; write 200ms, 1.5s, 50us, 10ns, or microseconds")
    nanoseconds = round(float(digits) * unit)
    if nanoseconds >= 1 << 63:
        raise _WrongError(f"{text!r} is too long")
    return nanoseconds


def _when(text: str) -> tuple[int, int, int]:
    """Read ``first[..last][+[step]]``; last 0 is no end, step 0 is *first* alone."""
    head, plus, step_text = text.partition("+")
    first_text, dots, last_text = head.partition("..")
    try:
        first = _decimal(first_text, 1, _LIMIT)
        last = _decimal(last_text, 1, _LIMIT - 1) if dots else 0
        step = _decimal(step_text, 1, _LIMIT) if step_text else int(bool(plus or dots))
    except _WrongError as wrong:
        raise _WrongError(f"when={text!r}: {wrong}; write FIRST[..LAST][+[STEP]]") from None
    if dots and last < first:
        raise _WrongError(f"when={text!r}: {last} comes before {first}")
    return first, last, step


def _pokes(text: str, at_exit: bool) -> tuple[tuple[int, bool, bytes], ...]:
    found: dict[int, bytes] = {}
    for word in text.split(","):
        if not word:
            continue
        argument, equals, digits = word.partition("=")
        number = argument.removeprefix("@arg")
        if number == argument or number not in [str(position) for position in range(1, _ARGUMENTS + 1)]:
            raise _WrongError(f"{word!r} is not @argN=HEX, with N from 1 to {_ARGUMENTS}")
        try:
            data = bytes.fromhex(digits)
        except ValueError:
            data = b""
        if not equals or not data or " " in digits:
            raise _WrongError(f"{word!r}: {digits!r} is no even number of hexadecimal digits")
        if int(number) in found:
            raise _WrongError(f"argument {number} is poked twice")
        found[int(number)] = data
    if sum(map(len, found.values())) > MOST_POKED // 2:
        raise _WrongError(f"more than {MOST_POKED // 2} bytes cannot be poked")
    return tuple([(number - 1, at_exit, data) for number, data in found.items()])


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise _WrongError(f"p={text!r} is no probability above 0 and at most 1, such as 0.01")
    return value


def _watcher(text: str) -> Rule:
    """Read what comes first, ``SET`` or ``SET(path glob)``, as a rule that only counts."""
    head, parenthesis, path = text.partition("(")
    if parenthesis and not path.endswith(")"):
        raise _WrongError(f"after={text!r} has no closing parenthesis; write after=openat(/etc/*)")
    try:
        rule = Rule("", select(head))
    except (UsageError, UnknownSyscallError) as error:
        raise _WrongError(str(error)) from None
    rule.count = True
    if parenthesis:
        rule.path = _unquoted(path[:-1])
        _check_paths(rule)
    return rule


def _unquoted(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


_PLAIN: dict[str, tuple[str, Callable[[str], object]]] = {
    "error": ("error", _error),
    "retval": ("retval", _retval),
    "signal": ("signal", _signal),
    "delay_enter": ("delay_enter_ns", _delay),
    "delay_exit": ("delay_exit_ns", _delay),
    "path": ("path", _unquoted),
    "comm": ("comm", lambda text: _unquoted(text)[:15]),
    "fd": ("fd", lambda text: _decimal(text, 0, (1 << 31) - 1)),
    "pid": ("pid", lambda text: _decimal(text, 1, (1 << 31) - 1)),
    "short": ("most", lambda text: _decimal(text, 0, (1 << 63) - 1)),
    "p": ("probability", _probability),
    "seed": ("seed", lambda text: _decimal(text, 0, (1 << 64) - 1)),
    "count": ("count", lambda text: True),
}


def _set(rule: Rule, watchers: list[Rule], key: str, value: str) -> None:
    if key in _PLAIN:
        attribute, read = _PLAIN[key]
        setattr(rule, attribute, read(value))
    elif key == "when":
        rule.first, rule.last, rule.step = _when(value)
    elif key in ("poke_enter", "poke_exit"):
        rule.pokes += _pokes(value, key == "poke_exit")
    elif key == "syscall":
        # It has no effect of its own, and its result is replaced: nothing is left to do.
        if not abi.exists(value) or not CLASSES["pure"](value, abi.native_arch()):
            raise _WrongError(f"syscall={value!r} is none without side effects, as getpid is")
    elif key == "after":
        rule.after = _watcher(value)
        watchers.append(rule.after)
    elif key[:3] == "arg" and key[3:] in ("1", "2", "3", "4", "5", "6"):
        rule.set_args[int(key[3:]) - 1] = _integer(value)
    else:
        raise _WrongError(f"unknown key {key!r}; there are {_KEYS}; and {_MORE_KEYS}")


def _check(rule: Rule, seen: set[str]) -> None:
    wrong = ""
    changes = seen & _EFFECTS
    if rule.error is not None and rule.retval is not None:
        wrong = "error and retval exclude each other; keep one"
    elif not changes and not rule.set_args:
        wrong = (
            "nothing is injected: add error=, retval=, signal=, delay_enter=, delay_exit=, poke_enter=, ..."
        )
    elif "syscall" in seen and rule.result is None:
        wrong = "syscall= goes with error= or retval="
    elif "seed" in seen and "p" not in seen:
        wrong = "seed= is nothing without p=, such as p=0.01"
    elif rule.result is not None and (rule.set_args or rule.most is not None):
        wrong = "arguments of a call that is not made cannot be changed: leave out error= and retval="
    elif rule.most is not None and not _have(rule.names, lambda signature: signature.buffer_size is not None):
        wrong = (
            "short= is for calls that hand over one buffer with its size, as read, write, sendto or getrandom"
        )
    elif rule.fd is not None and not _have(
        rule.names, lambda signature: any(param.kind == "fd" for param in signature.params)
    ):
        wrong = "fd= is for calls that take a descriptor"
    if wrong:
        raise UsageError(f"'{rule.text}': {wrong}")
    if rule.path is not None:
        try:
            _check_paths(rule)
        except _WrongError as error:
            raise UsageError(f"'{rule.text}': {error}") from None


def _have(names: Iterable[str], what: Callable[[abi.Signature], bool]) -> bool:
    """Whether some of the calls have something."""
    known = [abi.signature(name, arch) for name in names for arch in abi.ARCHES if abi.exists(name, arch)]
    return tuple(names) == EVERY or any(what(signature) for signature in known)


def _check_paths(rule: Rule) -> None:
    if rule.names and not _have(rule.names, lambda signature: bool(signature.paths)):
        raise _WrongError(f"{', '.join(rule.names[:3])} takes no path; leave path= out")
