"""The supervisor's C core, seen from Python."""

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
