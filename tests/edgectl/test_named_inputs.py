"""Inputs by name, as people give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgectl.errors import UsageError
from edgectl.named_inputs import named_files, read_inputs


def test_the_only_input_needs_no_name(tmp_path: Path) -> None:
    odd = tmp_path / "a=b.npy"
    odd.touch()
    assert named_files(["cat.jpg"], ["data"]) == {"data": "cat.jpg"}
    assert named_files(["data=cat.jpg"], ["data"]) == {"data": "cat.jpg"}
    assert named_files([str(odd)], ["data"]) == {"data": str(odd)}, "a file whose name looks like a name and a file"


def test_several_inputs_in_any_order() -> None:
    assert named_files(["b=2.npy", "a=1.npy"], ["a", "b"]) == {"a": "1.npy", "b": "2.npy"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["1.npy"], "the model has inputs left, right; say which: --input NAME=1.npy"),
        (["lift=1.npy"], "no input 'lift'; did you mean left"),
        (["zzz=1.npy"], "its inputs are left, right"),
        (["left=1.npy", "left=2.npy"], "was given before as 1.npy"),
        (["left=1.npy"], "no --input for right; give --input right=FILE"),
        ([], "no --input for left, right"),
    ],
)
def test_what_is_wrong_is_named(given: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        named_files(given, ["left", "right"])


def test_tensors_are_read_and_checked(tmp_path: Path) -> None:
    manifest = {
        "inputs": [{"name": name, "shape": [2, 3], "dtype": "float32"} for name in ("a", "b")],
        "preprocessing": None,
    }
    first, second = np.ones((2, 3), np.float32), np.zeros((1, 3), np.float32)
    np.save(tmp_path / "a.npy", first)
    np.save(tmp_path / "b.npy", second)
    files = {name: str(tmp_path / f"{name}.npy") for name in ("a", "b")}
    found = read_inputs(manifest, files)
    np.testing.assert_array_equal(found["a"], first)
    np.testing.assert_array_equal(found["b"], np.zeros((2, 3))), "one sample serves the whole batch"
    np.save(tmp_path / "b.npy", np.zeros((1, 4), np.float32))
    with pytest.raises(UsageError, match=r"float32\[1, 4\], the model's input 'b' float32\[2, 3\]"):
        read_inputs(manifest, files)
    with pytest.raises(UsageError, match="says nothing of preprocessing"):
        read_inputs(manifest, {**files, "b": "cat.jpg"})
