"""One page about a run that needs nothing but a browser: a timeline, and what cost time, failed, and was touched."""

from __future__ import annotations

import html
import json

from trapline.trace.file import BEGUN, CALL, Event
from trapline.trace.formats import path_of
from trapline.trace.strace import call_line
from trapline.trace.summary import Summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trapline.trace.select import Selection

__all__ = ["Page"]

#: So many calls, the longest, are in the timeline; a page with more would be slow.
_DRAWN = 100_000
_LISTED = 40
_NOTE = (
    "The engine notify sees calls before they run: what they returned, and how long they took, is not known."
)
_NETWORK = frozenset({"connect", "bind", "accept", "accept4", "sendto", "recvfrom"})


class Page:
    """Collects events and writes the page at their end."""

    def __init__(self, write: Callable[[str], object], selection: Selection, limit: int) -> None:
        self._write = write
        self._selection = selection
        self._limit = limit
        self._summary = Summary(selection)
        self._names: dict[int, str] = {}
        self._unseen = False
        self._calls: list[tuple[int, int, int, str, bool]] = []  # duration, start, tid, name, failed
        self._slowest: list[tuple[int, int, str, str]] = []
        self._errors: dict[tuple[str, str], list[str]] = {}
        self._files: dict[str, list[int]] = {}
        self._peers: dict[str, list[int]] = {}

    def take(self, event: Event) -> None:
        """Learn one event."""
        if event.kind == BEGUN:
            self._names[event.tid] = event.text
        if event.kind != CALL or (event.result is None and not event.unseen):
            return
        if not self._selection.wants(event, None):
            return
        self._unseen = self._unseen or event.unseen
        self._summary.take(event)
        taken = event.end - event.start
        self._calls.append((taken, event.start, event.tid, event.name, bool(event.error)))
        if len(self._calls) > 2 * _DRAWN:
            self._calls.sort(reverse=True)
            del self._calls[_DRAWN:]
        is_slow = len(self._slowest) < 2 * _LISTED or taken > self._slowest[_LISTED - 1][0]
        if is_slow and not event.unseen:
            call, result = call_line(event, self._limit)
            self._slowest.append((taken, event.tid, call, result))
            if len(self._slowest) >= 2 * _LISTED:
                self._slowest.sort(reverse=True)
                del self._slowest[_LISTED:]
        if event.error:
            call, result = call_line(event, self._limit)
            self._errors.setdefault((event.name, result), []).append(call)
        self._touch(event, taken)

    def _touch(self, event: Event, taken: int) -> None:
        path = path_of(event)
        if path:
            found = self._files.setdefault(path, [0, 0, 0])
            found[0] += 1
            found[1] += bool(event.error)
            found[2] += taken
        if event.name in _NETWORK:
            call, _ = call_line(event, self._limit)
            start = call.find("{sa_family=")
            if start >= 0:
                peer = call[start + 1 : call.index("}", start)]
                found = self._peers.setdefault(peer, [0, 0, 0])
                found[0] += 1
                found[1] += bool(event.error)
                found[2] += taken

    def end(self) -> None:
        """Write the page."""
        self._calls.sort(reverse=True)
        drawn = sorted(self._calls[:_DRAWN], key=lambda call: call[1])
        first = min((call[1] for call in drawn), default=0)
        names = sorted({call[3] for call in drawn})
        threads = list(dict.fromkeys(call[2] for call in drawn))
        index = {name: number for number, name in enumerate(names)}
        place = {tid: number for number, tid in enumerate(threads)}
        data = {
            "names": names,
            "threads": [f"{self._names.get(tid, '')} {tid}".strip() for tid in threads],
            # thread, start and duration in nanoseconds, name, failed
            "calls": [
                [place[tid], start - first, taken, index[name], int(failed)]
                for taken, start, tid, name, failed in drawn
            ],
        }
        self._slowest.sort(reverse=True)
        slowest = [
            (f"{taken / 1e6:.3f}", str(tid), call, result)
            for taken, tid, call, result in self._slowest[:_LISTED]
        ]
        errors = [
            (str(len(calls)), name, result, calls[0])
            for (name, result), calls in sorted(self._errors.items(), key=lambda item: -len(item[1]))
        ]
        text = _PAGE.replace("@DATA@", json.dumps(data, separators=(",", ":")).replace("</", "<\\/"))
        text = text.replace("@NOTE@", f"<p>{_NOTE}</p>" if self._unseen else "")
        text = text.replace("@SUMMARY@", html.escape(self._summary.text()))
        text = text.replace("@SLOWEST@", _table(("ms", "thread", "call", "result"), slowest))
        text = text.replace("@ERRORS@", _table(("times", "call", "error", "first"), errors[: 4 * _LISTED]))
        text = text.replace("@FILES@", _table(("calls", "errors", "ms", "file"), _touched(self._files)))
        text = text.replace("@PEERS@", _table(("calls", "errors", "ms", "address"), _touched(self._peers)))
        self._write(text)


def _touched(found: dict[str, list[int]]) -> list[tuple[str, ...]]:
    ordered = sorted(found.items(), key=lambda item: -item[1][2])[: 10 * _LISTED]
    return [(str(count), str(errors), f"{taken / 1e6:.3f}", name) for name, (count, errors, taken) in ordered]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    if not rows:
        return "<p>None.</p>"
    lines = ["<table><tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>"]
    lines += [
        "<tr>" + "".join(f"<td>{html.escape(cell, quote=False)}</td>" for cell in row) + "</tr>"
        for row in rows
    ]
    return "\n".join(lines) + "</table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>trapline trace</title>
<style>
body { font: 14px system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
h2 { margin: 1.5em 0 .4em; font-size: 16px }
pre, td { font: 12px ui-monospace, monospace }
td { padding: 1px 10px 1px 0; vertical-align: top; overflow-wrap: anywhere }
th { text-align: left; padding-right: 10px; font-weight: 600 }
canvas { width: 100%; border: 1px solid #ccc; cursor: crosshair }
#hint { min-height: 1.4em; font: 12px ui-monospace, monospace }
</style></head><body>
<h1>trapline trace</h1>@NOTE@
<h2>Timeline</h2><p>Turn the wheel to zoom, drag to move, double-click for all of it. Failed calls are red.</p>
<canvas id="line"></canvas><div id="hint"></div>
<h2>Calls</h2><pre id="summary">@SUMMARY@</pre>
<h2>Slowest calls</h2>@SLOWEST@
<h2>Errors</h2>@ERRORS@
<h2>Files</h2>@FILES@
<h2>Sockets</h2>@PEERS@
<script id="data" type="application/json">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const canvas = document.getElementById("line"), hint = document.getElementById("hint"), row = 18, label = 140;
const end = data.calls.reduce((most, call) => Math.max(most, call[1] + call[2]), 1);
let from = 0, to = end, drag = null;
const colour = name => `hsl(${name * 47 % 330 + 20} 55% 55%)`;
function draw() {
  canvas.width = canvas.clientWidth;
  canvas.height = data.threads.length * row + 4;
  canvas.style.height = canvas.height + "px";
  const at = canvas.getContext("2d"), scale = (canvas.width - label) / (to - from);
  at.font = "11px ui-monospace, monospace";
  for (const [thread, start, taken, name, failed] of data.calls) {
    if (start + taken < from || start > to) continue;
    const x = label + Math.max(0, (start - from) * scale);
    at.fillStyle = failed ? "#d22" : colour(name);
    at.fillRect(x, thread * row + 2, Math.max(1, (start + taken - Math.max(start, from)) * scale), row - 4);
  }
  at.fillStyle = "#fff";
  at.fillRect(0, 0, label - 2, canvas.height);
  at.fillStyle = "#222";
  data.threads.forEach((thread, number) => at.fillText(thread, 4, number * row + 13));
}
function point(event) {
  const scale = (to - from) / (canvas.width - label);
  return { time: from + (event.offsetX - label) * scale, thread: Math.floor(event.offsetY / row), scale };
}
canvas.addEventListener("wheel", event => {
  event.preventDefault();
  const { time } = point(event), factor = event.deltaY > 0 ? 1.25 : 0.8;
  from = Math.max(0, time - (time - from) * factor);
  to = Math.min(end, time + (to - time) * factor);
  draw();
}, { passive: false });
canvas.addEventListener("mousedown", event => { drag = { x: event.offsetX, from, to }; });
addEventListener("mouseup", () => { drag = null; });
canvas.addEventListener("dblclick", () => { from = 0; to = end; draw(); });
canvas.addEventListener("mousemove", event => {
  const { time, thread, scale } = point(event);
  if (drag) {
    const moved = Math.min(drag.from, Math.max(drag.to - end, (event.offsetX - drag.x) * scale));
    from = drag.from - moved;
    to = drag.to - moved;
    draw();
  }
  const found = data.calls.find(
    ([t, start, taken]) => t === thread && start - scale <= time && time <= start + taken + scale);
  hint.textContent = !found ? ""
    : `${data.names[found[3]]}: ${(found[2] / 1e3).toFixed(1)} us at ${(found[1] / 1e6).toFixed(3)} ms`;
});
addEventListener("resize", draw);
draw();
</script></body></html>
"""
