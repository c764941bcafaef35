"""The wheel holds all that the packages need at run time, and declares what it needs."""

from __future__ import annotations

import email
import os
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from scripts.project_wheel import PACKAGES, build_wheel

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel")))


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(member(wheel, "METADATA"))


def member(wheel: zipfile.ZipFile, name: str) -> bytes:
    """A file of the wheel's .dist-info folder."""
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path)


def source_files() -> dict[str, Path]:
    """Every file of the packages by its path in the wheel."""
    files = {}
    for package, folder in PACKAGES.items():
        # Through the link to deploy/, too, which rglob does not follow.
        for parent, _, names in os.walk(ROOT / folder / package, followlinks=True):
            for path in (Path(parent, name) for name in names if "__pycache__" not in Path(parent).parts):
                files[path.relative_to(ROOT / folder).as_posix()] = path
    return files


def test_every_file_of_the_packages_ships(wheel: zipfile.ZipFile) -> None:
    expected = source_files()
    shipped = {path for path in wheel.namelist() if ".dist-info/" not in path}
    assert shipped == set(expected)
    assert [path for path in shipped if wheel.read(path) != expected[path].read_bytes()] == []


def test_the_kinds_of_data_are_among_them(wheel: zipfile.ZipFile) -> None:
    """Guards the comparison above against a tree that lacks them too."""
    names = set(wheel.namelist())
    assert {
        "edgectl/data/images/cat.jpg",
        "edgectl/data/labels/imagenet1k.txt",
        "edgectl/data/models/resnet20_cifar10-0000.params",
        "edgectl/data/models/resnet20_cifar10-symbol.json",
        "edgectl/data/zoo/index.json",
        "edgectl/data/zoo/resnet18_v1-symbol.json.gz",
        "edgectl/codegen/cpu/shim.c",
        "edgectl/codegen/cpu/threads.c",
        "edgectl/data/deploy/systemd/edge-agent.service",
        "edgectl/data/deploy/systemd/edge-fpga.service",
        "edgectl/data/deploy/udev/60-edge-agent.rules",
        "edgectl/data/deploy/modules/modprobe.conf",
        "edge_agent/http/index.html",
        "edge_bitstreams/profiles/pynq.json",
    } <= names
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_the_agent_needs_numpy_and_the_metrics_library_alone(metadata: Message) -> None:
    base = [entry for entry in metadata.get_all("Requires-Dist", []) if "extra ==" not in entry]
    assert sorted(entry.split("<")[0].split(">")[0] for entry in base) == ["numpy", "prometheus-client"]
    assert metadata["Requires-Python"] == ">=3.10"


def test_extras_and_licenses_are_declared(metadata: Message) -> None:
    assert set(metadata.get_all("Provides-Extra", [])) == {"announce", "host", "mxnet", "onnx", "test", "torch"}
    assert metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("License-File", [])) == {"LICENSE", "NOTICE"}


def test_both_commands_are_installed(wheel: zipfile.ZipFile) -> None:
    commands = member(wheel, "entry_points.txt").decode().split("\n")
    assert "edgectl = edgectl.cli:main" in commands
    assert "edge-agent = edge_agent.agent:main" in commands
    assert "edge-fpga = edge_agent.fpga.helper:main" in commands
