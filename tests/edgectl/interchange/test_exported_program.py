"""Programs of torch.export in files, read without PyTorch: a recording of its own, and what is no sound program."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.frontends.torch import from_program_file
from edgectl.interchange.exported_program import read_exported_program
from edgectl.interpreter import interpret
from edgectl.loading import load
from tests.edgectl.interchange.torch_writer import save_archive

RECORDED = Path(__file__).parents[1] / "frontends" / "recorded"
PROGRAM = RECORDED / "torch_network.pt2"


def test_a_recorded_network_computes_what_pytorch_did() -> None:
    model, report = load(PROGRAM)
    assert report.kind == "checkpoint"
    with np.load(RECORDED / "torch_network-expected.npz") as recorded:
        found = interpret(model, {"x": recorded["x"]})[model.outputs[0]]
        np.testing.assert_allclose(found, recorded["y"], rtol=1e-4, atol=1e-5)


def test_names_shapes_and_calls() -> None:
    program = read_exported_program(PROGRAM)
    assert program.inputs == {"x": (None, 3, 32, 32)}
    assert program.tensors["layer2.0.downsample.1.running_var"].shape == (8,)
    first = program.calls[0]
    assert (first.target, first.operator, first.module) == ("aten.conv2d.default", "conv2d", "conv1")
    assert first.module_class == "torch.nn.modules.conv.Conv2d"
    assert first.arguments["stride"] == [2, 2] and program.stored[first.arguments["weight"].name] == "conv1.weight"


def rewritten(tmp_path: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """The recording with members changed; those changed to None left out."""
    path = tmp_path / "changed.pt2"
    with zipfile.ZipFile(PROGRAM) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            if (content := change(name, source.read(name))) is not None:
                target.writestr(name, content)
    return path


def document(tmp_path: Path, member: str, change: Callable[[Any], None]) -> Path:
    def edit(name: str, content: bytes) -> bytes:
        if not name.endswith(member):
            return content
        parsed = json.loads(content)
        change(parsed)
        return json.dumps(parsed).encode()

    return rewritten(tmp_path, edit)


class Harmful:
    """Leaves a trace where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickles_in_the_file_are_not_loaded(tmp_path: Path) -> None:
    """torch.export.load would run what these hold."""
    trace, pickled = tmp_path / "trace", pickle.dumps(Harmful(tmp_path / "trace"))
    sample = rewritten(tmp_path, lambda name, content: pickled if "sample_inputs" in name else content)
    assert load(sample)[0].outputs == ("fc",)

    def claim(table: Any) -> None:
        table["config"]["fc.bias"]["use_pickle"] = True

    path = document(tmp_path, "model_weights_config.json", claim)
    with pytest.raises(ModelError, match=r"'fc\.bias' is pickled, which could run code"):
        load(path)
    assert not trace.exists()


def test_expressions_in_the_file_are_not_evaluated(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    def poison(program: Any) -> None:
        values = program["graph_module"]["graph"]["tensor_values"]
        values["x"]["sizes"][0] = {"as_expr": {"expr_str": f"__import__('pathlib').Path({str(trace)!r}).touch()"}}

    assert load(document(tmp_path, "model.json", poison))[0].inputs["x"].shape == (1, 3, 32, 32)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["schema_version"].update(major=9), "its format has version 9."),
        (lambda d: d["graph_module"]["graph"].pop("nodes"), "is damaged or no exported program"),
        (lambda d: d["graph_module"]["graph"]["tensor_values"]["x"].update(dtype=5), "no tensor of floating point"),
        (
            lambda d: d["graph_module"]["graph"]["nodes"][1]["outputs"][0]["as_tensor"].update(name="conv2d"),
            "defines conv2d twice",
        ),
        (
            lambda d: d["graph_module"]["graph"]["nodes"][0].update(target="os.system"),
            "operator 'os.system' is not supported (layer conv1)",
        ),
    ],
)
def test_what_a_program_must_not_say(tmp_path: Path, change: Callable[[Any], None], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load(document(tmp_path, "model.json", change))
    assert words in str(caught.value)


def test_tensors_that_are_not_there(tmp_path: Path) -> None:
    def larger(table: Any) -> None:
        table["config"]["fc.weight"]["tensor_meta"]["sizes"][0]["as_int"] = 5000

    with pytest.raises(ModelError, match="reaches beyond its"):
        load(document(tmp_path, "model_weights_config.json", larger))
    with pytest.raises(ModelError, match="is damaged or no exported program"):
        load(rewritten(tmp_path, lambda name, content: None if name.endswith("weight_3") else content))


def test_other_files_of_pytorch_say_what_to_do(tmp_path: Path) -> None:
    save_archive(tmp_path / "state.pt2", {"fc.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(ModelError, match=r"torch.save wrote it.*give its factory: package.module:factory --weights"):
        load(tmp_path / "state.pt2")
    for member, words in (
        ("net/constants.pkl", "it is TorchScript"),
        ("serialized_exported_program.json", "2.7 or older"),
    ):
        with zipfile.ZipFile(tmp_path / "net.pt2", "w") as file:
            file.writestr(member, b"")
        with pytest.raises(ModelError, match=words):
            load(tmp_path / "net.pt2")
    with pytest.raises(ModelError, match="No such file"):
        load(tmp_path / "nowhere.pt2")
    for suffix in (".pt", ".pth", ".ckpt", ".safetensors"):
        with pytest.raises(ModelError, match=r"package\.module:factory --weights FILE"):
            load(tmp_path / f"net{suffix}")


@settings(max_examples=60)
@given(length=st.integers(0, PROGRAM.stat().st_size - 1))
def test_truncated_files(length: int) -> None:
    with pytest.raises(ModelError):
        read_exported_program(io.BytesIO(PROGRAM.read_bytes()[:length]), "net.pt2")


@settings(max_examples=80)
@given(offset=st.integers(0, PROGRAM.stat().st_size - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found_or_harmless(offset: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytearray(PROGRAM.read_bytes())
    content[offset] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / "flipped.pt2"
    path.write_bytes(content)
    try:
        model = from_program_file(path)
    except ModelError:
        return
    assert model.types()[model.outputs[0]].shape == (1, 5)
