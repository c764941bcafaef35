"""Activation, rollback and inference around a runtime without an accelerator."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.bundle import read_bundle
from edge_agent.errors import (
    BusyError,
    DeadlineError,
    DegradedError,
    HardwareError,
    IncompatibleError,
    InputError,
    VerificationError,
)
from edge_agent.metrics import Metrics
from edge_agent.service import MAXIMUM_MODELS, Service
from edge_agent.store import Store
from tests.edge_agent.fakes import Board, FakeAccelerator, FakeRuntime, board, bundle_bytes

ONES = {"data": np.ones((1, 4), np.float32)}


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Board]:
    with board(tmp_path, queue_depth=2) as running:
        yield running


def _result(agent: Board) -> float:
    return float(agent.service.infer(ONES).outputs["result"][0, 0])


def _restarted(directory: Path) -> Service:
    service = Service(FakeRuntime(), FakeAccelerator(), Store(directory), Metrics("sim", "fake"))  # type: ignore[arg-type]
    service.restore()
    return service


def test_nothing_is_live_at_first(agent: Board) -> None:
    assert not agent.service.ready
    with pytest.raises(IncompatibleError, match="no model is live: no bundle has been activated yet"):
        agent.service.infer(ONES)


def test_an_activated_bundle_serves_and_is_described(agent: Board) -> None:
    bundle = bundle_bytes("double", bias=1)
    digest = agent.deploy(bundle)
    assert agent.service.ready and _result(agent) == 3
    status = agent.service.status()
    assert status["live"] == {
        "model": "double",
        "digest": digest,
        "bytes": len(bundle),
        "batch": 1,
        "accuracy": None,
        "predicted_cycles": 0,
        "inputs": [{"name": "data", "shape": [1, 4], "dtype": "float32"}],
        "outputs": [{"name": "result", "shape": [1, 4], "dtype": "float32"}],
    }
    assert status["last"]["counters"]["gemm_counter"] == 60 and status["samples"] == 1


def test_the_new_version_replaces_the_old_one_and_releases_it(agent: Board) -> None:
    agent.deploy(bundle_bytes(bias=1))
    agent.deploy(bundle_bytes(bias=2))
    assert _result(agent) == 4 and agent.runtime.loaded == 1


def test_a_bundle_that_fails_its_self_test_never_goes_live(agent: Board) -> None:
    good = agent.deploy(bundle_bytes(bias=1))
    with pytest.raises(VerificationError, match="golden sample"):
        agent.deploy(bundle_bytes(bias=2, good=False))
    assert _result(agent) == 3 and agent.runtime.loaded == 1
    assert agent.store.active.current == good


def test_what_was_live_is_restored(agent: Board, tmp_path: Path) -> None:
    agent.deploy(bundle_bytes(bias=1))
    restarted = _restarted(tmp_path)
    assert restarted.infer(ONES).outputs["result"][0, 0] == 3
    restarted.close()


def test_a_live_version_that_turned_bad_gives_way_to_the_previous(agent: Board, tmp_path: Path) -> None:
    previous = agent.deploy(bundle_bytes(bias=1))
    current = agent.deploy(bundle_bytes(bias=2))
    (tmp_path / "bundles" / f"{current}.bundle").write_bytes(b"damaged")
    restarted = _restarted(tmp_path)
    assert restarted.infer(ONES).outputs["result"][0, 0] == 3
    assert Store(tmp_path).active.current == previous
    restarted.close()


def test_two_bad_versions_stop_the_rollback_and_say_so(agent: Board, tmp_path: Path) -> None:
    digests = [agent.deploy(bundle_bytes(bias=bias)) for bias in (1, 2)]
    for digest in digests:
        (tmp_path / "bundles" / f"{digest}.bundle").write_bytes(b"damaged")
    restarted = _restarted(tmp_path)
    assert not restarted.ready
    assert f"bundle {digests[0][:12]} failed" in restarted.status()["reason"]
    restarted.close()


def test_the_accelerator_has_one_thread(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    threads = [threading.Thread(target=_result, args=(agent,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert agent.runtime.threads == {"accelerator"}


def test_no_request_sees_a_mix(tmp_path: Path) -> None:
    with board(tmp_path, queue_depth=64) as agent:
        agent.deploy(bundle_bytes(bias=0))
        found: list[float] = []
        stop = threading.Event()

        def infer() -> None:
            while not stop.is_set():
                result = agent.service.infer(ONES).outputs["result"]
                assert len(set(result.ravel().tolist())) == 1
                found.append(float(result[0, 0]))

        threads = [threading.Thread(target=infer) for _ in range(3)]
        for thread in threads:
            thread.start()
        for bias in range(1, 6):
            agent.deploy(bundle_bytes(bias=bias))
        stop.set()
        for thread in threads:
            thread.join()
        assert set(found) <= {2.0 + bias for bias in range(6)}
        assert agent.runtime.loaded == 1


def _fill_queue(agent: Board) -> list[threading.Thread]:
    """Three requests held back: one that runs and the two that may wait."""
    agent.runtime.gate.clear()
    threads = [threading.Thread(target=_result, args=(agent,)) for _ in range(3)]
    threads[0].start()
    while not agent.runtime.threads:
        time.sleep(0.001)
    for thread in threads[1:]:
        thread.start()
    while b"edge_queue_requests 2.0" not in agent.metrics.page("")[0]:
        time.sleep(0.001)
    return threads


def test_a_full_queue_is_busy(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    threads = _fill_queue(agent)
    with pytest.raises(BusyError, match="2 requests already wait"):
        agent.service.infer(ONES)
    agent.runtime.gate.set()
    for thread in threads:
        thread.join()
    assert b'edge_inference_failures_total{reason="busy"} 1.0' in agent.metrics.page("")[0]


def test_a_request_that_waits_too_long_is_dropped(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    agent.runtime.gate.clear()
    for _ in range(2):
        with pytest.raises(DeadlineError, match=r"did not answer within 0\.05 s"):
            agent.service.infer(ONES, seconds=0.05)
    agent.runtime.gate.set()
    _result(agent)
    assert agent.service.status()["samples"] == 2  # the first one ran on, the second never began


def test_an_accelerator_that_does_not_finish_is_reset(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    agent.runtime.error = DeadlineError("the accelerator did not finish")
    with pytest.raises(DeadlineError):
        agent.service.infer(ONES)
    assert agent.accelerator.resets == 1
    agent.runtime.error = None
    assert _result(agent) == 2


def test_a_degraded_accelerator_is_not_ready(agent: Board) -> None:
    agent.deploy(bundle_bytes(bias=1))
    agent.accelerator.problem = "a run did not finish"
    agent.runtime.error = DegradedError("the accelerator cannot be used: a run did not finish")
    with pytest.raises(DegradedError):
        agent.service.infer(ONES)
    status = agent.service.status()
    assert not agent.service.ready and not status["ready"] and status["live"] is not None
    assert status["reason"] == status["degraded"] == "a run did not finish"
    page = agent.metrics.page("")[0]
    assert b"edge_accelerator_degraded 1.0" in page
    assert b'edge_inference_failures_total{reason="degraded"} 1.0' in page
    agent.runtime.error = None
    agent.service.reprogrammed()
    assert agent.service.ready and _result(agent) == 3 and agent.service.status()["degraded"] == ""
    assert b"edge_accelerator_degraded 0.0" in agent.metrics.page("")[0]


@pytest.mark.parametrize("error", [DegradedError("the FPGA is not programmed"), HardwareError("no DMA memory")])
def test_the_boards_fault_is_not_the_bundles(agent: Board, tmp_path: Path, error: Exception) -> None:
    """At a restart the FPGA is empty: the version that was live waits, and is not rolled back."""
    agent.deploy(bundle_bytes(bias=1))
    digest = agent.deploy(bundle_bytes(bias=2))
    runtime, accelerator = FakeRuntime(), FakeAccelerator()
    runtime.error = error
    accelerator.problem = str(error) if isinstance(error, DegradedError) else ""
    service = Service(runtime, accelerator, Store(tmp_path), Metrics("sim", "fake"))  # type: ignore[arg-type]
    monkey = runtime.load

    def refuse(bundle: object) -> None:
        raise error

    runtime.load = refuse  # type: ignore[method-assign, assignment]
    service.restore()
    assert not service.ready and Store(tmp_path).active.current == digest
    assert str(error) in service.status()["reason"]
    runtime.load, runtime.error = monkey, None  # type: ignore[method-assign]
    service.reprogrammed()
    assert service.ready and service.infer(ONES).outputs["result"][0, 0] == 4
    service.close()


def test_activations_take_turns(agent: Board) -> None:
    first = agent.deploy(bundle_bytes(bias=1))
    second = agent.deploy(bundle_bytes(bias=2))
    agent.runtime.gate.clear()
    blocked = threading.Thread(target=_result, args=(agent,))
    blocked.start()
    while not agent.runtime.threads:
        pass
    activating = threading.Thread(target=agent.service.activate, args=(first,))
    activating.start()
    while not agent.service._activating.locked():
        pass
    with pytest.raises(BusyError, match=f"bundle {first[:12]} is being activated"):
        agent.service.activate(second, patience=0.01)
    waiting = threading.Thread(target=agent.service.activate, args=(second,))
    waiting.start()
    agent.runtime.gate.set()
    for thread in (blocked, activating, waiting):
        thread.join()
    assert _result(agent) == 4


def test_activating_what_is_not_there(agent: Board) -> None:
    with pytest.raises(InputError, match="there is no bundle aaaaaaaaaaaa on this board"):
        agent.service.activate("a" * 64)
    with pytest.raises(InputError, match="is not a bundle's digest"):
        agent.service.activate("../../etc/passwd")


def test_loaded_models_are_bounded_and_released(agent: Board) -> None:
    bundle = read_bundle(bundle_bytes())
    models = [agent.service.load(bundle) for _ in range(MAXIMUM_MODELS)]
    with pytest.raises(BusyError, match=f"{MAXIMUM_MODELS} models are already loaded"):
        agent.service.load(bundle)
    agent.deploy(bundle_bytes(bias=5))  # sessions do not keep a deploy out
    assert _result(agent) == 7
    agent.service.unload(models[0])
    agent.service.unload(agent.service.load(bundle))
    for model in models[1:]:
        agent.service.unload(model)
    assert agent.runtime.loaded == 1


def test_a_failed_load_takes_no_place(agent: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(bundle: object) -> None:
        raise IncompatibleError("made for another board")

    bundle = read_bundle(bundle_bytes())
    with monkeypatch.context() as patch:
        patch.setattr(agent.runtime, "load", refuse)
        for _ in range(MAXIMUM_MODELS + 1):
            with pytest.raises(IncompatibleError, match="another board"):
                agent.service.load(bundle)
    agent.service.unload(agent.service.load(bundle))


def test_a_full_queue_does_not_keep_models_from_being_released(agent: Board) -> None:
    agent.deploy(bundle_bytes(bias=1))
    model = agent.service.load(read_bundle(bundle_bytes()))
    waiting = _fill_queue(agent)
    releasing = threading.Thread(target=agent.service.unload, args=(model,))
    releasing.start()
    agent.runtime.gate.set()
    for thread in (*waiting, releasing):
        thread.join()
    assert agent.runtime.loaded == 1


def test_bench_counts_and_means(agent: Board) -> None:
    agent.deploy(bundle_bytes())
    result = agent.service.bench(None, number=3, repeat=2)
    assert result.seconds == (0.004,) * 6 and result.vta_seconds == (0.003,) * 6
    assert result.means == pytest.approx((0.004, 0.004))
    assert result.counters["alu_counter"] == 70
    assert agent.service.status()["samples"] == 7
