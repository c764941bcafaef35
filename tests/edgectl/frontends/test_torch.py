"""Whole networks of PyTorch: from modules, from programs and from files, with their own names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from edgectl.errors import ModelError
from edgectl.frontends.torch import from_module, from_program_file, is_torch
from edgectl.graph import Model
from edgectl.interpreter import interpret
from edgectl.loading import load

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
pytestmark = pytest.mark.torch

from tests.edgectl.frontends import torch_networks as networks  # noqa: E402

NETWORKS: dict[str, tuple[Callable[[], torch.nn.Module], Sequence[tuple[int, ...]]]] = {
    "resnet": (lambda: networks.ResNet(networks.Basic, (1, 1), 10, 16), [(3, 64, 64)]),
    "bottlenecks": (lambda: networks.ResNet(networks.Bottleneck, (1, 1), 10, 16), [(3, 64, 64)]),
    "pre-activation": (networks.PreActivation, [(3, 24, 20)]),
    "mobilenet": (networks.MobileNet, [(3, 32, 32)]),
    "mobilenet, hardswish": (lambda: networks.MobileNet("hardswish"), [(3, 32, 32)]),
    "mobilenet, silu": (lambda: networks.MobileNet("silu"), [(3, 32, 32)]),
    "densenet": (networks.DenseNet, [(3, 16, 16)]),
    "inception": (networks.Inception, [(3, 33, 35)]),
    "squeezenet": (lambda: networks.SqueezeNet(20), [(3, 64, 64)]),
    "shuffle": (networks.Shuffle, [(3, 32, 32)]),
    "two images and numbers": (networks.TwoInputs, [(3, 16, 16), (1, 8, 8), (4,)]),
}


def made(name: str) -> tuple[torch.nn.Module, dict[str, tuple[int, ...]]]:
    make, shapes = NETWORKS[name]
    network = networks.trained_alike(make(), *shapes)
    names = inspect.signature(network.forward).parameters
    return network, {argument: (1, *shape) for argument, shape in zip(names, shapes, strict=True)}


def check(model: Model, network: torch.nn.Module, samples: int = 3) -> None:
    """The same results on other inputs and another batch than were traced."""
    generator = torch.Generator().manual_seed(5)
    inputs = [torch.randn((samples, *kind.shape[1:]), generator=generator) for kind in model.inputs.values()]
    with torch.no_grad():
        expected = network(*inputs).numpy()
    given = {name: x.numpy() for name, x in zip(model.inputs, inputs, strict=True)}
    found = interpret(model, given)[model.outputs[0]]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_module_is_the_same_function(name: str) -> None:
    network, shapes = made(name)
    model, report = load(network, input_shapes=shapes)
    assert report.kind == "module" and list(model.inputs) == list(shapes)
    check(model, network)
    # Names are the state dict's; so are the values.
    state = network.state_dict()
    assert model.parameters.keys() <= state.keys()
    for key, array in model.parameters.items():
        np.testing.assert_array_equal(array, state[key].numpy())


@pytest.mark.slow
@pytest.mark.parametrize("make", [networks.resnet18, networks.resnet50])
def test_a_network_of_full_size(make: Callable[[], torch.nn.Module]) -> None:
    network = networks.trained_alike(make(), (3, 224, 224))
    check(load(network, input_shapes=(1, 3, 224, 224))[0], network, samples=1)


def test_layers_have_the_paths_of_their_modules() -> None:
    network, _ = made("resnet")
    model = from_module(network, (1, 3, 64, 64))
    assert [node.name for node in model.nodes][:10] == [
        "conv1", "bn1", "relu", "maxpool", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.relu", "layer1.0.conv2",
        "layer1.0.bn2", "layer1.0.add",
    ]  # fmt: skip
    again = {node.name: node for node in model.nodes}["layer1.0.relu_1"]
    assert again.source == again.label == "layer1.0.relu"
    assert model.outputs == ("fc",) and model.name == "ResNet"


def test_a_file_is_the_module(tmp_path: Path) -> None:
    network, _ = made("inception")
    program = torch.export.export(network, (torch.randn(1, 3, 33, 35),))
    torch.export.save(program, tmp_path / "net.pt2")
    model, report = load(tmp_path / "net.pt2")
    assert (report.kind, report.source, model.name) == ("checkpoint", str(tmp_path / "net.pt2"), "net")
    check(model, network)
    decomposed = program.run_decompositions()
    torch.export.save(decomposed, tmp_path / "core.pt2")
    check(from_program_file(tmp_path / "core.pt2"), network)


def test_what_a_program_leaves_open() -> None:
    network, _ = made("mobilenet")
    x, auto = torch.randn(2, 3, 32, 32), torch.export.Dim.AUTO
    batched = torch.export.export(network, (x,), dynamic_shapes=({0: auto},))
    assert from_module(batched).inputs["x"].shape == (1, 3, 32, 32)
    check(from_module(batched), network)
    sized = torch.export.export(network, (x,), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    with pytest.raises(ModelError, match=r"leaves the shape of input 'x' open, \[\?, 3, \?, \?\]; give it: --shape"):
        from_module(sized)
    model = from_module(sized, (1, 3, 48, 40))
    assert model.inputs["x"].shape == (1, 3, 48, 40)
    check(model, network)
    with pytest.raises(ModelError, match=r"given shape \[1, 3, 48, 40\], the model declares \[\?, 3, 32, 32\]"):
        from_module(batched, (1, 3, 48, 40))


def test_a_module_is_left_as_it_was() -> None:
    network, _ = made("mobilenet")
    network.train()
    network.features[0][1].eval()
    before = [part.training for part in network.modules()]
    state = {key: value.clone() for key, value in network.state_dict().items()}
    from_module(network, (1, 3, 32, 32))
    assert [part.training for part in network.modules()] == before
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


def test_shared_weights_and_half_precision() -> None:
    class Shared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 3, 1)
            self.second = torch.nn.Conv2d(3, 3, 1)
            self.second.weight = self.first.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(self.first(x)))

    network = Shared()
    check(from_module(network, (1, 3, 4, 4)), _flat(network))
    half = from_module(network.half(), (1, 3, 4, 4))
    assert {array.dtype.name for array in half.parameters.values()} == {"float32"}
    assert half.inputs["x"].dtype == "float32"


def _flat(network: torch.nn.Module) -> torch.nn.Module:
    return network.eval()


def test_all_that_is_not_supported_is_told_at_once() -> None:
    class Strange(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = torch.nn.ConvTranspose2d(3, 3, 2, 2)
            self.act = torch.nn.Softplus()
            self.norm = torch.nn.GroupNorm(1, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.norm(self.act(self.up(x)))) + torch.sin(self.up(x))

    with pytest.raises(ModelError) as caught:
        from_module(Strange(), (1, 3, 8, 8))
    message = str(caught.value)
    assert message.startswith("module 'Strange': 4 problems")
    assert "operator 'aten.conv_transpose2d.input' is not supported (layer up, up)" in message
    for line in ("'aten.softplus.default' is not supported (layer act)", "group_norm", "(layer sin)"):
        assert line in message


def test_what_cannot_be_traced() -> None:
    class Branching(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.sum() > 0 else x

    with pytest.raises(ModelError, match=r"module 'Branching' cannot be traced .* without branches on values"):
        from_module(Branching(), (1, 3, 8, 8))
    network, _ = made("resnet")
    with pytest.raises(ModelError, match=r"cannot be traced on inputs of shapes \(1, 4, 64, 64\)"):
        from_module(network, (1, 4, 64, 64))
    with pytest.raises(ModelError, match=r"does not know its inputs; give input_shapes"):
        from_module(network)
    with pytest.raises(ModelError, match="is TorchScript"):
        from_module(torch.jit.trace(network, torch.randn(1, 3, 64, 64)), (1, 3, 64, 64))
    with pytest.raises(ModelError, match=r"torch\.Tensor is no network"):
        from_module(torch.ones(3), (1, 3))


def test_what_is_of_torch() -> None:
    assert is_torch(torch.nn.Identity()) and is_torch(torch.ones(1))
    assert not is_torch("torch") and not is_torch(np.ones(1))
