"""An event loop without a clock: time is virtual, and a seed decides what runs next.

Nothing sleeps: when no callback is ready, time jumps to the next timer. Of the callbacks that are
ready the seed picks any, so every interleaving can come up. What production code gives to threads
(``run_in_executor``) runs in the loop itself, as one step of its own after a drawn delay, so
threads are as deterministic as everything else.

Callbacks belong to *processes*, by their context: what a process starts is its own. A dead process
runs nothing more, not even its ``finally`` blocks, as after a SIGKILL; a paused one goes on later.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any


class Process:
    """What dies and pauses as one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.paused_until = 0.0
        self.at_death: list[Callable[[], None]] = []

    def kill(self) -> None:
        """End it here and now."""
        if not self.dead:
            self.dead = True
            for callback in self.at_death:
                callback()


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def current_process() -> Process | None:
    """The process that runs now; None: the world around them."""
    return _process.get()


class TornDown(BaseException):
    """Ends what is still suspended when a simulation is over."""


class Stuck(AssertionError):
    """Nothing is ready and nothing ever will be, or there is no end to it."""


STEPS_AT_MOST = 50_000
"""A simulation takes some thousands."""


class Loop(asyncio.AbstractEventLoop):
    """Runs one simulation; ``random`` makes every choice."""

    def __init__(self, random: Random) -> None:
        self.steps = 0
        self.random = random
        self.on_executed: Callable[[Process | None], None] = lambda _process: None
        self.latency: Callable[[], float] = lambda: 0.0
        self.before_executing: Callable[[Any], None] = lambda _executor: None
        self.problems: list[str] = []
        self.failure: BaseException | None = None
        self._time = 0.0
        self._ready: list[tuple[asyncio.Handle, Process | None]] = []
        self._timers: list[tuple[float, int, asyncio.Handle, Process | None]] = []
        self._numbers = itertools.count()
        self._lanes: dict[int, float] = {}
        self._tasks: list[asyncio.Task[Any]] = []
        self._generators: list[Any] = []
        self._over = False

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self._time

    def call_soon(
        self, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        if not self._over:
            self._ready.append((handle, context.get(_process)))
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self, when: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        context = copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        if not self._over:
            entry = (when, next(self._numbers), handle, context.get(_process))
            heapq.heappush(self._timers, entry)
        return handle

    def call_later(
        self, delay: float, callback: Any, *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._time + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """A cancelled timer is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        """Run ``func`` as a step of its own; an executor with one thread keeps the order."""
        future = self.create_future()
        when = self._time + self.latency()
        if getattr(executor, "_max_workers", 0) == 1:
            when = max(when, self._lanes.get(id(executor), 0.0) + 1e-6)
            self._lanes[id(executor)] = when

        def execute() -> None:
            try:
                self.before_executing(executor)
                result = func(*args)
            except Exception as error:
                answer = (future.set_exception, error)
            else:
                answer = (future.set_result, result)
            self.on_executed(current_process())
            self.call_later(self.latency(), reply, *answer)

        def reply(settle: Any, value: Any) -> None:
            if not future.done():
                settle(value)

        self.call_at(when, execute)
        return future

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return not self._over

    def is_closed(self) -> bool:
        return self._over

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._over:
            self.problems.append(f"{context.get('message')}: {context.get('exception')!r}")

    # What a simulation does with it.

    def spawn(self, process: Process, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``coro`` as (a part of) ``process``; what it raises ends the simulation."""
        context = copy_context()
        context.run(_process.set, process)
        task = self.create_task(coro, context=context)
        task.add_done_callback(raise_error)
        return task

    def fail(self, error: BaseException) -> None:
        """End the simulation with ``error``, whatever the code that runs now makes of it."""
        self.failure = self.failure or error

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """The result of ``main``; whatever else still runs then is torn down."""
        hooks = sys.get_asyncgen_hooks()
        asyncio._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=self._generators.append)
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
                if self.failure is not None:
                    raise self.failure
            return task.result()
        finally:
            self._tear_down()
            sys.set_asyncgen_hooks(*hooks)
            asyncio._set_running_loop(None)

    def _step(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            if not timers:
                raise Stuck("nothing is ready")
            self._time = max(self._time, timers[0][0])
        while timers and timers[0][0] <= self._time:
            _, _, timer, process = heapq.heappop(timers)
            ready.append((timer, process))
        index = int(self.random.random() * len(ready))
        ready[index], ready[-1] = ready[-1], ready[index]
        handle, process = ready.pop()
        if handle.cancelled():
            return
        if process is not None:
            if process.dead:
                return
            if process.paused_until > self._time:
                entry = (process.paused_until, next(self._numbers), handle, process)
                heapq.heappush(timers, entry)
                return
        self.steps += 1
        if self.steps > STEPS_AT_MOST:
            raise Stuck("it takes too many steps")
        handle._context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]

    def _tear_down(self) -> None:
        self._over = True
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                self._end(task.get_coro())
        for generator in self._generators:
            self._end(generator.aclose())

    def _end(self, coroutine: Any) -> None:
        """Unwind a suspended coroutine, however often it awaits on its way out."""
        try:
            for _ in range(100):
                coroutine.throw(TornDown)
        except (StopIteration, TornDown, RuntimeError):
            pass
        except Exception as error:
            self.problems.append(f"while it was torn down: {error!r}")


def raise_error(task: asyncio.Task[Any]) -> None:
    if (error := task.exception()) is not None:
        raise error
