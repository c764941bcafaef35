"""Signals held back for a moment reach their handlers afterwards."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest

from edgectl.interrupts import ENDING, interrupts_deferred


def test_ctrl_c_arrives_after_the_block() -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), interrupts_deferred():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done.append("the block")
    assert done == ["the block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_nothing_arrives_unasked() -> None:
    before = [signal.getsignal(number) for number in ENDING]
    with interrupts_deferred():
        pass
    assert [signal.getsignal(number) for number in ENDING] == before


def test_a_child_can_be_ended() -> None:
    with interrupts_deferred():
        child = subprocess.Popen([sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"], stdout=-1)
    assert child.stdout is not None and child.stdout.readline()
    child.terminate()
    assert child.wait(30) == -signal.SIGTERM
    child.stdout.close()


def test_an_error_of_the_block_is_kept() -> None:
    with pytest.raises(ValueError, match="own"), interrupts_deferred():
        raise ValueError("own")


def test_in_another_thread_it_does_nothing() -> None:
    seen = []

    def work() -> None:
        with interrupts_deferred():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
