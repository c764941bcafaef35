"""Networks of PyTorch and ONNX all the way: quantized, compiled, run on the simulated board."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from edge_agent.vta.config import DEFAULT_CONFIG
from edgectl.building import build
from edgectl.interpreter import interpret
from edgectl.loading import load
from edgectl.quantization.quantizer import quantize
from edgectl.simulated_board import SimulatedBoard
from tests.edgectl.cli.conftest import Edgectl
from tests.edgectl.codegen.offload.running import check as check_on_accelerator

RECORDED = Path(__file__).parents[1] / "frontends" / "recorded"
PROGRAM = RECORDED / "torch_network.pt2"
REASONS = (".*",)
"""Which layers are on the CPU, and why, other tests say."""


def test_a_program_runs_on_the_accelerator_to_the_bit() -> None:
    model, _ = load(PROGRAM)
    with np.load(RECORDED / "torch_network-expected.npz") as recorded:
        x = recorded["x"]
    integer = quantize(model, x)
    parts = check_on_accelerator(integer, {"x": x[:1]}, DEFAULT_CONFIG, reasons=REASONS)
    on_vta = {name for step in parts.steps if hasattr(step, "layers") for layer in step.layers for name in layer.covers}
    assert {"layer1.0.relu", "layer2.0.bn2"} <= on_vta, "with the names that they have"
    expected, found = (interpret(m, {"x": x})[m.outputs[0]] for m in (model, integer))
    assert (expected.argmax(axis=1) == found.argmax(axis=1)).all()


def test_a_program_deployed_by_command(edgectl: Edgectl, session_board: SimulatedBoard) -> None:
    result = edgectl("deploy", PROGRAM, "--mean", "0.5", "--std", "0.25", "--json")
    assert result.code == 0, result.err
    assert result.document["model"] == "torch_network"
    assert result.document["weights"] == {"kind": "checkpoint", "source": str(PROGRAM), "banner": ""}
    assert len(result.document["top"]) == 5


def test_an_onnx_file_deployed_and_evaluated(
    edgectl: Edgectl,
    session_board: SimulatedBoard,
    tmp_path: Path,
) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
    from tests.edgectl.frontends.test_onnx import network

    onnx.save(network(), tmp_path / "net.onnx")
    deployed = edgectl("deploy", tmp_path / "net.onnx", "--json")
    assert deployed.code == 0, deployed.err
    assert "says nothing of preprocessing" in " ".join(deployed.document["notices"])
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", x=images)
    evaluated = edgectl("evaluate", tmp_path / "net.onnx", "--data", tmp_path / "data.npz", "--board", "sim", "--json")
    assert evaluated.code == 0, evaluated.err
    assert evaluated.document["forms"]["board"]["equal"]["value"] == 1
    assert evaluated.document["mean_cosine"] > 0.95


@pytest.mark.parametrize(
    ("model", "code", "message"),
    [
        ("nowhere.onnx", 1, "cannot read nowhere.onnx: No such file"),
        ("nowhere.pt2", 1, "cannot read nowhere.pt2: No such file"),
        ("net.pt", 1, "would run code where it is loaded"),
        ("state.safetensors", 1, "weights have no layers"),
    ],
)
def test_what_cannot_be_read(edgectl: Edgectl, model: str, code: int, message: str) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")
    result = edgectl("compile", model)
    assert (result.code, result.out) == (code, "") and message in result.err
    assert not list(Path.cwd().iterdir())


@pytest.mark.torch
class TestFactory:
    """package.module:factory, in the working folder."""

    SOURCE = """
        import torch
        from torch import nn

        def network():
            head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
            return nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.ReLU(), *head)

        def number():
            return 3

        def failing():
            raise RuntimeError("out of ideas")

        class Ready(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 5, 1)

            def forward(self, x):
                return self.conv(x).mean((2, 3))
    """

    @pytest.fixture(autouse=True)
    def module(self, plain_environment: None, request: pytest.FixtureRequest) -> str:
        pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
        name = f"made_{abs(hash(request.node.name))}"
        Path(f"{name}.py").write_text(textwrap.dedent(self.SOURCE))
        request.addfinalizer(lambda: sys.modules.pop(name, None))
        return name

    def test_deployed_with_its_state(self, module: str, edgectl: Edgectl, session_board: SimulatedBoard) -> None:
        import torch

        network = load(f"{module}:network", input_shapes=(1, 3, 32, 32), seed=1)[0]
        torch.save(
            {"state_dict": {f"module.{k}": torch.from_numpy(v.copy()) for k, v in network.parameters.items()}},
            "state.pth",
        )
        result = edgectl("deploy", f"{module}:network", "--weights", "state.pth", "--shape", "3,32,32", "--json")
        assert result.code == 0, result.err
        assert result.document["model"] == "network"
        assert (result.document["weights"]["kind"], result.document["weights"]["source"]) == ("file", "state.pth")
        assert edgectl("evaluate", f"{module}:network", "--data", "nowhere.npz", "--shape", "3,32,32").code == 2

    def test_its_weights_follow_the_seed(self, module: str) -> None:
        def weights(seed: int) -> np.ndarray:
            return load(f"{module}:network", input_shapes=(1, 3, 8, 8), seed=seed)[0].parameters["0.weight"]

        np.testing.assert_array_equal(weights(1), weights(1))
        assert not np.array_equal(weights(1), weights(2))
        model, report = load(f"{module}:Ready", input_shapes=(1, 3, 8, 8))
        assert (report.kind, report.source, model.name) == ("module", f"{module}:Ready", "Ready")
        assert load(f"{module}:Ready", "random", (1, 3, 8, 8))[1].kind == "random"

    @pytest.mark.parametrize(
        ("path", "options", "code", "message"),
        [
            ("{m}:networc", "", 2, "has no 'networc'; it has"),
            ("{m}x:network", "", 2, "there is no module '{m}x'"),
            ("{m}:network", "", 1, "--shape 3,224,224"),
            ("{m}:number", "--shape 3,8,8", 1, "gives a int; it must give a torch.nn.Module"),
            ("{m}:failing", "--shape 3,8,8", 1, "failed: RuntimeError: out of ideas"),
            ("{m}:network", "--shape 3,8,8 --weights nowhere.pth", 2, "--weights nowhere.pth: no such file"),
            ("{m}:network", "--shape 3,8,8 --weights pretrained", 2, "is for zoo names"),
            ("{m}:network", "--shape 4,8,8", 1, "cannot be traced on inputs of shapes (1, 4, 8, 8)"),
        ],
    )
    def test_what_is_wrong(
        self,
        module: str,
        edgectl: Edgectl,
        path: str,
        options: str,
        code: int,
        message: str,
    ) -> None:
        result = edgectl("compile", path.format(m=module), *options.split())
        assert result.code == code and message.format(m=module) in result.err, result.err

    def test_a_bundle_does_not_import_what_it_names(self, module: str, tmp_path: Path) -> None:
        from edgectl.evaluating import evaluate
        from edgectl.sources import Source, prepare

        source = Source(f"{module}:network", shape=(3, 16, 16))
        prepared = prepare(source)
        path = tmp_path / "net.bundle"
        path.write_bytes(build(prepared.model, "sim", origin=prepared.origin).data)
        Path(f"{module}.py").write_text("raise SystemExit('imported')")
        sys.modules.pop(module)
        np.savez(tmp_path / "data.npz", x=np.zeros((2, 16, 16, 3), np.uint8))
        report = evaluate(str(path), str(tmp_path / "data.npz"))
        assert any("not at hand" in notice for notice in report.notices)
