"""The one thread that uses the accelerator, and the bounded queue in front of it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any, TypeVar

from edge_agent.errors import BusyError, DeadlineError

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Job:
    call: Callable[[float], Any]
    future: futures.Future[Any]
    queued_at: float


class Worker:
    """Runs jobs one after another, in the order in which they came."""

    def __init__(self, depth: int, on_depth: Callable[[int], None] = lambda count: None) -> None:
        """`depth` jobs may wait; `on_depth` hears how many do."""
        self._depth = depth
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._on_depth = on_depth
        self._closing = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="accelerator", daemon=True)
        self._thread.start()

    def call(self, function: Callable[[float], Result], seconds: float | None = None, always: bool = False) -> Result:
        """Run `function(seconds it waited)` on the thread and return what it returns or raises.

        Raises BusyError where the queue is full (unless it has to run `always`, as what releases things), DeadlineError
        where `seconds` pass first: a job that still waits is then dropped, one that runs is finished, its result lost.
        """
        job = _Job(function, futures.Future(), time.monotonic())
        with self._closing:
            if self._closed:
                raise BusyError("the agent is shutting down")
            if not always and self._jobs.qsize() >= self._depth:
                raise BusyError(f"{self._depth} requests already wait for the accelerator; try again later")
            self._jobs.put(job)
        self._on_depth(self._jobs.qsize())
        try:
            return job.future.result(seconds)
        except futures.TimeoutError:  # not the built-in one before Python 3.11
            if job.future.done():  # the function itself raised it, or has just finished
                return job.future.result()
            job.future.cancel()
            raise DeadlineError(f"the accelerator did not answer within {seconds:g} s") from None

    @property
    def alive(self) -> bool:
        """Whether jobs are still run."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._on_depth(self._jobs.qsize())
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                job.future.set_result(job.call(time.monotonic() - job.queued_at))
            except BaseException as error:  # whatever a job raises belongs to its caller
                job.future.set_exception(error)
            del job  # what it holds, such as a retired model, would else stay until the next one comes

    def close(self, seconds: float = 5.0) -> None:
        """Let what waits finish, then end the thread; no new job is taken."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._jobs.put(None)
        self._thread.join(seconds)
