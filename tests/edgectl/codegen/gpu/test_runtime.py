"""The driver's errors in words, and bundles for GPUs from the command line, with a stand-in for the GPU."""

from __future__ import annotations

import ctypes
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edge_agent.bundle import read_bundle
from edge_agent.errors import InputError
from edgectl.build_cache import BuildCache
from edgectl.bundle import write_bundle
from edgectl.cli import main
from edgectl.codegen.gpu import compiler, driver
from edgectl.codegen.gpu.driver import Gpu
from edgectl.codegen.gpu.runtime import CODE_MEMBER
from edgectl.errors import IncompatibleError
from edgectl.graph import Model, Node
from edgectl.local import LocalModel, build_local, check_target
from edgectl.operators.activation import Tanh
from edgectl.operators.base import TensorType
from tests.edgectl.codegen.gpu.support import gpu, stand_in  # noqa: F401

DEMO = "resnet20_cifar10"


SMALL = Model("small", {"data": TensorType((2, 3, 5, 7))}, (Node("y", Tanh(), ("data",)),), {}, ("y",))


@pytest.fixture
def bundle(gpu: ctypes.CDLL) -> bytes:  # noqa: F811
    return build_local(SMALL, target="cuda")


def never(*arguments: object) -> None:
    raise AssertionError("nothing is to be compiled")


def test_without_a_gpu_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-nobody.so.1")
    monkeypatch.setattr(compiler, "generate", never)
    with pytest.raises(IncompatibleError, match=r"no NVIDIA GPU.*driver is not installed.*--target llvm"):
        check_target("cuda")
    for verb in (["run", DEMO, "--local"], ["compile", DEMO, "-o", "unwritten.bundle"]):
        assert main([*verb, "--target", "cuda"]) == 4
        assert "no NVIDIA GPU" in capsys.readouterr().err
    assert not Path("unwritten.bundle").exists()


def test_a_driver_without_a_gpu(gpu: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("STAND_IN_NO_GPU", "1")
    with pytest.raises(IncompatibleError, match=r"cuInit: no CUDA-capable device is detected \(CUDA error 100\)"):
        Gpu.first()


def test_memory(gpu: ctypes.CDLL) -> None:  # noqa: F811
    opened = Gpu.first()
    assert (opened.name, opened.capability) == ("stand-in", (8, 0))
    with pytest.raises(IncompatibleError, match="cuMemAlloc_v2: out of memory"):
        opened.allocate(1 << 40)
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    address = opened.allocate(array.nbytes)
    opened.write(address, array.T)
    np.testing.assert_array_equal(opened.read(address, (4, 3), "int16"), array.T)
    opened.close()
    opened.close()
    assert gpu.stand_in_live() == 0


def test_bundles_that_do_not_fit(gpu: ctypes.CDLL, bundle: bytes) -> None:  # noqa: F811
    """What is loaded by then is given back."""
    opened = read_bundle(bundle)
    manifest = {key: value for key, value in opened.manifest.items() if key not in ("members", "schema")}
    code, members = opened.members[CODE_MEMBER], dict(opened.members)
    with pytest.raises(IncompatibleError, match="no kernel image is available"):
        LocalModel.open(write_bundle(manifest, {**members, CODE_MEMBER: b"x" * len(code)}))
    del members[CODE_MEMBER]
    with pytest.raises(IncompatibleError, match=f"the bundle lacks '{CODE_MEMBER}'"):
        LocalModel.open(write_bundle(manifest, members))
    with LocalModel.open(bundle) as local, pytest.raises(InputError, match="float32"):
        local.run({"data": np.zeros((2, 3, 5, 7), np.float64)})
    assert gpu.stand_in_live() == 0


def test_another_thread_may_run_and_close(gpu: ctypes.CDLL, bundle: bytes) -> None:  # noqa: F811
    """The driver knows a context by thread."""
    local, inputs = LocalModel.open(bundle), {"data": np.ones((2, 3, 5, 7), np.float32)}
    here = local.run(inputs)
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(local.run, inputs).result()
        pool.submit(local.close).result()
    for name, array in here.items():
        np.testing.assert_array_equal(there[name], array)
    assert gpu.stand_in_live() == 0


def test_the_command_line(gpu: ctypes.CDLL, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    """Compiled to a file, run from it, and run at once: the CPU's answers."""
    file, array = tmp_path / "gpu.bundle", tmp_path / "result.npy"
    assert main(["compile", DEMO, "--target", "cuda", "-o", str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["target"], document["cpu"], document["output"]) == ("cuda", "sm_80", str(file))
    answers = {}
    for name, what in {
        "file": [str(file)],
        "gpu": [DEMO, "--target", "cuda"],
        "cpu": [DEMO, "--target", "llvm"],
    }.items():
        assert main(["run", *what, "--local", "--json", "-o", str(array)]) == 0
        document = json.loads(capsys.readouterr().out)
        assert document["target"] == ("llvm" if name == "cpu" else "cuda") and document["top"][0]["label"] == "cat"
        answers[name] = np.load(array)
    np.testing.assert_array_equal(answers["file"], answers["gpu"])
    np.testing.assert_allclose(answers["gpu"], answers["cpu"], rtol=1e-4, atol=1e-4)


def test_the_cache_keeps_targets_apart(gpu: ctypes.CDLL, tmp_path: Path) -> None:  # noqa: F811
    cache = BuildCache(tmp_path)
    forms = {target: build_local(SMALL, cache=cache, target=target) for target in ("llvm", "cuda")}
    assert forms == {target: build_local(SMALL, cache=cache, target=target) for target in ("llvm", "cuda")}
    assert len(set(forms.values())) == 2
