"""The thread that answers agents how a hot site is rewritten."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline import _native
    from trapline.rewriting.catalogue import SiteCatalogue

__all__ = ["Planner"]

#: How often the thread looks whether it is still wanted.
_PATIENCE_MS = 500


class Planner:
    """Plans for one session. What it needs is imported when the first question comes.

    :param agent: whose questions are answered.
    """

    def __init__(self, agent: _native.Agent) -> None:
        self._agent = agent
        self._closing = False
        self._catalogue: SiteCatalogue | None = None
        self._thread = threading.Thread(target=self._run, name="trapline-planner", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing:
            asked = self._agent.next_plan(_PATIENCE_MS)
            if asked is not None:
                number, pid, site, low, high = asked
                self._agent.answer_plan(number, self._answer(pid, site, range(low, high)))

    def _answer(self, pid: int, site: int, room: range) -> bytes:
        from trapline.rewriting.windows import Refusal
        from trapline.rewriting.wire import pack

        try:
            return self._sites().answer(pid, site, room)
        except Exception as error:
            # The site stays on the slow path: a failure to plan must not become one of the program.
            import sys

            if sys.stderr is not None:
                sys.stderr.write(
                    f"trapline: cannot plan how to rewrite {site:#x} of process {pid}: {error!r}\n"
                )
            return pack(Refusal("unreadable"))

    def _sites(self) -> SiteCatalogue:
        if self._catalogue is None:
            from trapline.rewriting.blocks import Fixup, Gate
            from trapline.rewriting.catalogue import SiteCatalogue

            code, pass_offset, fixups = self._agent.gate()
            self._catalogue = SiteCatalogue(Gate(code, pass_offset, [Fixup(*each) for each in fixups]))
        return self._catalogue

    def close(self) -> None:
        """Answer nobody any more; the transport is closed already."""
        self._closing = True
        self._thread.join()
