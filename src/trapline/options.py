"""Options that a hooks file declares and ``--set key=value`` changes."""

from __future__ import annotations

from trapline.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T", str, int, float, bool)

__all__ = ["option"]

_given: dict[str, str] = {}
_declared: dict[str, str] = {}
_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def option(name: str, default: T, help: str = "") -> T:
    """Declare an option of a hooks file and return its value.

    ::

        allow = trapline.option("allow", "127.0.0.1", "addresses that may be connected to")

    :param name: what ``--set NAME=VALUE`` calls it.
    :param default: its value when not set; a value that is set is converted to the same type.
    :param help: one line for people.
    :raises UsageError: the value that was set is not of that type.
    """
    _declared[name] = help
    text = _given.get(name)
    if text is None:
        return default
    try:
        return _TRUTH[text.lower()] if isinstance(default, bool) else type(default)(text)
    except (ValueError, KeyError):
        kind = type(default).__name__
        raise UsageError(f"--set {name}={text}: {name} is of type {kind}, and {text!r} is not") from None


def give(settings: list[str]) -> None:
    """Take the ``key=value`` of the command line, before hooks files are loaded."""
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not name or not equals:
            raise UsageError(f"--set {setting} is not KEY=VALUE")
        _given[name] = value


def check() -> None:
    """Complain about what was given and no hooks file declared, after they are loaded.

    :raises UsageError: with the options there are.
    """
    for name in _given:
        if name not in _declared:
            known = "; ".join([f"{key}: {text}" if text else key for key, text in _declared.items()])
            raise UsageError(
                f"--set {name}: no hooks file declares that option. There are: {known or 'none'}"
            )
