"""From a float model to a bundle that the agent's runtime runs: bit-equal to the interpreter."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.devices.base import LoadedProgram, RunStats
from edge_agent.devices.sim import Simulator
from edge_agent.errors import IncompatibleError, VerificationError
from edge_agent.runtime.executor import LoadedModel, Runtime
from edge_agent.runtime.plan import KernelStep
from edge_agent.vta.program import Role
from edge_agent.vta.simulator import Simulation
from edge_agent.vta.verify import verify
from edgectl.building import Build, build, build_integer
from edgectl.bundle import write_bundle
from edgectl.codegen.partition import OFFLOADS, partition
from edgectl.errors import CompileError
from edgectl.golden import exact_values, rounded_again
from edgectl.graph import Model, Node
from edgectl.interpreter import interpret
from edgectl.operators.activation import Relu, Softmax
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary
from edgectl.operators.integer import IntegerConvolution
from edgectl.quantization.calibration import synthetic_images
from tests.edgectl.quantization.networks import NETWORKS, NetworkBuilder


def load(data: bytes) -> LoadedModel:
    board = profile("sim")
    return Runtime(open_accelerator(board.accelerator, board)).load(read_bundle(data))


@pytest.fixture(scope="module", params=list(NETWORKS))
def built(request: pytest.FixtureRequest) -> Build:
    return build(NETWORKS[request.param](), "sim")


def test_the_bundle_passes_its_self_test(built: Build) -> None:
    load(built.data).self_test()


def test_integers_equal_the_interpreters_to_the_bit(built: Build) -> None:
    loaded = load(built.data)
    packings = partition(built.integer_model, profile("sim").vta).packings
    exact = exact_values(built.integer_model)
    for image in synthetic_images(None, (1, 3, 16, 16), 3, seed=9):
        x = {"data": image[None]}
        values: dict[str, np.ndarray] = {}
        expected = interpret(built.integer_model, x, values.__setitem__)
        inference = loaded.infer(x, observe=True)
        compared = 0
        for name, digest in inference.observed.items():
            value, operator = packings.get(name, (name, None))
            if value in exact:
                array = values[value] if operator is None else operator.evaluate(values[value])
                assert hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest() == digest, name
                compared += 1
        assert compared == len(built.manifest["golden"]["integers"]) > 0
        rough = rounded_again(built.integer_model)
        for name, output in expected.items():
            absolute = 0.1 * np.abs(output).max() if rough else 1e-5
            np.testing.assert_allclose(inference.outputs[name], output, rtol=1e-4, atol=absolute)
        assert inference.counters == built.counters


def test_building_again_gives_the_same_bundle() -> None:
    first, second = (build(NETWORKS["residual"](), "sim") for _ in range(2))
    assert first.digest == second.digest
    assert first.data == second.data


@pytest.mark.parametrize("offload", OFFLOADS)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_either_way_to_offload_computes_the_same(name: str, offload: str) -> None:
    built = build(NETWORKS[name](), offload=offload)
    load(built.data).self_test()
    assert built.manifest["model"]["offload"] == offload
    for fallback in built.fallbacks:
        assert fallback.reason, fallback


def test_residual_networks_run_on_the_accelerator_from_the_packed_image_to_the_last_sum() -> None:
    built = build(NETWORKS["residual"]())
    assert (built.fallbacks, built.manifest["layers"]["cpu"]) == ((), [])
    assert len(built.programs) == 1
    kernels = [step for step in read_bundle(built.data).plan.steps if isinstance(step, KernelStep)]
    assert [step.layers for step in kernels] == [("data", "data.int8"), ("fc.int32", "fc")]


def test_the_reference_leaves_everything_but_convolutions_to_the_cpu() -> None:
    built = build(NETWORKS["residual"](), offload="reference")
    assert [fallback.layer for fallback in built.fallbacks] == ["conv0", "pool", "mean", "fc"]
    assert built.manifest["layers"]["vta"] == ["relu1", "relu2", "bn3", "relu3", "relu4"]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_bundles_for_a_board(name: str) -> None:
    """The same programs as for the simulated board, kernels for the board's processor."""
    there, here = build(NETWORKS[name](), "pynq"), build(NETWORKS[name]())
    assert there.manifest["cpu"]["machine"] == "armv7l"
    assert there.manifest["layers"] == here.manifest["layers"]
    assert there.manifest["counters"] == here.manifest["counters"]
    assert there.manifest["golden"] == here.manifest["golden"]


def test_a_batch_runs_as_its_samples_do() -> None:
    model = NETWORKS["residual"]()
    one, four = build(model), build(model.with_batch(4))
    x = synthetic_images(None, (1, 3, 16, 16), 4, seed=4)
    alone = [load(one.data).infer({"data": image[None]}).outputs["fc"] for image in x]
    np.testing.assert_array_equal(load(four.data).infer({"data": x}).outputs["fc"], np.concatenate(alone))


def test_wrong_constants_are_caught_by_the_self_test() -> None:
    data = build(NETWORKS["residual"]()).data
    bundle = read_bundle(data)
    members = dict(bundle.members)
    members["constants.bin"] = bytes(byte ^ 0x40 for byte in members["constants.bin"])
    manifest = {key: value for key, value in bundle.manifest.items() if key not in ("members", "schema")}
    with pytest.raises(VerificationError, match="SHA-256"):
        load(write_bundle(manifest, members)).self_test()


@pytest.mark.parametrize("board", ["pynq"])
def test_a_bundle_for_another_processor_is_built_and_refused_here(board: str) -> None:
    built = build(NETWORKS["residual"](), board)
    assert built.manifest["cpu"]["machine"] == "armv7l"
    with pytest.raises(IncompatibleError, match="armv7l"):
        load(built.data)


def test_values_behind_a_float_operator_are_not_compared_by_digest() -> None:
    mixed, residual = build(NETWORKS["mixed"]()), build(NETWORKS["residual"]())
    assert rounded_again(mixed.integer_model)
    assert not rounded_again(residual.integer_model)
    assert "gate.int8" not in exact_values(mixed.integer_model)
    assert set(mixed.manifest["golden"]["integers"]) < set(read_bundle(mixed.data).plan.observed)
    assert set(residual.manifest["golden"]["integers"]) == set(read_bundle(residual.data).plan.observed)
    assert not rounded_again(build(NETWORKS["dense"]()).integer_model)
    assert residual.manifest["golden"]["outputs"]["fc"]["atol"] == 1e-4


def test_an_integer_model_without_float_ends_runs_too() -> None:
    """Its int8 input goes to the accelerator, and its int8 output comes from there."""
    rng = np.random.default_rng(0)
    operator = IntegerConvolution(padding=(1, 1, 1, 1), shift=7)
    parameters = {
        "w": rng.integers(-9, 10, (20, 20, 3, 3), dtype=np.int8),
        "b": rng.integers(-99, 99, 20, dtype=np.int32),
    }
    nodes = (Node("y", operator, ("x", "w", "b")), Node("z", operator, ("y", "w", "b", "x")))
    model = Model("integers", {"x": TensorType((1, 20, 9, 7), "int8")}, nodes, parameters, ("y", "z"))
    loaded = load(build_integer(model).data)
    loaded.self_test()
    x = {"x": rng.integers(-127, 128, (1, 20, 9, 7), dtype=np.int8)}
    outputs = loaded.infer(x).outputs
    for name, expected in interpret(model, x).items():
        np.testing.assert_array_equal(outputs[name], expected)


def test_a_board_whose_programs_must_not_cross_layers_gets_one_each() -> None:
    board = replace(profile("sim"), features=frozenset())
    together, built = build(NETWORKS["residual"]()), build(NETWORKS["residual"](), board)
    (program,) = together.programs
    assert [layer.name for program in built.programs for layer in program.layers] == [
        layer.name for layer in program.layers
    ]
    assert {len(program.layers) for program in built.programs} == {1}
    assert built.manifest["features"] == []
    loaded = Runtime(open_accelerator(board.accelerator, board)).load(read_bundle(built.data))
    loaded.self_test()
    assert built.counters.gemm_counter == together.counters.gemm_counter


def test_a_network_of_dense_layers_alone() -> None:
    net = NetworkBuilder((1, 40))
    hidden = net.add("relu", Relu(), net.dense("fc0", "data", 40, 24))
    built = build(net.model(net.dense("fc1", hidden, 24, 10)))
    assert built.manifest["layers"]["vta"] == ["relu.int8", "fc1.int32"]
    load(built.data).self_test()


def test_a_single_pixel_calibrates_on_synthetic_data() -> None:
    net = NetworkBuilder((1, 16, 1, 1))
    load(build(net.model(net.convolution("conv", "data", (16, 16), 1))).data).self_test()


def test_a_program_behind_a_float_operator_is_tested_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """One unit in an output hides within a float tolerance; the program's own digests show it."""
    built = build(NETWORKS["mixed"]())
    assert built.manifest["golden"]["programs"]
    tested = {Path(member).stem for member in built.manifest["golden"]["programs"]}
    loaded = load(built.data)
    loaded.self_test()
    run = Simulator.run

    def one_unit_off(
        self: Simulator, program: LoadedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> RunStats:
        stats = run(self, program, inputs, outputs)
        for array in outputs.values() if program.program.name in tested else ():
            array[(0,) * array.ndim] ^= 1
        return stats

    monkeypatch.setattr(Simulator, "run", one_unit_off)
    with pytest.raises(VerificationError, match=r"program\d+\.vta has SHA-256"):
        loaded.self_test()


@pytest.mark.parametrize("name", ["residual", "dense"])
def test_what_programs_read_and_write_comes_from_the_interpreter(name: str) -> None:
    """As docs/program-format.md tells those who replay programs on a machine of their own."""
    built = build(NETWORKS[name]())
    (declared,) = built.integer_model.inputs.items()
    values = {declared[0]: np.random.default_rng(0).standard_normal(declared[1].shape).astype(np.float32)}
    interpret(built.integer_model, dict(values), values.__setitem__)
    for program in built.programs:
        tensors = {}
        for tensor in program.tensors:
            if tensor.role.value in ("input", "output"):
                value, operator = built.packings[tensor.name]
                tensors[tensor.name] = operator.evaluate(values[value])
                assert tensors[tensor.name].shape == tensor.shape
        outputs = {t.name: np.zeros(t.shape, np.int8) for t in program.tensors if t.role is Role.OUTPUT}
        inputs = {t.name: tensors[t.name] for t in program.tensors if t.role is Role.INPUT}
        Simulation(verify(program)).run(inputs, outputs)
        assert all(np.array_equal(outputs[name], tensors[name]) for name in outputs)


def test_programs_alone_are_right_where_channels_do_not_fill_blocks() -> None:
    """A residual of 24 channels behind a float operator: its last block is half empty, and the self-test fills it."""
    rng = np.random.default_rng(1)
    weights = {f"w{i}": (rng.standard_normal((24, 24, 3, 3)) / 15).astype(np.float32) for i in range(3)}
    same = Convolution(padding=(1, 1, 1, 1))
    nodes = (
        Node("a", same, ("x", "w0")),
        Node("l", Softmax(1), ("a",)),
        Node("b", same, ("l", "w1")),
        Node("s", Binary("add"), ("b", "l")),
        Node("m", Softmax(1), ("s",)),
        Node("c", same, ("m", "w2")),
    )
    built = build(Model("softmaxes", {"x": TensorType((1, 24, 8, 8))}, nodes, weights, ("c",)))
    assert built.manifest["golden"]["programs"]
    load(built.data).self_test()


def test_exact_networks_need_no_tests_of_programs_alone() -> None:
    assert build(NETWORKS["residual"]()).manifest["golden"]["programs"] == {}


def test_names_that_the_compiler_needs_are_refused() -> None:
    net = NetworkBuilder((1, 16, 8, 8))
    name = net.convolution("conv.packed", "data", (16, 16))
    with pytest.raises(CompileError, match=r"'conv\.packed'; names that end in \.packed"):
        build(net.model(name))
