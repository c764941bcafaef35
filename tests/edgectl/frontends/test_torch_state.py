"""Weights from files in modules: what fits under which names, and what is said of what does not."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgectl.errors import ModelError
from edgectl.frontends.torch_state import load_weights, matched, misfits, read_state
from tests.edgectl.interchange.torch_writer import save_archive

EXPECTED = {"conv1.weight": (2, 3), "bn1.num_batches_tracked": (), "fc.weight": (2, 2), "fc.bias": (2,)}


def arrays(*names: str) -> dict[str, np.ndarray]:
    return {name: np.zeros(EXPECTED.get(name.removeprefix("module."), (1,)), np.float32) for name in names}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
def test_a_shared_prefix_is_taken_off(prefix: str) -> None:
    tensors = {prefix + name: np.zeros(shape, np.float32) for name, shape in EXPECTED.items()}
    assert matched(tensors, EXPECTED).keys() == EXPECTED.keys()


def test_a_shared_prefix_is_put_on_or_changed() -> None:
    expected = {f"backbone.{name}": shape for name, shape in EXPECTED.items()}
    assert matched(arrays(*EXPECTED), expected).keys() == expected.keys()
    assert (
        matched({f"module.{name}": array for name, array in arrays(*EXPECTED).items()}, expected).keys()
        == expected.keys()
    )


def test_every_misfit_is_told_with_the_nearest_names() -> None:
    tensors = {**arrays("conv1.weight", "fc.bias"), "fc.weigth": np.zeros((2, 2)), "head.bias": np.zeros(3)}
    tensors["fc.bias"] = np.zeros(7)
    assert misfits(tensors, EXPECTED) == [
        "1 missing: 'fc.weight' (nearest: 'fc.weigth')",
        "2 unexpected: 'fc.weigth' (nearest: 'fc.weight'), 'head.bias'",
        "'fc.bias' has shape [7], the network needs [2]",
    ]
    assert misfits(arrays("conv1.weight", "fc.weight", "fc.bias"), EXPECTED) == []


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "trace",)

    (tmp_path / "state.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ModelError, match="not only tensors"):
        read_state(tmp_path / "state.pth")
    assert not (tmp_path / "trace").exists()


def test_files_that_are_no_state(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(ModelError, match=r"net\.safetensors"):
        read_state(tmp_path / "net.safetensors")
    save_archive(tmp_path / "net.pth", {"a": np.ones(2, np.float32)})
    content = (tmp_path / "net.pth").read_bytes()
    (tmp_path / "net.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="is damaged"):
        read_state(tmp_path / "net.pth")


@pytest.mark.torch
@pytest.mark.parametrize("nesting", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_training_scripts(tmp_path: Path, nesting: str | None, prefix: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
    source, target = (torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)) for _ in range(2))
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    torch.save(
        state if nesting is None else {"epoch": 3, nesting: state, "optimizer": {"state": {}}}, tmp_path / "net.pth"
    )
    load_weights(target, tmp_path / "net.pth", torch)
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )


@pytest.mark.torch
def test_safetensors(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
    numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed (extra `torch`)")
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    numpy.save_file(
        {name: tensor.numpy() for name, tensor in source.state_dict().items()}, tmp_path / "net.safetensors"
    )
    load_weights(target, tmp_path / "net.safetensors", torch)
    assert torch.equal(source.weight, target.weight)


@pytest.mark.torch
def test_a_file_of_another_network(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
    target = torch.nn.Linear(3, 2)
    before = target.weight.clone()
    save_archive(tmp_path / "net.pth", {"weight": np.ones((2, 4), np.float32), "bias_": np.ones(2, np.float32)})
    with pytest.raises(ModelError) as caught:
        load_weights(target, tmp_path / "net.pth", torch)
    for words in ("missing: 'bias' (nearest: 'bias_')", "unexpected: 'bias_'", "[2, 4], the network needs [2, 3]"):
        assert words in str(caught.value)
    assert torch.equal(target.weight, before)
