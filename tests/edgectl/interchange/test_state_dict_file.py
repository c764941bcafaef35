"""State dicts written without PyTorch are those that PyTorch writes."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.interchange.state_dict_file import ALIGNMENT, write_state_dict
from edgectl.interchange.torch_file import read_torch_tensors

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "conv.bias": np.array([1.5, -2], np.float64),
    "norm.num_batches_tracked": np.array(7, np.int64),
    "half": np.array([0.5, 2], np.float16),
    "naïve": np.zeros((0, 3), np.uint8),
    "transposed": np.arange(6, dtype=np.int32).reshape(2, 3).T,
}


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    with path.open("wb") as file:
        write_state_dict(file, arrays)
    return path


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = read_torch_tensors(write(tmp_path / "net.pth", ARRAYS))
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.torch
@pytest.mark.parametrize("mapped", [False, True])
def test_torch_loads_it_without_running_code(tmp_path: Path, mapped: bool) -> None:
    torch = pytest.importorskip("torch")
    path = str(write(tmp_path / "net.pth", ARRAYS))
    found = torch.load(path, weights_only=True, mmap=mapped)
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].shape == array.shape
        np.testing.assert_array_equal(found[name].numpy(), array)


def test_elements_lie_aligned(tmp_path: Path) -> None:
    path = write(tmp_path / "net.pth", ARRAYS)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = int.from_bytes(content[info.header_offset + 26 :][:2], "little")
            extra = int.from_bytes(content[info.header_offset + 28 :][:2], "little")
            assert (info.header_offset + 30 + name + extra) % ALIGNMENT == 0


def test_a_dtype_without_counterpart_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="array 'x' is complex128"):
        write(tmp_path / "net.pth", {"x": np.zeros(2, np.complex128)})


SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@settings(max_examples=50)
@given(st.dictionaries(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8), SHAPES, max_size=5))
def test_any_names_and_shapes(tmp_path_factory: pytest.TempPathFactory, shapes: dict[str, tuple[int, ...]]) -> None:
    arrays = {name: np.random.default_rng(0).standard_normal(shape) for name, shape in shapes.items()}
    found = read_torch_tensors(write(tmp_path_factory.mktemp("state") / "net.pth", arrays))
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())
