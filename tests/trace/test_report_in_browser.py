"""The page of ``--format html`` in a browser: it runs without complaint and shows what was recorded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from trapline.trace.file import BEGUN, CALL, read
from trapline.trace.strace import call_line

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
#: Put into the page in front of its own script, and behind it: complaints, and what the canvas has been given.
BEFORE = """<script>
const complaints = [], texts = [], bars = [];
addEventListener("error", event => complaints.push(event.message));
console.error = (...words) => complaints.push(words.join(" "));
console.warn = console.error;
const context = CanvasRenderingContext2D.prototype, fillText = context.fillText, fillRect = context.fillRect;
context.fillText = function (text, ...rest) { texts.push(text); fillText.call(this, text, ...rest); };
context.fillRect = function (...box) { bars.push([this.fillStyle, ...box]); fillRect.call(this, ...box); };
</script>"""
AFTER = """<script>{
const drawn = bars.length, first = bars[0], place = canvas.getBoundingClientRect();
const at = (type, x, y, more) => canvas.dispatchEvent(new MouseEvent(type, {
  clientX: place.left + x, clientY: place.top + y, bubbles: true, ...more }));
at("mousemove", first[1] + 1, 5);
const told = hint.textContent;
bars.length = 0;
canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: -100, clientX: place.left + 400, clientY: place.top + 5 }));
const zoomed = bars.length;
bars.length = 0;
at("dblclick", 5, 5);
const rows = [...document.querySelectorAll("h2")].find(head => head.textContent === "Slowest calls")
  .nextElementSibling.rows;
const found = document.createElement("pre");
found.id = "found";
found.textContent = JSON.stringify({ complaints, texts, drawn, hint: told, zoomed, height: canvas.height,
  slowest: [...rows].slice(1).map(row => [...row.cells].map(cell => cell.textContent)),
  red: bars.filter(bar => bar[0] === "#dd2222").length });
document.body.append(found);
}</script>"""


@pytest.fixture(scope="module")
def browser():
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip("there is no Chromium")
    return path


@pytest.fixture(scope="module")
def looked_at(browser, trapline, tmp_path_factory):
    """What a browser has found on the page of a recorded run, and the record."""
    folder = tmp_path_factory.mktemp("page")
    record, page = str(folder / "record"), folder / "page.html"
    script = "cat /etc/hostname '/nowhere/</script><b>&' & sleep 0.05; wait; exit 3"
    subprocess.run(
        [trapline, "trace", "--format", "raw", "-o", record, "--", "sh", "-c", script], capture_output=True
    )
    subprocess.run([trapline, "trace", "report", "--format", "html", "-o", str(page), record], check=True)
    text = page.read_text().replace("<head>", f"<head>{BEFORE}").replace("</body>", f"{AFTER}</body>")
    page.write_text(text)
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,800", "--dump-dom",
         f"--user-data-dir={folder}/profile", page.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    unescaped = found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    return json.loads(unescaped), list(read(record))


def test_the_page_complains_of_nothing(looked_at):
    assert looked_at[0]["complaints"] == []


def test_the_timeline_has_a_line_for_each_thread(looked_at):
    found, events = looked_at
    names = {event.tid: event.text for event in events if event.kind == BEGUN}
    threads = {event.tid for event in events if event.kind == CALL}
    assert len(threads) == 3
    assert sorted(found["texts"][: len(threads)]) == sorted(f"{names[tid]} {tid}".strip() for tid in threads)
    assert found["height"] == 18 * len(threads) + 4


def test_the_timeline_has_a_bar_for_each_call_and_those_that_failed_are_red(looked_at):
    found, events = looked_at
    calls = [event for event in events if event.kind == CALL and event.result is not None]
    assert found["drawn"] == len(calls) + 1  # and one for the names
    assert found["red"] == sum(bool(event.error) for event in calls)


def test_the_mouse_tells_a_call_and_the_wheel_zooms(looked_at):
    found, _ = looked_at
    assert re.fullmatch(r"\w+: [\d.]+ us at [\d.]+ ms", found["hint"])
    assert 0 < found["zoomed"] < found["drawn"]


def test_the_slowest_calls_are_the_slowest(looked_at):
    found, events = looked_at
    calls = [event for event in events if event.kind == CALL and event.result is not None]
    # Of those that took as long, the page has them by their threads and then by what they were.
    calls.sort(key=lambda event: (event.end - event.start, event.tid, *call_line(event)), reverse=True)
    last = calls[39].end - calls[39].start
    # Of those that took as long as the last one, any may be missing.
    sure = [event for event in calls if event.end - event.start > last]
    rows = found["slowest"]
    assert len(rows) == 40
    expected = [[f"{(event.end - event.start) / 1e6:.3f}", str(event.tid)] for event in sure]
    assert [row[:2] for row in rows[: len(sure)]] == expected
    names = [row[2].split("(")[0] for row in rows]
    assert names[: len(sure)] == [event.name for event in sure]
    # The shell waits for its children, and one of them sleeps.
    assert {"wait4", "clock_nanosleep"} <= set(names)
