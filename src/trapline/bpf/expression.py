"""Conditions, rules and numbers as text, for the command line.

A rule is ``openat,creat if flags.has(O_CREAT) -> errno(EACCES)``. A condition is parsed as a Python
expression and never run as one: parameters by their names or ``arg(n)``, ``ip``, constants, comparisons,
``&`` ``|`` ``~`` or ``and`` ``or`` ``not``, and the methods of a parameter.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from trapline.bpf import action as actions
from trapline.bpf.conditions import Condition, Masked, Value, arg, ip
from trapline.errors import UsageError

_METHODS = ("has", "any", "none", "isin", "within")
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.BitAnd: operator.and_,
}
_ACTIONS = {
    "allow": actions.RET_ALLOW,
    "log": actions.RET_LOG,
    "notify": actions.RET_USER_NOTIF,
    "trace": actions.RET_TRACE,
    "trap": actions.RET_TRAP,
    "kill": actions.RET_KILL_PROCESS,
    "kill_thread": actions.RET_KILL_THREAD,
}


def constant(name: str) -> int:
    """Return the value of a kernel constant: a flag, an errno or a signal.

    :raises UsageError: no table has it.
    """
    from trapline.abi import errno, flags, signals

    for members in (errno.Errno.__members__, signals.Signal.__members__):
        if name in members:
            return int(members[name])
    try:
        return int(getattr(flags, name))
    except (AttributeError, TypeError):
        raise UsageError(f"unknown constant {name!r}; write its value as a number") from None


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise UsageError(f"cannot read {text!r}: {error.msg}") from None


def number(text: str) -> int:
    """Return the number that *text* stands for: ``0x10``, ``-1``, ``O_RDWR|O_CLOEXEC``.

    :raises UsageError: it is no number.
    """
    value = _value(_parse(text), text)
    if not isinstance(value, int):
        raise UsageError(f"{text!r} is no number")
    return value


def condition(text: str) -> Condition:
    """Return the condition that *text* stands for: ``flags.has(O_CREAT) and dfd == AT_FDCWD``.

    :raises UsageError: it cannot be understood.
    """
    try:
        found = _value(_parse(text), text)
    except (TypeError, OverflowError) as error:
        raise UsageError(f"cannot read {text!r}: {error}") from None
    if not isinstance(found, Condition):
        raise UsageError(
            f"{text!r} is no condition; compare something, as in 'fd == 1' or 'flags.has(O_CREAT)'"
        )
    return found


def action(text: str) -> int:
    """Return the action that *text* stands for: ``allow``, ``notify``, ``errno(EPERM)``, ``trap(3)``.

    :raises UsageError: there is no such action, or its data does not fit.
    """
    name, _, data = text.strip().lower().partition("(")
    name = {"user_notif": "notify", "kill_process": "kill"}.get(name, name)
    inside = text.strip()[len(text.strip().partition("(")[0]) + 1 : -1] if data.endswith(")") else ""
    if name == "errno" and inside:
        try:
            return actions.errno(number(inside))
        except ValueError as error:
            raise UsageError(str(error)) from None
    if name in _ACTIONS and (not data or (inside and name in ("trap", "trace"))):
        value = number(inside) if inside else 0
        if not 0 <= value <= actions.DATA_MASK:
            raise UsageError(f"{text!r}: the data of an action has 16 bits")
        return _ACTIONS[name] | value
    raise UsageError(f"unknown action {text!r}; there are {', '.join(_ACTIONS)} and errno(NAME)")


def rule(text: str) -> tuple[list[str], Condition | None, int | None]:
    """Return names, condition and action of ``NAMES [if CONDITION] [-> ACTION]``.

    :raises UsageError: a part cannot be understood.
    """
    rest, arrow, verdict = text.partition("->")
    names, when, expression = rest.partition(" if ")
    listed = [name.strip() for name in names.split(",") if name.strip()]
    if not listed:
        raise UsageError(f"{text!r} names no system call; write NAME[,NAME...] [if CONDITION] [-> ACTION]")
    return listed, condition(expression) if when else None, action(verdict) if arrow else None


def span(text: str) -> tuple[int, int]:
    """Return the half-open range that ``START-END`` or ``START+LENGTH`` stands for.

    :raises UsageError: it is neither.
    """
    for separator in ("-", "+"):
        start, found, end = text.partition(separator)
        if found and start and end:
            first, second = number(start), number(end)
            return (first, second) if separator == "-" else (first, first + second)
    raise UsageError(f"{text!r} is no range; write START-END (END not included) or START+LENGTH")


def _value(node: ast.expr, text: str) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return int(node.value)
    if isinstance(node, ast.Name):
        if node.id == "ip":
            return ip
        return constant(node.id) if node.id.isupper() else arg(node.id)
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return tuple(_value(item, text) for item in node.elts)
    if isinstance(node, ast.UnaryOp):
        return _unary(node, text)
    if isinstance(node, ast.BoolOp):
        parts = [_value(value, text) for value in node.values]
        return _combined(isinstance(node.op, ast.And), parts, text)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, text), _value(node.right, text)
        if isinstance(left, Condition) or isinstance(right, Condition):
            if isinstance(node.op, (ast.BitAnd, ast.BitOr)):
                return _combined(isinstance(node.op, ast.BitAnd), [left, right], text)
        elif isinstance(node.op, ast.BitAnd) or (isinstance(left, int) and isinstance(right, int)):
            compute = _ARITHMETIC.get(type(node.op))
            if compute is not None:
                return compute(left, right)
    if isinstance(node, ast.Compare):
        return _comparison(node, text)
    if isinstance(node, ast.Call):
        return _call(node, text)
    if isinstance(node, ast.Attribute) and node.attr == "unsigned":
        value = _value(node.value, text)
        if isinstance(value, Value):
            return value.unsigned
    raise UsageError(f"cannot read {ast.unparse(node)!r} in {text!r}")


def _unary(node: ast.UnaryOp, text: str) -> Any:
    value = _value(node.operand, text)
    if isinstance(value, Condition) and isinstance(node.op, (ast.Not, ast.Invert)):
        return ~value
    if isinstance(value, int) and isinstance(node.op, (ast.USub, ast.Invert)):
        return -value if isinstance(node.op, ast.USub) else ~value
    raise UsageError(f"cannot read {ast.unparse(node)!r} in {text!r}")


def _combined(conjunction: bool, parts: list[Any], text: str) -> Condition:
    for part in parts:
        if not isinstance(part, Condition):
            raise UsageError(f"{text!r}: put parentheses around each comparison; {part!r} is no condition")
    found: Condition = parts[0]
    for part in parts[1:]:
        found = found & part if conjunction else found | part
    return found


def _comparison(node: ast.Compare, text: str) -> Condition:
    terms = [_value(item, text) for item in (node.left, *node.comparators)]
    parts: list[Any] = []
    for operation, left, right in zip(node.ops, terms, terms[1:], strict=False):
        if (
            isinstance(operation, (ast.In, ast.NotIn))
            and isinstance(left, Value)
            and isinstance(right, tuple)
        ):
            parts.append(left.isin(right) if isinstance(operation, ast.In) else ~left.isin(right))
        elif type(operation) in _COMPARISONS and (
            isinstance(left, (Value, Masked)) != isinstance(right, (Value, Masked))
        ):
            # With the number on the left, Python itself turns the comparison around.
            parts.append(_COMPARISONS[type(operation)](left, right))
        else:
            raise UsageError(
                f"cannot read {ast.unparse(node)!r} in {text!r}: compare a parameter with a number"
            )
    return _combined(True, parts, text)


def _call(node: ast.Call, text: str) -> Any:
    arguments = [_value(item, text) for item in node.args]
    if not node.keywords:
        if isinstance(node.func, ast.Name) and node.func.id == "arg" and len(node.args) == 1:
            key = node.args[0]
            if isinstance(key, ast.Name):
                return arg(key.id)
            if isinstance(arguments[0], int):
                return arg(arguments[0])
        if isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS:
            value = _value(node.func.value, text)
            if isinstance(value, Value):
                if node.func.attr == "isin" and len(arguments) != 1:
                    arguments = [tuple(arguments)]
                return getattr(value, node.func.attr)(*arguments)
    raise UsageError(f"cannot read {ast.unparse(node)!r} in {text!r}; a value has .{', .'.join(_METHODS)}")
