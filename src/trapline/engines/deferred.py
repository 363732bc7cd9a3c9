"""Hooks that are coroutine functions: one event loop in a thread of its own decides their calls.

No worker waits for them, so any number of calls can be undecided at a time.
"""

from __future__ import annotations

import asyncio
import threading

from trapline.errors import CallGoneError
from trapline.hooks import is_coroutine_function

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from trapline.call import Call

__all__ = ["DeferredHooks"]


class DeferredHooks:
    """The event loop of one session.

    :param workers: most threads for plain functions among the hooks of such a call.
    :param on_error: as in :class:`trapline.engines.base.Plan`.
    :param grace: seconds that hooks may take to end once the session has ended.
    """

    def __init__(self, workers: int, on_error: Callable[..., int], grace: float) -> None:
        self._on_error = on_error
        self._grace = grace
        self._places = asyncio.Semaphore(workers)
        self._lock = threading.Lock()
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="trapline-hooks", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
            pending = list(self._tasks)
            for task in pending:
                task.cancel()
            if pending:
                self._loop.run_until_complete(asyncio.wait(pending, timeout=self._grace))
        finally:
            self._loop.close()

    def decide(self, call: Call, hooks: tuple[Callable[..., Any], ...]) -> None:
        """Have *hooks* decide *call* and answer it; returns at once."""
        with self._lock:
            # A call that is taken from the queue when all is over has nobody who waits for it.
            if not self._closing:
                self._loop.call_soon_threadsafe(self._begin, call, hooks)

    def _begin(self, call: Call, hooks: tuple[Callable[..., Any], ...]) -> None:
        task = self._loop.create_task(self._decide(call, hooks))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _in_thread(self, hook: Callable[..., Any], call: Call) -> Any:
        """Run a plain function where it may block.

        An executor's threads would hold up the interpreter's end when a hook never returns; daemons do not.
        """
        result: asyncio.Future[Any] = self._loop.create_future()

        def deliver(value: Any, error: BaseException | None) -> None:
            if result.done():
                return
            if error is None:
                result.set_result(value)
            else:
                result.set_exception(error if isinstance(error, Exception) else RuntimeError(repr(error)))

        def work() -> None:
            value, error = None, None
            try:
                value = hook(call)
            except BaseException as raised:
                error = raised
            with self._lock:
                if not self._closing:
                    self._loop.call_soon_threadsafe(deliver, value, error)

        async with self._places:
            threading.Thread(target=work, name="trapline-hook", daemon=True).start()
            return await result

    async def _decide(self, call: Call, hooks: tuple[Callable[..., Any], ...]) -> None:
        try:
            for hook in hooks:
                result = await (hook(call) if is_coroutine_function(hook) else self._in_thread(hook, call))
                if call._check(result):
                    break
        except CallGoneError:
            return
        except BaseException as error:
            if self._closing and isinstance(error, asyncio.CancelledError):
                raise
            verdict = self._on_error(call, error)
            if verdict < 0:
                return
            if verdict:
                call.fail(verdict)
            else:
                call.proceed()
        call._answer()

    def close(self) -> None:
        """End the loop; calls that are undecided still stay so."""
        with self._lock:
            self._closing = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2 * self._grace)
