"""Where weights come from: files, stores, mirrors, seeds; and what happens where none can be had."""

from __future__ import annotations

import hashlib
import io
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgectl.download import Downloader
from edgectl.errors import EdgectlError, ModelError, UnreachableError, UsageError, VerificationError
from edgectl.frontends import zoo
from edgectl.frontends.parameter_names import STRUCTURAL_NAME
from edgectl.interchange.ndarray_file import write_arrays
from edgectl.interchange.symbol_file import parse_symbol
from edgectl.weights import WeightsStore, read_weights, resolve_weights
from tests.edgectl.file_server import FileServer, file_server
from tests.edgectl.interchange.torch_writer import save_archive

NAME = "squeezenet1.1"
ENTRY = zoo.find(NAME)
SYMBOL = parse_symbol(ENTRY.symbol_text(), NAME)
STRUCTURAL = {
    node.name: node.attributes[STRUCTURAL_NAME] for node in SYMBOL.nodes if STRUCTURAL_NAME in node.attributes
}
ARRAYS = {
    name: np.random.default_rng(index).standard_normal(array.shape, np.float32)
    for index, (name, array) in enumerate(zoo.blank_parameters(ENTRY.symbol_text()).items())
}


def params_file() -> bytes:
    """Weights as save_parameters names them, the form of Gluon's pretrained files."""
    file = io.BytesIO()
    write_arrays(file, {STRUCTURAL[name]: array for name, array in ARRAYS.items()})
    return file.getvalue()


PARAMS = params_file()
GLUON = replace(ENTRY, gluon_sha1=hashlib.sha1(PARAMS).hexdigest(), torchvision=None)
STEM = f"{NAME}-{GLUON.gluon_sha1[:8] if GLUON.gluon_sha1 else ''}"
ROUTE = f"/mirror/gluon/models/{STEM}.zip"


def zipped(content: bytes, member: str = f"{STEM}.params") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, content)
    return file.getvalue()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


def store_of(server: FileServer, folder: Path) -> WeightsStore:
    return WeightsStore(folder / "cache", f"{server.url}/mirror/", Downloader(pause=0.01, stall_timeout=2))


@pytest.fixture
def unreachable(tmp_path: Path) -> WeightsStore:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return WeightsStore(tmp_path / "cache", f"http://127.0.0.1:{port}", Downloader(pause=0.01))


def assert_is_arrays(parameters: dict[str, np.ndarray]) -> None:
    model = ENTRY.model(parameters)
    assert all(np.array_equal(model.parameters[name], array) for name, array in ARRAYS.items())


def test_gluons_weights_are_fetched_once_and_kept(server: FileServer, tmp_path: Path) -> None:
    server.routes[ROUTE] = zipped(PARAMS)
    for _ in range(2):
        parameters, source = store_of(server, tmp_path).fetch(GLUON)
        assert_is_arrays(parameters)
        assert source == f"{server.url}{ROUTE}"
    assert server.requests[ROUTE] == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{STEM}.params"]


def test_a_damaged_cached_file_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    server.routes[ROUTE] = zipped(PARAMS)
    store = store_of(server, tmp_path)
    store.fetch(GLUON)
    (tmp_path / "cache" / f"{STEM}.params").write_bytes(PARAMS[:-100])
    assert_is_arrays(store.fetch(GLUON)[0])
    assert server.requests[ROUTE] == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (zipped(PARAMS[:-1] + b"x"), "SHA-1"),
        (zipped(PARAMS, "other.params"), "not a ZIP archive with"),
        (zipped(PARAMS)[:-50], "not a ZIP archive with"),
        (b"<html>moved</html>", "not a ZIP archive with"),
    ],
)
def test_corrupt_downloads_are_refused_and_not_kept(
    content: bytes, message: str, server: FileServer, tmp_path: Path
) -> None:
    server.routes[ROUTE] = content
    with pytest.raises(VerificationError, match=message):
        store_of(server, tmp_path).fetch(GLUON)
    assert list((tmp_path / "cache").iterdir()) == []


def test_corrupt_weights_are_never_replaced_by_random_ones(server: FileServer, tmp_path: Path) -> None:
    content = b"<html>moved</html>"
    for path in (ENTRY.gluon_sha1 or "")[:8], "":
        server.routes[f"/mirror/gluon/models/{NAME}-{path}.zip"] = content
    with pytest.raises(VerificationError):
        resolve_weights(zoo.load(NAME), "auto", simulated=True, store=store_of(server, tmp_path))


def torch_file(path: Path) -> bytes:
    """The same weights as torchvision's file would hold them, in its order of layers."""
    translated = {"weight": "weight", "bias": "bias"}
    ordered = sorted(STRUCTURAL, key=lambda name: [(part.zfill(4)) for part in STRUCTURAL[name].split(".")])
    layers: dict[str, list[str]] = {}
    for name in ordered:
        layers.setdefault(STRUCTURAL[name].rpartition(".")[0], []).append(name)
    tensors = {}
    for index, names in enumerate(layers.values()):
        for name in sorted(names, reverse=True):
            tensors[f"layer{index}.{translated[name.rpartition('_')[2]]}"] = ARRAYS[name]
    save_archive(path, tensors)
    return path.read_bytes()


def test_torchvisions_weights_are_the_second_source(server: FileServer, tmp_path: Path) -> None:
    content = torch_file(tmp_path / "net.pth")
    entry = replace(GLUON, torchvision=f"squeezenet1_1-{hashlib.sha256(content).hexdigest()[:8]}.pth")
    server.routes[f"/mirror/models/{entry.torchvision}"] = content
    parameters, source = store_of(server, tmp_path).fetch(entry)
    assert_is_arrays(parameters)
    assert source.endswith(str(entry.torchvision))


def test_a_torch_file_with_another_digest_is_refused(server: FileServer, tmp_path: Path) -> None:
    entry = replace(GLUON, torchvision="squeezenet1_1-00000000.pth")
    server.routes["/mirror/models/squeezenet1_1-00000000.pth"] = torch_file(tmp_path / "net.pth")
    with pytest.raises(VerificationError, match="sha256"):
        store_of(server, tmp_path).fetch(entry)


def test_files_of_any_kind_are_taken(tmp_path: Path) -> None:
    (tmp_path / "net.params").write_bytes(PARAMS)
    np.savez(tmp_path / "net.npz", **ARRAYS)
    torch_file(tmp_path / "net.pth")
    for name in ("net.params", "net.npz", "net.pth"):
        model, report = resolve_weights(zoo.load(NAME), str(tmp_path / name), simulated=False)
        assert all(np.array_equal(model.parameters[key], array) for key, array in ARRAYS.items())
        assert (report.kind, report.source, report.banner) == ("file", str(tmp_path / name), "")


def test_files_of_another_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "net.params").write_bytes(PARAMS)
    with pytest.raises(ModelError, match=r"resnet18_v1.*needs parameter"):
        resolve_weights(zoo.load("resnet18_v1"), str(tmp_path / "net.params"), simulated=True)
    torch_file(tmp_path / "net.pth")
    with pytest.raises(ModelError, match="the weights have 26 layers, the network 41"):
        read_weights(str(tmp_path / "net.pth"), zoo.find("resnet18_v1"))
    with pytest.raises(ModelError, match="torchvision has no network with the layers of resnet18_v2"):
        read_weights(str(tmp_path / "net.pth"), zoo.find("resnet18_v2"))


def test_a_choice_that_is_neither_word_nor_file_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--weights pretraned: no such file, and not one of auto, pretrained, random"):
        resolve_weights(zoo.load(NAME), "pretraned", simulated=True)


def test_auto_on_a_simulated_board_falls_back_to_random_with_a_banner(unreachable: WeightsStore) -> None:
    model, report = resolve_weights(zoo.load(NAME), "auto", simulated=True, store=unreachable)
    assert report.kind == "random"
    assert "predictions are meaningless" in report.banner
    assert "cannot be reached" in report.banner
    assert all(array.any() for array in model.parameters.values())


@pytest.mark.parametrize(("choice", "simulated"), [("auto", False), ("pretrained", True), ("pretrained", False)])
def test_otherwise_the_error_says_how_to_supply_weights(
    choice: str, simulated: bool, unreachable: WeightsStore
) -> None:
    with pytest.raises(UnreachableError, match=r"cannot be reached.*--weights FILE.*EDGECTL_MIRROR"):
        resolve_weights(zoo.load(NAME), choice, simulated, store=unreachable)


def test_an_unusable_cache_is_an_error_not_random_weights(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    server.routes[f"/mirror/gluon/models/{NAME}-{(ENTRY.gluon_sha1 or '')[:8]}.zip"] = zipped(PARAMS)
    with pytest.raises(EdgectlError, match=r"cannot keep weights in .*set EDGECTL_CACHE"):
        resolve_weights(zoo.load(NAME), "auto", simulated=True, store=store_of(server, tmp_path))


def test_the_demo_model_needs_no_network(unreachable: WeightsStore) -> None:
    for choice in ("auto", "pretrained"):
        model, report = resolve_weights(zoo.load("resnet20_cifar10"), choice, simulated=False, store=unreachable)
        assert (report.kind, report.banner) == ("pretrained", "")
        assert model.parameters["resnet20cifar10_conv0_weight"].any()


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path))
    monkeypatch.setenv("EDGECTL_MIRROR", "http://mirror.example/")
    store = WeightsStore.from_environment()
    assert store.cache == tmp_path / "weights"
    assert store.mirror == "http://mirror.example/"
