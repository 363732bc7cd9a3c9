"""The thread that answers agents how a hot site is rewritten."""

from __future__ import annotations

from trapline.worker import Worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from trapline import _native
    from trapline.rewriting.blocks import Gate
    from trapline.rewriting.catalogue import SiteCatalogue

__all__ = ["Planner"]

_FOREVER = -1
#: When nobody has asked for so long, what was planned is written to the store.
_QUIET_MS = 250


class Planner:
    """Plans for one session. What it needs is imported when the first question comes.

    :param agent: whose questions are answered.
    """

    def __init__(self, agent: _native.Agent) -> None:
        self._agent = agent
        self._catalogue: SiteCatalogue | None = None
        self._worker = Worker(self._run)

    def _run(self) -> None:
        while True:
            catalogue = self._catalogue
            is_changed = catalogue is not None and catalogue.is_changed
            asked = self._agent.next_plan(_QUIET_MS if is_changed else _FOREVER)
            if asked:
                number, pid, site, low, high = asked
                self._agent.answer_plan(number, self._answer(pid, site, range(low, high)))
                continue
            if catalogue is not None:
                catalogue.save()
            if asked is not None:
                return

    def _answer(self, pid: int, site: int, room: range) -> bytes:
        try:
            return self._sites().answer(pid, site, room)
        except Exception as error:
            # The site stays on the slow path: a failure to plan must not become one of the program.
            import sys

            from trapline.rewriting.windows import Refusal
            from trapline.rewriting.wire import pack

            if sys.stderr is not None:
                sys.stderr.write(
                    f"trapline: cannot plan how to rewrite {site:#x} of process {pid}: {error!r}\n"
                )
            return pack(Refusal("unreadable"))

    def _sites(self) -> SiteCatalogue:
        if self._catalogue is None:
            import os

            from trapline.rewriting.catalogue import SiteCatalogue
            from trapline.rewriting.store import PlanStore, default_folder

            folder = default_folder(os.environ)
            store = PlanStore(self._agent.gate(), folder) if folder else None
            self._catalogue = SiteCatalogue(self._gate, store=store)
        return self._catalogue

    def _gate(self) -> Gate:
        from trapline.rewriting.blocks import Fixup, Gate

        code, pass_offset, fixups = self._agent.gate()
        return Gate(code, pass_offset, [Fixup(*each) for each in fixups])

    def close(self) -> None:
        """Answer nobody any more."""
        self._agent.end_plans()
        self._worker.join()
