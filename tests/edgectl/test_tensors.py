"""Tensors in files, sound and damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgectl.errors import UsageError
from edgectl.tensors import is_tensor_file, read_tensor

TENSOR = np.arange(6, dtype=np.float32).reshape(1, 6)


def test_both_kinds_of_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", TENSOR)
    np.savez(tmp_path / "b.npz", x=TENSOR, y=np.zeros(3))
    for name in ("a.npy", "b.npz"):
        assert is_tensor_file(tmp_path / name)
        np.testing.assert_array_equal(read_tensor(tmp_path / name), TENSOR)
    assert not is_tensor_file("photo.jpg")


def test_what_is_no_tensor(tmp_path: Path) -> None:
    (tmp_path / "text.npy").write_text("0, 1, 2")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.savez(tmp_path / "other.npz", y=TENSOR)
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.save(tmp_path / "cut.npy", TENSOR)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-4])
    for name in ("text.npy", "empty.npz", "objects.npy", "cut.npy"):
        with pytest.raises(UsageError, match=r"no sound \.npy or \.npz file"):
            read_tensor(tmp_path / name)
    with pytest.raises(UsageError, match="has no array 'x'"):
        read_tensor(tmp_path / "other.npz")
    with pytest.raises(UsageError, match="No such file"):
        read_tensor(tmp_path / "none.npy")
