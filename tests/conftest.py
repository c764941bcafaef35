"""What holds for every test: one BLAS thread per process, and a state directory of the test session's own."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Before anything imports NumPy: BLAS threads that outnumber the cores wait for each other, and one test process runs
# on each core already.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def signals_of_a_terminal() -> Iterator[None]:
    """Gives each test the handlers of a program in the foreground: a shell starts background jobs with Ctrl-C ignored,
    and the main functions of the agent and its helpers install handlers of their own."""
    ended = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, ended)


@pytest.fixture(scope="session", autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps tests away from the boards, the keys, the mirror and the network of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECTL_STATE", str(tmp_path_factory.mktemp("state")))
        patch.setenv("EDGECTL_INVENTORY", str(tmp_path_factory.mktemp("inventory") / "boards.toml"))
        patch.setattr("edgectl.boards.discovery.browse", lambda seconds: [])
        patch.delenv("EDGECTL_KEY", raising=False)
        patch.delenv("EDGECTL_MIRROR", raising=False)
        yield
