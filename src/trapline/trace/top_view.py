"""The live view of ``trapline trace --top``, on a terminal."""

from __future__ import annotations

import signal

from textual.app import App
from textual.binding import Binding
from textual.widgets import DataTable, Footer, Static

from trapline.trace.top import COLUMNS, KINDS, Top

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar

    from textual.app import ComposeResult

__all__ = ["TopView"]

_PERIOD = 1.0
_ROWS = 200
_WIDTHS = (9, 9, 11, 10, 8)


class TopView(App[None]):
    """Tables of calls, files and peers that are renewed each second.

    :param top: what is counted.
    :param command: what is looked at, for the first line.
    :param state: says how the command fares.
    """

    CSS = "Static { height: 1; padding: 0 1; } DataTable { height: 1fr; }"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[Any]] = [
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", "Quit", show=False, priority=True),
        Binding("c", "show('calls')", "Calls"),
        Binding("f", "show('files')", "Files"),
        Binding("p", "show('peers')", "Peers"),
        Binding("s", "sort", "Sort"),
        Binding("space", "hold", "Hold"),
    ]

    def __init__(self, top: Top, command: str, state: Callable[[], str]) -> None:
        super().__init__()
        self._top = top
        self._command = command
        self._state = state
        self._kind = KINDS[0]
        self._sort = COLUMNS[0]
        self._held = False

    def compose(self) -> ComposeResult:
        """Lay out the view."""
        yield Static(id="head", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to renew the view."""
        import asyncio

        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, self.exit)
        self.set_interval(_PERIOD, self._renew)
        self._draw()

    def action_show(self, kind: str) -> None:
        """Show another table."""
        self._kind = kind
        self._draw()

    def action_sort(self) -> None:
        """Sort by the next column."""
        self._sort = COLUMNS[(COLUMNS.index(self._sort) + 1) % len(COLUMNS)]
        self._draw()

    def action_hold(self) -> None:
        """Stop to renew the view, or go on."""
        self._held = not self._held
        self._draw()

    def _renew(self) -> None:
        if not self._held:
            self._draw()
            self._top.look()

    def _draw(self) -> None:
        state = self._state() + (", held" if self._held else "")
        lost = f", {self._top.dropped} lost" if self._top.dropped else ""
        self.query_one("#head", Static).update(
            f"{self._command}: {state}; {self._top.total} calls{lost}; {self._kind} by {self._sort}"
        )
        table: DataTable[str] = self.query_one(DataTable)
        at = table.cursor_row
        table.clear(columns=True)
        for name, width in zip(COLUMNS, (*_WIDTHS, None), strict=True):
            label = f"{name} v" if name == self._sort else name
            table.add_column(label.rjust(width or 0), width=width)
        for lately, often, taken, count, errors, name in self._top.rows(self._kind, self._sort)[:_ROWS]:
            cells = (f"{lately:.2f}", f"{often:.0f}", f"{taken:.1f}", str(count), str(errors or ""))
            table.add_row(*[cell.rjust(width) for cell, width in zip(cells, _WIDTHS, strict=True)], name)
        table.move_cursor(row=at)
