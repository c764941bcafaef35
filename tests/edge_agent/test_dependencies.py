"""The agent runs with NumPy and prometheus_client alone: in a bare environment it loads a bundle and infers."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgectl.bundle import write_bundle
from tests.edge_agent.runtime.models import expected_values, make_bundle, npy, sample_input

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = ("numpy", "prometheus_client")

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
import edge_agent
for module in pkgutil.walk_packages(edge_agent.__path__, "edge_agent."):
    importlib.import_module(module.name)
names = {name.split(".")[0] for name in sys.modules}
assert not names & {"tvm", "tvm_ffi", "mxnet", "edgectl", "torch", "ziglang", "cryptography"}, names
print("imported", len([name for name in sys.modules if name.startswith("edge_agent.")]))
"""

RUN_A_BUNDLE = """
import sys, numpy, importlib.util
from pathlib import Path
for name in ("tvm", "mxnet", "edgectl", "ziglang"):
    assert importlib.util.find_spec(name) is None, name
from edge_agent.boards import profile
from edge_agent.bundle import read_bundle
from edge_agent.devices.sim import Simulator
from edge_agent.runtime.executor import Runtime
model = Runtime(Simulator(profile("sim"))).load(read_bundle(Path(sys.argv[1])))
model.self_test()
numpy.save(sys.argv[2], model.infer({"data": numpy.load(sys.argv[3])}).outputs["result"])
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to import from: the agent, its data, and links to its only dependencies."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "edge_agent").symlink_to(ROOT / "device_agent" / "edge_agent")
    (folder / "edge_bitstreams").symlink_to(ROOT / "bitstreams" / "edge_bitstreams")
    for name in ALLOWED:
        spec = importlib.util.find_spec(name)
        assert spec is not None and spec.origin is not None
        package = Path(spec.origin).parent
        (folder / name).symlink_to(package)
        libraries = package.with_name(f"{name}.libs")  # a wheel's bundled shared libraries
        if libraries.exists():
            (folder / libraries.name).symlink_to(libraries)
    return folder


def run(bare: Path, program: str, *arguments: Path) -> str:
    """A program under an interpreter that sees only `bare` and the standard library."""
    command = [sys.executable, "-S", "-s", "-c", program, *map(os.fspath, arguments)]
    environment = {"PYTHONPATH": os.fspath(bare), "PATH": os.environ.get("PATH", "")}
    result = subprocess.run(
        command, cwd=bare, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_module_of_the_agent_imports(bare: Path) -> None:
    modules = len(list((ROOT / "device_agent" / "edge_agent").rglob("*.py")))
    assert int(run(bare, IMPORT_EVERYTHING).split()[1]) >= modules - 1


def test_a_bundle_runs_without_the_controller(bare: Path, tmp_path: Path) -> None:
    made = make_bundle()
    (tmp_path / "tiny.bundle").write_bytes(write_bundle(made.manifest, made.members))
    (tmp_path / "data.npy").write_bytes(npy(sample_input()))
    run(bare, RUN_A_BUNDLE, tmp_path / "tiny.bundle", tmp_path / "result.npy", tmp_path / "data.npy")
    assert (tmp_path / "result.npy").read_bytes() == npy(expected_values(sample_input())["result"])
