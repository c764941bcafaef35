"""Predictions of whole inferences: docs/timing.md has the formulas."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.runtime.plan import KernelStep, ProgramStep
from edge_agent.vta.program import Role
from edgectl.building import Build, build
from edgectl.cpu_estimate import calls_estimate, kernel_estimates, work_of
from edgectl.graph import Model, Node
from edgectl.operators.activation import Relu, Softmax
from edgectl.operators.base import Operator, TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.dense import Dense
from edgectl.operators.integer import IntegerConvolution, IntegerDense, IntegerPoolSum, IntegerWindowSum
from edgectl.operators.layout import Pack, Unpack
from edgectl.operators.pooling import GlobalPool, MaxPool
from edgectl.operators.quantization import Dequantize, Quantize, Requantize
from edgectl.processor import Processor
from tests.edgectl.quantization.networks import NETWORKS

CPU = Processor(
    name="round",
    description="round numbers",
    clock_hz=1_000_000,
    memory_bytes_per_second=1_000,
    kernel_call_cycles=100,
    program_call_cycles=10_000,
    inference_cycles=1_000_000,
    normalise_cycles=2,
    rank_cycles=3,
    kernel_cycles={
        "quantize": {"float32": 10},
        "quantize+pack_activation": {"float32": 4},
        "requantize": {"int32": 5},
        "integer_pool_sum": {"int8": 7},
        "other": {"float32": 50, "int8": 20},
    },
    sources="made up",
)


def segment(x: TensorType, *operators: Operator) -> Model:
    """Operators in a chain from `x`."""
    nodes: list[Node] = []
    for operator in operators:
        nodes.append(Node(f"n{len(nodes)}", operator, (nodes[-1].name if nodes else "x",)))
    return Model("segment", {"x": x}, tuple(nodes), {}, (nodes[-1].name,))


def test_a_kernel_is_its_cycles_and_its_bytes() -> None:
    (kernel,) = kernel_estimates(segment(TensorType((1, 3, 2, 2)), Quantize((1.0,))), CPU)
    assert kernel.seconds == pytest.approx(12 * 10 / 1e6 + (48 + 12) / 1e3)
    assert (kernel.step, kernel.part) == ("n0", "cpu")
    assert kernel.why == "quantize: 12 x 10 cycles, 0.1 kB moved"


def test_a_counted_sequence_counts_by_elements_of_its_result() -> None:
    (kernel,) = kernel_estimates(segment(TensorType((1, 3, 2, 2)), Quantize((1.0,)), Pack(1, 16)), CPU)
    assert kernel.seconds == pytest.approx(64 * 4 / 1e6 + (48 + 64) / 1e3)
    assert kernel.why == "quantize+pack_activation: 64 x 4 cycles, 0.1 kB moved"


def test_a_sequence_that_was_not_counted_adds_its_operators() -> None:
    model = segment(TensorType((1, 8, 3, 3), "int8"), IntegerPoolSum(), Requantize(3))
    (kernel,) = kernel_estimates(model, CPU)
    assert kernel.seconds == pytest.approx((72 * 7 + 8 * 5) / 1e6 + (72 + 8) / 1e3)


def test_work_that_was_not_counted_costs_as_any_other() -> None:
    (kernel,) = kernel_estimates(segment(TensorType((1, 10)), Relu()), CPU)
    assert kernel.seconds == pytest.approx(10 * 50 / 1e6 + 80 / 1e3)
    (kernel,) = kernel_estimates(segment(TensorType((1, 10), "int32"), Dequantize(0.5)), CPU)
    assert kernel.seconds == pytest.approx(10 * 20 / 1e6 + 80 / 1e3)


def test_each_kernel_is_a_step() -> None:
    kernels = kernel_estimates(segment(TensorType((1, 10)), Softmax(), Softmax()), CPU)
    assert [kernel.step for kernel in kernels] == ["n0", "n1"]


@pytest.mark.parametrize(
    ("operator", "inputs", "expected"),
    [
        (IntegerConvolution(), [((1, 8, 5, 5), "int8"), ((4, 8, 3, 3), "int8"), ((4,), "int32")], 4 * 9 * 8 * 9),
        (IntegerConvolution(groups=8), [((1, 8, 5, 5), "int8"), ((8, 1, 3, 3), "int8"), ((8,), "int32")], 8 * 9 * 9),
        (Convolution(groups=2), [((1, 8, 5, 5), "float32"), ((4, 4, 1, 1), "float32")], 4 * 25 * 4),
        (IntegerDense(), [((2, 30), "int8"), ((7, 30), "int8"), ((7,), "int32")], 2 * 7 * 30),
        (Dense(), [((1, 30), "float32"), ((7, 30), "float32")], 7 * 30),
        (MaxPool((3, 2)), [((1, 8, 4, 4), "int8")], 8 * 2 * 3 * 6),
        (IntegerWindowSum((2, 2), (2, 2)), [((1, 8, 4, 4), "int8")], 8 * 4 * 4),
        (GlobalPool(), [((1, 8, 4, 4), "float32")], 128),
        (Unpack(12), [((1, 1, 4, 4, 1, 16), "int8")], 12 * 16),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_units_of_work(operator: Operator, inputs: list[tuple[tuple[int, ...], str]], expected: int) -> None:
    types = {f"i{index}": TensorType(*given) for index, given in enumerate(inputs)}
    node = Node("n", operator, tuple(types))
    kind, dtype, units = work_of(node, {**types, "n": operator.infer(*types.values())})
    assert (dtype, units) == (inputs[0][1], expected)
    depthwise = getattr(operator, "groups", 1) == 8
    assert kind == operator.kind + (" depthwise" if depthwise else "")


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 40))
def test_more_pixels_take_longer(rows: int, columns: int, more: int) -> None:
    def seconds(height: int) -> float:
        (kernel,) = kernel_estimates(segment(TensorType((1, 3, height, columns)), Quantize((1.0,))), CPU)
        return kernel.seconds

    assert seconds(rows + more) == pytest.approx(seconds(rows) * (rows + more) / rows)
    assert (seconds(rows + more) > seconds(rows)) == (more > 0)


def test_calls() -> None:
    calls = calls_estimate(3, 2, CPU)
    assert calls.seconds == pytest.approx(1.0203) and calls.part == "calls"
    assert calls.why == "1 request of 1,000,000 cycles, 3 kernels of 100, 2 programs of 10,000"
    assert calls_estimate(1, 1, CPU).why.endswith("1 kernel of 100, 1 program of 10,000")


@pytest.fixture(scope="module")
def built() -> Build:
    return build(NETWORKS["residual"](), "pynq")


def test_the_manifest_has_the_whole_inference(built: Build) -> None:
    predicted = built.manifest["predicted"]
    bundle = read_bundle(built.data)
    parts = {part: sum(s["seconds"] for s in predicted["steps"] if s["part"] == part) for part in ("cpu", "calls")}
    assert predicted["processor"] == "pynq"
    assert predicted["vta_seconds"] == predicted["vta_cycles"] / 100e6
    assert predicted["cpu_seconds"] == pytest.approx(parts["cpu"])
    assert predicted["overhead_seconds"] == pytest.approx(parts["calls"])
    assert predicted["total_seconds"] == pytest.approx(sum(step["seconds"] for step in predicted["steps"]))
    kernels = [step for step in bundle.plan.steps if isinstance(step, KernelStep)]
    programs = [step for step in bundle.plan.steps if isinstance(step, ProgramStep)]
    assert sum(": " in step["why"] for step in predicted["steps"]) == len(kernels)
    assert sum(step["part"] == "vta" for step in predicted["steps"]) == len(programs)
    assert f" {len(kernels)} kernel" in predicted["steps"][-1]["why"]


def test_images_are_normalised_and_copied(built: Build) -> None:
    steps = {step["step"]: step for step in built.manifest["predicted"]["steps"]}
    shape = built.manifest["inputs"][0]["shape"]
    values = int(np.prod(shape))
    copy = steps["copy the inputs"]["seconds"]
    assert copy == pytest.approx(2 * 4 * values / 600e6)
    assert ("normalise the image" in steps) == (built.manifest["preprocessing"] is not None)


def test_programs_copy_what_they_read_and_write(built: Build) -> None:
    steps = {step["step"]: step for step in built.manifest["predicted"]["steps"]}
    for program in built.programs:
        nbytes = sum(int(np.prod(t.shape)) for role in (Role.INPUT, Role.OUTPUT) for t in program.tensors_of(role))
        assert steps[f"{program.name}: copy its inputs and outputs"]["seconds"] == pytest.approx(2 * nbytes / 600e6)


def test_each_program_costs_a_call(built: Build) -> None:
    layers = build(NETWORKS["residual"](), replace(profile("pynq"), features=frozenset()))
    programs = len(layers.programs) - len(built.programs)
    assert programs > 0
    more = layers.manifest["predicted"]["overhead_seconds"] - built.manifest["predicted"]["overhead_seconds"]
    assert more >= 0.999 * programs * 290_000 / 650e6


def test_the_simulated_board_is_predicted_as_the_board_that_it_stands_for(built: Build) -> None:
    sim = build(NETWORKS["residual"](), "sim")
    assert sim.manifest["predicted"] == built.manifest["predicted"]
