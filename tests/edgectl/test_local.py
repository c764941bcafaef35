"""Models on this machine's CPU: as the interpreter computes them, in floating point and in integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgectl
from edge_agent.errors import InputError, VerificationError
from edgectl.boards.board import Board
from edgectl.build_cache import BuildCache
from edgectl.errors import IncompatibleError, UsageError
from edgectl.frontends import zoo
from edgectl.graph import Model
from edgectl.images import DEFAULT_IMAGE, load_image
from edgectl.interpreter import interpret
from edgectl.local import LocalModel, build_local, build_source, check_target, compile_local
from edgectl.model_edits import up_to, with_softmax
from edgectl.operators.activation import Erf
from edgectl.operators.base import TensorType
from edgectl.operators.convolution import Convolution
from edgectl.operators.elementwise import Binary, Scalar
from edgectl.operators.local_response import LocalResponseNorm
from edgectl.operators.shape import Concatenate, Upsample
from edgectl.quantization.quantizer import quantize
from edgectl.random_weights import random_parameters
from edgectl.simulated_board import SimulatedBoard
from edgectl.sources import Source
from tests.edgectl.quantization.networks import NetworkBuilder

DEMO = "resnet20_cifar10"


@pytest.fixture(scope="module")
def demo() -> Model:
    return edgectl.load(DEMO)[0]


def seeded(model: Model, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: generator.normal(0, 1, t.shape).astype(np.float32) for name, t in model.inputs.items()}


def check(model: Model, inputs: dict[str, np.ndarray]) -> None:
    expected = interpret(model, inputs)
    with compile_local(model) as local:
        found = local.run(inputs)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(array).max())))


def test_a_network_in_floating_point(demo: Model) -> None:
    check(demo, seeded(demo))
    check(demo.with_batch(3), seeded(demo.with_batch(3)))


def test_in_integers_it_equals_the_interpreter_to_the_bit(demo: Model) -> None:
    assert demo.preprocessing is not None
    image = load_image(DEFAULT_IMAGE, demo.preprocessing)
    expected = interpret(quantize(demo), {"data": image})
    with compile_local(demo, int8=True) as local:
        found = local.run({"data": image})
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)


def test_a_photograph_gets_classes_with_or_without_a_softmax(demo: Model) -> None:
    assert demo.preprocessing is not None
    with compile_local(demo) as scores, compile_local(with_softmax(demo)) as probabilities:
        plain, soft = scores.classify(DEFAULT_IMAGE), probabilities.classify(DEFAULT_IMAGE)
        again = scores.classify(load_image(DEFAULT_IMAGE, demo.preprocessing), top=1)
    assert [score.label for score in plain] == [score.label for score in soft] and plain[0].label == "cat"
    assert plain[0].score == pytest.approx(soft[0].score, abs=1e-5) and again == plain[:1]
    with compile_local(two_inputs()) as two, pytest.raises(UsageError, match="give each its own"):
        two.classify(DEFAULT_IMAGE)


def two_inputs() -> Model:
    network = NetworkBuilder()
    left = network.convolution("left", "data0", (3, 8))
    right = network.convolution("right", "data1", (3, 8))
    total = network.add("total", Binary("add"), left, right)
    joined = network.add("joined", Concatenate(), left, total)
    model = network.model(joined)
    inputs = {name: TensorType((1, 3, 12, 12)) for name in ("data0", "data1")}
    return Model("two", inputs, model.nodes, model.parameters, ("joined", "total"))


def test_several_inputs_and_outputs() -> None:
    check(two_inputs(), seeded(two_inputs()))


def test_older_and_newer_layers_in_floating_point_and_in_integers() -> None:
    """Local response normalisation, exact GELU and upsampling between convolutions that are quantized."""
    network = NetworkBuilder()
    first = network.convolution("first", "data", (3, 16))
    normal = network.add("normal", LocalResponseNorm(5, 0.1, 0.75, 2.0), first)
    erf = network.add("erf", Erf(), network.add("scaled", Scalar("multiply", 0.5**0.5), normal))
    gelu = network.add("gelu", Binary("multiply"), normal, network.add("gate", Scalar("add", 1.0), erf))
    large = network.add("large", Upsample((2, 2)), gelu)
    model = network.model(network.convolution("second", large, (16, 16)))
    check(model, seeded(model))
    integer, inputs = quantize(model), seeded(model)
    expected, exact = interpret(integer, inputs), interpret(model, inputs)
    with compile_local(model, int8=True) as local:
        found = local.run(inputs)
    for name, array in expected.items():
        # Float layers between integer ones may fall on either side of a step.
        steps = np.abs(found[name] - array) / np.abs(array).max() * 127
        assert steps.max() < 2.5
        error = array - exact[name]
        assert np.square(exact[name]).mean() > 100 * np.square(error).mean()


def test_inner_layers(demo: Model) -> None:
    inner = [node for node in demo.nodes if isinstance(node.operator, Convolution)][4]
    cut = up_to(demo, inner.source)
    assert cut.outputs == (inner.name,) and len(cut.nodes) < len(demo.nodes)
    check(cut, seeded(demo))


def test_a_file_gives_the_same_again(demo: Model, tmp_path: Path) -> None:
    data = build_local(demo)
    assert build_local(demo) == data, "deterministic"
    (tmp_path / "demo.bundle").write_bytes(data)
    inputs = seeded(demo)
    with LocalModel.open(data) as first, LocalModel.open(tmp_path / "demo.bundle") as second:
        np.testing.assert_array_equal(*(local.run(inputs)[demo.outputs[0]] for local in (first, second)))
    with pytest.raises(VerificationError):
        LocalModel.open(data[:-100])
    with pytest.raises(UsageError, match="cannot read"):
        LocalModel.open(tmp_path / "none.bundle")


def test_bundles_of_boards_run_here_too_on_a_simulated_accelerator(demo: Model) -> None:
    bundle = edgectl.build(demo, "sim")
    inputs = seeded(demo)
    with LocalModel.open(bundle.data) as local:
        found = local.run(inputs)
    expected = interpret(bundle.integer_model, inputs)
    np.testing.assert_allclose(found[demo.outputs[0]], expected[demo.outputs[0]], rtol=1e-6)


def test_inputs_that_do_not_fit(demo: Model) -> None:
    with compile_local(demo) as local, pytest.raises(InputError):
        local.run({"data": np.zeros((1, 3, 8, 8), np.float32)})


def test_the_cache_keeps_forms_apart(tmp_path: Path) -> None:
    cache, source = BuildCache(tmp_path), Source(DEMO)
    forms: list[dict[str, object]] = [{}, {"softmax": True}, {"int8": True}, {"layer": "resnet20cifar10_conv0_fwd"}]
    made = [build_source(source, **form, cache=cache)[0] for form in forms]  # type: ignore[arg-type]
    again = [build_source(source, **form, cache=cache)[0] for form in forms]  # type: ignore[arg-type]
    assert made == again and len(set(made)) == len(forms) == len(list(tmp_path.iterdir()))


def test_what_is_for_a_host_is_for_no_board(demo: Model, session_board: SimulatedBoard) -> None:
    edgectl.deploy(DEMO)
    with Board() as board, pytest.raises(IncompatibleError, match="compiled for the CPU of a host"):
        board.upload(build_local(demo))


@pytest.mark.parametrize(
    ("name", "words"),
    [("lvm", "did you mean llvm"), ("cdua", "did you mean cuda"), ("pynq", "is a kind of board"), ("x", "llvm")],
)
def test_what_is_no_target(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_target(name)
    with pytest.raises(UsageError, match=words):
        compile_local(two_inputs(), target=name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2_0.25", "squeezenet1.1", "resnet18_v2", "densenet121", "inceptionv3"])
def test_networks_of_the_zoo(name: str) -> None:
    model = zoo.load(name)
    parameters = random_parameters(model, seed=0)
    check(Model(name, model.inputs, model.nodes, parameters, model.outputs), seeded(model))
