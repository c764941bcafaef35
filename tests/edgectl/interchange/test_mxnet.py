"""Checkpoints: every age of MXNet's files, names, and files that appear whole or not at all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from edgectl.errors import EdgectlError, ModelError
from edgectl.interchange.mxnet import CheckpointPaths, read_parameters, read_symbol_text, write_checkpoint

RECORDED = Path(__file__).parents[1] / "frontends" / "recorded"
SYMBOL = (RECORDED / "network-symbol.json").read_text()


@pytest.mark.parametrize("name", ["network-0000", "network-v1", "network-headerless", "network-v3"])
def test_every_age_of_the_format_holds_the_same(name: str) -> None:
    reference = read_parameters(RECORDED / "network-0000.params")
    arrays = read_parameters(RECORDED / f"{name}.params")
    assert {"conv0_weight", "bn_data_moving_var"} <= arrays.keys()
    assert arrays.keys() == reference.keys()
    for key, array in arrays.items():
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, reference[key])


def test_written_checkpoint_reads_again(tmp_path: Path) -> None:
    arrays = read_parameters(RECORDED / "network-0000.params")
    paths = write_checkpoint(tmp_path / "net", SYMBOL, arrays)
    assert paths.parameters.name == "net-0000.params"
    again = read_parameters(paths.parameters)
    assert all(np.array_equal(again[key], array) for key, array in arrays.items())
    assert read_symbol_text(paths.symbol) == SYMBOL
    assert len(paths.parameters.read_bytes()) == len((RECORDED / "network-0000.params").read_bytes())


def test_arrays_are_stored_as_argument_or_state_whatever_they_were_called(tmp_path: Path) -> None:
    bare = read_parameters(RECORDED / "network-0000.params")
    prefixed = {f"arg:{key}": array for key, array in bare.items()}
    contents = [
        write_checkpoint(tmp_path / name, SYMBOL, arrays).parameters.read_bytes()
        for name, arrays in (("bare", bare), ("prefixed", prefixed))
    ]
    assert contents[0] == contents[1]
    assert b"aux:bn0_moving_mean" in contents[0]
    assert b"arg:bn0_gamma" in contents[0]


def test_npz_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", **{"arg:w": np.ones(3, np.float32)})
    np.testing.assert_array_equal(read_parameters(tmp_path / "weights.npz")["w"], np.ones(3, np.float32))


def test_data_that_ends_like_an_archive_is_none(tmp_path: Path) -> None:
    imitation = np.frombuffer(b"PK\x05\x06" + bytes(16), np.uint8)
    paths = write_checkpoint(tmp_path / "net", SYMBOL, {"w": imitation})
    np.testing.assert_array_equal(read_parameters(paths.parameters)["w"], imitation)


def test_npz_with_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", w=np.array([{}], object))
    with pytest.raises(ModelError, match=r"weights\.npz"):
        read_parameters(tmp_path / "weights.npz")


def test_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    paths = write_checkpoint(tmp_path / "net", SYMBOL, {"w": np.ones(2, np.float32)})
    before = paths.parameters.read_bytes()
    with pytest.raises(ModelError, match="complex"):
        write_checkpoint(tmp_path / "net", SYMBOL, {"v": np.ones(2, np.float32), "w": np.ones(2, complex)})
    assert paths.parameters.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net-0000.params", "net-symbol.json"]


def test_unwritable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EdgectlError, match="cannot write"):
        write_checkpoint(tmp_path / "file" / "net", SYMBOL, {})


@pytest.mark.parametrize("path", ["models/net", "models/net-symbol.json", "models/net-0007.params"])
def test_paths_from_prefix_or_either_file(path: str) -> None:
    paths = CheckpointPaths.of(path, epoch=7)
    assert paths.symbol == Path("models/net-symbol.json")
    assert paths.parameters == Path("models/net-0007.params")
    assert paths.prefix == "models/net"


def test_missing_file_and_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        read_parameters(tmp_path / "none.params")
    (tmp_path / "page.params").write_text("<html><body>Not found, and some more text</body></html>")
    with pytest.raises(ModelError, match=r"page\.params is not an MXNet parameter file: it begins with b'<html><b'"):
        read_parameters(tmp_path / "page.params")


@pytest.mark.mxnet
@pytest.mark.skipif(importlib.util.find_spec("mxnet") is None, reason="MXNet is not installed (extra `mxnet`)")
def test_mxnet_loads_what_is_written(tmp_path: Path) -> None:
    from edgectl.frontends.mxnet import import_mxnet

    arrays = read_parameters(RECORDED / "network-v1.params")
    arrays["other"] = np.arange(6, dtype=np.int64).reshape(2, 3)
    write_checkpoint(tmp_path / "net", SYMBOL, arrays, epoch=3)
    _, arguments, states = import_mxnet().model.load_checkpoint(str(tmp_path / "net"), 3)
    loaded = {key: value.asnumpy() for key, value in {**arguments, **states}.items()}
    assert set(states) == {key for key in arrays if "moving" in key}
    assert all(np.array_equal(loaded[key], array) for key, array in arrays.items())
