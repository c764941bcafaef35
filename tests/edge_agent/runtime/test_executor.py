"""Loading and running bundles: real kernels, a real program on the simulator, and everything that must be refused."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.boards import profile
from edge_agent.devices.base import Accelerator, AcceleratorInfo, LoadedProgram, RunStats
from edge_agent.devices.sim import Simulator
from edge_agent.errors import AgentError, DeadlineError, IncompatibleError, InputError, ProgramError, VerificationError
from edge_agent.runtime.executor import LoadedModel, Runtime
from edge_agent.runtime.plan import KernelStep, ProgramStep
from edge_agent.vta.program import Program
from tests.edge_agent.runtime.models import expected_values, make_bundle, make_plan, npy, sample_input
from tests.edge_agent.vta.builder import TiledConvolution


class FakeLoaded(LoadedProgram):
    def __init__(self, program: Program) -> None:
        self.program = program


class FakeAccelerator(Accelerator):
    """Computes what `result` says, or raises it."""

    def __init__(self, result: np.ndarray | Exception) -> None:
        self.result = result
        self.loaded: list[LoadedProgram] = []

    def describe(self) -> AcceleratorInfo:
        board = profile("sim")
        return AcceleratorInfo("fake", board.config, frozenset({"alu_mul"}), board.clock_hz)

    def load(self, program: Program) -> LoadedProgram:
        self.loaded.append(FakeLoaded(program))
        return self.loaded[-1]

    def run(
        self, loaded: LoadedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> RunStats:
        assert loaded in self.loaded
        if isinstance(self.result, Exception):
            raise self.result
        outputs["y"][...] = self.result
        return RunStats(0.25, loaded.program.counters)

    def unload(self, loaded: LoadedProgram) -> None:
        self.loaded.remove(loaded)

    def reset(self) -> None:
        pass


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return Runtime(Simulator(profile("sim")), directory=tmp_path)


@pytest.fixture
def model(runtime: Runtime) -> Iterator[LoadedModel]:
    loaded = runtime.load(make_bundle())
    yield loaded
    loaded.close()


def test_infer_computes_what_numpy_computes(model: LoadedModel) -> None:
    for seed in range(3):
        data = np.random.default_rng(seed).normal(0, 1, (1, 20, 8, 8)).astype(np.float32)
        inference = model.infer({"data": data}, observe=True)
        expected = expected_values(data)
        np.testing.assert_array_equal(inference.outputs["result"], expected["result"])
        assert inference.observed == {n: hashlib.sha256(expected[n].tobytes()).hexdigest() for n in ("x", "y")}
        assert inference.counters == TiledConvolution().build().counters
        assert inference.seconds > inference.vta_seconds > 0


def test_outputs_are_the_callers_own(model: LoadedModel) -> None:
    first = model.infer({"data": sample_input()}).outputs["result"]
    copy = first.copy()
    model.infer({"data": -sample_input()})
    np.testing.assert_array_equal(first, copy)
    assert model.infer({"data": sample_input()}).observed == {}


def test_non_contiguous_inputs_are_taken(model: LoadedModel) -> None:
    strided = np.asfortranarray(sample_input())
    np.testing.assert_array_equal(
        model.infer({"data": strided}).outputs["result"], expected_values(sample_input())["result"]
    )


def test_seconds_and_counters_of_every_program_step_add_up() -> None:
    plan, bundle = make_plan(), make_bundle()
    index = next(i for i, step in enumerate(plan.steps) if isinstance(step, ProgramStep))
    twice = replace(plan, steps=(*plan.steps[: index + 1], *plan.steps[index:]))
    accelerator = FakeAccelerator(np.ones((1, 2, 8, 8, 1, 16), np.int8))
    model = Runtime(accelerator).load(make_bundle(twice))
    inference = model.infer({"data": sample_input()})
    counters = TiledConvolution().build().counters
    assert (inference.vta_seconds, inference.counters) == (0.5, counters + counters)
    assert (inference.outputs["result"] == 0.125).all()
    model.close()
    assert accelerator.loaded == [] and bundle.plan == plan


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs are \[\], the model takes \['data'\]"),
        ({"image": np.zeros((1, 20, 8, 8), np.float32)}, r"\['image'\].*\['data'\]"),
        ({"data": np.zeros((1, 3, 8, 8), np.float32)}, r"float32\[1, 3, 8, 8\].*float32\[1, 20, 8, 8\]"),
        ({"data": np.zeros((1, 20, 8, 8))}, r"float64\[1, 20, 8, 8\].*float32\[1, 20, 8, 8\]"),
    ],
)
def test_wrong_inputs_are_refused(model: LoadedModel, inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.infer(inputs)


def test_self_test_passes_on_the_golden_sample(model: LoadedModel) -> None:
    model.self_test()


def test_self_test_names_both_digests() -> None:
    wrong = expected_values(sample_input())["y"].copy()
    wrong[0, 1, 2, 3, 0, 4] ^= 1  # a single flipped bit
    model = Runtime(FakeAccelerator(wrong)).load(make_bundle())
    good, bad = (hashlib.sha256(a.tobytes()).hexdigest() for a in (expected_values(sample_input())["y"], wrong))
    with pytest.raises(VerificationError, match=f"'y' has SHA-256 {bad}.* {good}"):
        model.self_test()
    model.close()


@pytest.mark.parametrize(
    ("golden", "message"),
    [
        (expected_values(sample_input())["result"] + np.float32(0.01), r"output 'result'\[0, 0, 0, 0\] is"),
        (np.full((1, 20, 8, 8), np.nan, np.float32), r"output 'result'\[0, 0, 0, 0\] is .* nan"),
        (np.zeros((1, 5), np.float32), r"shape \[1, 20, 8, 8\].*\[1, 5\]"),
    ],
)
def test_self_test_compares_float_outputs(runtime: Runtime, golden: np.ndarray, message: str) -> None:
    model = runtime.load(make_bundle(members={"golden/result.npy": npy(golden)}))
    with pytest.raises(VerificationError, match=message):
        model.self_test()
    model.close()


def test_self_test_needs_a_golden_sample(runtime: Runtime) -> None:
    model = runtime.load(make_bundle(golden={}))
    with pytest.raises(VerificationError, match="no golden sample"):
        model.self_test()
    model.close()


@pytest.mark.parametrize(
    "change",
    [
        {"inputs": {"data": "golden/missing.npy"}},
        {"integers": None},
        {"outputs": {"result": {"member": "golden/data.npy"}}},
    ],
)
def test_self_test_refuses_a_malformed_sample(runtime: Runtime, change: dict[str, Any]) -> None:
    model = runtime.load(make_bundle(golden={**make_bundle().manifest["golden"], **change}))
    with pytest.raises(VerificationError, match="golden sample is malformed"):
        model.self_test()
    model.close()


def test_a_deadline_reaches_the_caller() -> None:
    model = Runtime(FakeAccelerator(DeadlineError("no answer after 1 s"))).load(make_bundle())
    with pytest.raises(DeadlineError, match="no answer"):
        model.infer({"data": sample_input()})
    model.close()


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("agent_protocol", 2, r"protocol 2, this agent has 1"),
        ("config", "1x16_i8w8a32_15_15_18_16", r"1x16_i8w8a32_15_15_18_16, this board has 1x16_i8w8a32_15_15_18_17"),
        ("features", ["load_acc_8bit"], r"\['load_acc_8bit'\], this board has \['alu_mul'\].*edgectl compile tiny"),
        ("cpu", {"machine": "sparc"}, r"kernels are for sparc, this board is .*edgectl compile tiny"),
        ("cpu", {"machine": os.uname().machine, "flags": ["avx1024"]}, "use avx1024, which this processor"),
        ("cpu", None, "manifest lacks"),
    ],
)
def test_bundles_for_something_else_are_refused(entry: str, value: Any, message: str) -> None:
    accelerator = FakeAccelerator(DeadlineError("must not run"))
    with pytest.raises(IncompatibleError, match=message):
        Runtime(accelerator).load(make_bundle(**{entry: value}))
    assert accelerator.loaded == []


def test_another_cpu_is_refused_by_its_name() -> None:
    with pytest.raises(IncompatibleError, match="this board is armv7l"):
        Runtime(FakeAccelerator(np.zeros(1)), cpu="armv7l").load(make_bundle())


def test_a_failed_load_leaves_nothing_behind(tmp_path: Path) -> None:
    plan = make_plan()
    last = plan.steps[-1]
    assert isinstance(last, KernelStep)
    broken = replace(plan, steps=(*plan.steps[:-1], replace(last, kernel="missing")))
    accelerator = FakeAccelerator(DeadlineError("must not run"))
    with pytest.raises(IncompatibleError, match="no kernel 'missing'"):
        Runtime(accelerator, directory=tmp_path).load(make_bundle(broken))
    assert accelerator.loaded == [] and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda step: replace(step, outputs={}), r"outputs \['y'\], the plan binds \[\]"),
        (lambda step: replace(step, inputs={"x": 0}), r"input 'x' as int8\[1, 2, 8, 8, 1, 16\].*float32"),
        (lambda step: replace(step, program="programs/none.vta"), "no member 'programs/none.vta'"),
    ],
)
def test_plans_that_do_not_fit_their_program_are_refused(runtime: Runtime, change: Any, message: str) -> None:
    plan = make_plan()
    steps = tuple(change(step) if isinstance(step, ProgramStep) else step for step in plan.steps)
    with pytest.raises(IncompatibleError, match=message):
        runtime.load(make_bundle(replace(plan, steps=steps)))


def test_damaged_members_are_refused(runtime: Runtime) -> None:
    with pytest.raises(ProgramError, match="not a VTA program"):
        runtime.load(make_bundle(members={"programs/conv.vta": b"garbage"}))
    with pytest.raises(IncompatibleError, match="not a little-endian ELF"):
        runtime.load(make_bundle(members={"kernels.so": b"garbage"}))
    with pytest.raises(IncompatibleError, match="bytes 0 to 4 of 0"):
        runtime.load(make_bundle(members={"constants.bin": b""}))


def test_a_loaded_model_keeps_no_second_copy_of_its_members(runtime: Runtime) -> None:
    bundle = make_bundle()
    whole = weakref.ref(bundle)
    loaded = runtime.load(bundle)
    del bundle
    assert whole() is None
    loaded.self_test()
    loaded.close()


def test_a_kernel_that_refuses_its_arguments_says_why(runtime: Runtime) -> None:
    plan = make_plan()
    last = plan.steps[-1]
    assert isinstance(last, KernelStep)
    swapped = replace(plan, steps=(*plan.steps[:-1], replace(last, arguments=last.arguments[::-1])))
    model = runtime.load(make_bundle(swapped))
    with pytest.raises(AgentError, match=rf"kernel '{last.kernel}' failed: \w+Error: .+"):
        model.infer({"data": sample_input()})
    model.close()
    model.close()  # again, without harm
