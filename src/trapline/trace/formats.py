"""Events for other programs: JSON Lines, Perfetto's UI, Parquet."""

from __future__ import annotations

import json

from trapline.errors import UsageError
from trapline.trace.file import BEGUN, CALL, DROPPED, GONE, SIGNAL, STATUS, Event
from trapline.trace.strace import StraceLine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from trapline.trace.select import Selection

    Consumer = tuple[Callable[[Event], None], Callable[[], None]]

__all__ = ["consumer"]

_KINDS = {SIGNAL: "signal", BEGUN: "begun", GONE: "gone", DROPPED: "dropped", STATUS: "status"}
_BATCH = 65536


def consumer(
    name: str, write: Callable[[str], object], path: str, selection: Selection, limit: int
) -> Consumer:
    """Return what takes events, and what is to be called at their end.

    :param name: ``jsonl``, ``perfetto``, ``html`` or ``parquet``.
    :param write: gets text; *path* is where what is none goes.
    :param limit: bytes of a buffer that are shown.
    :raises UsageError: what the format needs is not installed.
    """
    if name == "jsonl":
        return _jsonl(write, selection, limit)
    if name == "perfetto":
        return _perfetto(write, selection, limit)
    if name == "html":
        from trapline.trace.html import Page

        page = Page(write, selection, limit)
        return page.take, page.end
    return _parquet(path, selection, limit)


def described(event: Event, limit: int) -> dict[str, Any]:
    """Return a call as plain values: numbers in ``args``, what they stand for in ``shown``."""
    line = StraceLine(event, limit)
    found: dict[str, Any] = {
        "type": "call",
        "name": event.name,
        "pid": event.pid,
        "tid": event.tid,
        "time": event.start,
        "duration": event.end - event.start if event.result is not None else None,
    }
    if line.signature.known:
        found["args"] = {param.name: line.values[param.name] for param in line.signature.params}
        shown = {param.name: line.argument(param) for param in line.signature.params if line.counts(param)}
        found["shown"] = {name: text for name, text in shown.items() if text != str(found["args"][name])}
    else:
        found["args"] = {f"arg{index}": value for index, value in enumerate(event.args)}
    found["result"] = event.result
    if event.unseen:
        found["unseen"] = True
    if event.error:
        from trapline.decode.values import errno_text

        found["error"] = errno_text(event.error).split(" ")[0]
    if event.path:
        found["path"] = event.path
    return found


def _jsonl(write: Callable[[str], object], selection: Selection, limit: int) -> Consumer:
    from trapline.trace.stacks import Stacks

    stacks = Stacks()

    def take(event: Event) -> None:
        if event.kind == CALL:
            if not selection.wants(event, None):
                return
            found = described(event, limit)
            if event.stack is not None:
                found["stack"] = [str(frame) for frame in stacks.frames(event)[0]]
        elif event.kind == SIGNAL and not selection.wants_signal(event.nr):
            return
        else:
            found = {"type": _KINDS[event.kind], "pid": event.pid, "tid": event.tid, "time": event.start}
            if event.kind == SIGNAL:
                from trapline.decode.values import signal_text

                found["signal"] = signal_text(event.nr)
            if event.result is not None:
                found["value"] = event.result
            if event.text:
                found["comm"] = event.text
        write(json.dumps(found, ensure_ascii=True, separators=(",", ":")) + "\n")

    return take, lambda: None


def _perfetto(write: Callable[[str], object], selection: Selection, limit: int) -> Consumer:
    """Chrome's trace events, which Perfetto's UI opens: threads are tracks, calls are slices, in microseconds."""
    began = False

    def add(found: dict[str, Any]) -> None:
        nonlocal began
        write((",\n" if began else '{"displayTimeUnit":"ns","traceEvents":[\n') + json.dumps(found))
        began = True

    def take(event: Event) -> None:
        base = {"pid": event.pid, "tid": event.tid, "ts": event.start / 1000}
        if event.kind == BEGUN:
            name = {"name": f"{event.text} {event.tid}"}
            add({"ph": "M", "name": "thread_name", "pid": event.pid, "tid": event.tid, "args": name})
            if event.pid == event.tid:
                add({"ph": "M", "name": "process_name", "pid": event.pid, "args": {"name": event.text}})
        elif event.kind == CALL and selection.wants(event, None):
            found = described(event, limit)
            result = "not seen" if event.unseen else found["result"]
            args = {**found["args"], **found.get("shown", {}), "result": result}
            if "error" in found:
                args["error"] = found["error"]
            # Numbers beyond 2^53 would lose digits.
            args = {key: str(value) if isinstance(value, int) else value for key, value in args.items()}
            duration = (event.end - event.start) / 1000 if event.result is not None else 0
            category = "failed" if event.error else "call"
            if event.unseen:
                add({"ph": "i", "s": "t", "name": event.name, "cat": category, "args": args, **base})
            else:
                add({"ph": "X", "name": event.name, "cat": category, "dur": duration, "args": args, **base})
        elif event.kind == SIGNAL and selection.wants_signal(event.nr):
            from trapline.decode.values import signal_text

            add({"ph": "i", "s": "t", "name": signal_text(event.nr), "cat": "signal", **base})

    def end() -> None:
        write("\n]}\n" if began else '{"traceEvents":[]}\n')

    return take, end


def _parquet(path: str, selection: Selection, limit: int) -> Consumer:
    """One table with a row for each call."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise UsageError("--format parquet needs pyarrow: pip install 'trapline[trace]'") from None
    schema = pa.schema([
        ("time", pa.timestamp("ns", tz="UTC")), ("duration", pa.int64()), ("pid", pa.int32()), ("tid", pa.int32()),
        ("name", pa.dictionary(pa.int32(), pa.string())), ("nr", pa.int32()), ("result", pa.int64()),
        ("error", pa.dictionary(pa.int32(), pa.string())), ("fd", pa.int32()), ("path", pa.string()),
        ("args", pa.list_(pa.uint64())), ("text", pa.string()),
    ])  # fmt: skip
    try:
        writer = pq.ParquetWriter(path, schema, compression="zstd")
    except OSError as error:
        raise UsageError(f"trace: cannot write '{path}': {error.strerror}") from None
    rows: list[dict[str, Any]] = []

    def flush() -> None:
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            rows.clear()

    def take(event: Event) -> None:
        if event.kind == CALL and selection.wants(event, None):
            rows.append(_row(event, limit))
            if len(rows) >= _BATCH:
                flush()

    def end() -> None:
        flush()
        writer.close()

    return take, end


def _row(event: Event, limit: int) -> dict[str, Any]:
    from trapline.decode.values import errno_text
    from trapline.trace.strace import call_line

    line = StraceLine(event, limit)
    params = line.signature.params
    fd = next(
        (line.values[param.name] for param in params if param.kind == "fd" and param.name in line.values),
        None,
    )
    text, _ = call_line(event, limit)
    return {
        "time": event.start,
        "duration": event.end - event.start if event.result is not None else None,
        "pid": event.pid,
        "tid": event.tid,
        "name": event.name,
        "nr": event.nr,
        "result": event.result,
        "error": errno_text(event.error).split(" ")[0] if event.error else None,
        "fd": fd,
        "path": path_of(event) or None,
        "args": list(event.args),
        "text": text[text.index("(") + 1 : -1],
    }


def path_of(event: Event) -> str:
    """Return the first path among a call's arguments, or what its new descriptor stands for."""
    from trapline import abi

    for param in abi.signature(event.name, event.arch).paths:
        if param.index < len(event.args):
            try:
                found = event.read_before(event.args[param.index], 4096).split(b"\0")[0]
            except OSError:
                continue
            return found.decode(errors="replace")
    return event.path
