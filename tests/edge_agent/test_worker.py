"""The thread that uses the accelerator: what it holds on to."""

from __future__ import annotations

import time
import weakref

from edge_agent.worker import Worker


class Retired:
    """Something large that a job releases."""

    def close(self) -> None:
        """Nothing."""


def test_what_a_job_has_released_does_not_stay_until_the_next() -> None:
    worker = Worker(4)
    retired = Retired()
    released = weakref.ref(retired)
    worker.call(lambda waited, model=retired: model.close())  # type: ignore[misc]
    del retired
    deadline = time.monotonic() + 10  # the caller may be a moment ahead of the thread
    while released() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    assert released() is None
    worker.close()
