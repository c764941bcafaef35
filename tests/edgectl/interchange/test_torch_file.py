"""PyTorch's files: both formats, and nothing but tensors."""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError
from edgectl.interchange.torch_file import read_torch_tensors
from tests.edgectl.interchange.torch_writer import save_archive, save_sequence

ARRAYS = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "conv.bias": np.array([1.5, -2], np.float64),
    "norm.num_batches_tracked": np.array(7, np.int64),
    "half": np.array([0.5, 2], np.float16),
}


@pytest.mark.parametrize("save", [save_archive, save_sequence])
def test_both_formats_are_read(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "net.pth", ARRAYS)
    tensors = read_torch_tensors(tmp_path / "net.pth")
    assert list(tensors) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)


@pytest.mark.parametrize("save", [save_archive, save_sequence])
def test_state_dict_inside_a_checkpoint_is_found(save: Any, tmp_path: Path) -> None:
    save(tmp_path / "net.pth", ARRAYS, wrap=lambda tensors: {"epoch": 3, "state_dict": tensors})
    assert read_torch_tensors(tmp_path / "net.pth").keys() == ARRAYS.keys()


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("archive", [True, False])
def test_code_in_a_file_does_not_run(archive: bool, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    payload = pickle.dumps(Malicious(marker), protocol=2)
    if archive:
        with zipfile.ZipFile(tmp_path / "net.pth", "w") as file:
            file.writestr("net/data.pkl", payload)
    else:
        (tmp_path / "net.pth").write_bytes(payload)
    with pytest.raises(ModelError, match=r"mkdir, not only tensors.*state_dict"):
        read_torch_tensors(tmp_path / "net.pth")
    assert not marker.exists()


def test_whole_modules_are_refused_by_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02ctorchvision.models.resnet\nResNet\n.")
    with pytest.raises(ModelError, match=r"torchvision\.models\.resnet\.ResNet"):
        read_torch_tensors(tmp_path / "net.pth")


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path) -> None:
    save_archive(tmp_path / "net.pth", {"w": np.zeros(4, np.float32)}, shape=(1000,))
    with pytest.raises(ModelError, match="reaches beyond its 4 stored elements"):
        read_torch_tensors(tmp_path / "net.pth")


def test_missing_and_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_torch_tensors(tmp_path / "none.pth")
    (tmp_path / "list.pth").write_bytes(pickle.dumps([1]))
    with pytest.raises(ModelError, match="no PyTorch file"):
        read_torch_tensors(tmp_path / "list.pth")


@settings(max_examples=200)
@given(st.data())
def test_damage_is_an_error_or_other_values_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("torch")
    save = data.draw(st.sampled_from([save_archive, save_sequence]))
    path = folder / "net.pth"
    save(path, ARRAYS)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(bytes(content))
    try:
        read_torch_tensors(path)
    except ModelError as error:
        assert "net.pth" in str(error)
