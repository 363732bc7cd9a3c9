"""Hooks files: ordinary Python, loaded by path."""

from __future__ import annotations

import os
import sys

from trapline.cli import say
from trapline.errors import TraplineError, UsageError
from trapline.hooks import hooks_of

__all__ = ["load_script"]


def load_script(path: str) -> list[object]:
    """Return the hooks of a file: what it lists as ``hooks``, or else every hook that it defines, in that order.

    The file's own folder is importable while it loads, as when Python runs it.

    :raises UsageError: it cannot be read, raises, or has no hooks.
    """
    name = f"trapline_script_{os.path.splitext(os.path.basename(path))[0]}"
    if not os.path.isfile(path):
        raise UsageError(f"hooks file '{path}' does not exist or is no file")
    module = type(sys)(name)
    module.__file__ = path
    sys.modules[name] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        with open(path, "rb") as file:
            # dont_inherit: this module's own __future__ imports are not the script's.
            exec(compile(file.read(), path, "exec", dont_inherit=True), module.__dict__)
    except TraplineError:
        raise
    except Exception as error:
        import traceback

        # Our own frames say nothing about the file.
        shown = traceback.TracebackException.from_exception(error)
        del shown.stack[: next((i for i, frame in enumerate(shown.stack) if frame.filename == path), 0)]
        say("".join(shown.format()))
        raise UsageError(f"hooks file '{path}' cannot be loaded: {type(error).__name__}: {error}") from None
    finally:
        sys.path.pop(0)
    listed = getattr(module, "hooks", None)
    found = list(listed) if isinstance(listed, list | tuple) else []
    if not found:
        found = [value for value in vars(module).values() if hooks_of(value)]
    if not found:
        raise UsageError(f"hooks file '{path}' has no hooks: decorate a function with @trapline.on(\"...\")")
    return list(dict.fromkeys(found))
