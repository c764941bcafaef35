"""Who may import whom, read from the sources (design: the agent never imports the controller, TVM or MXNet)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"edgectl": ROOT / "host" / "edgectl", "edge_agent": ROOT / "device_agent" / "edge_agent"}

LAYERS = ("vta", "hardware", "register_model", "devices", "self_test", "fpga", "runtime", "rpc", "http")
"""The agent's folders from the bottom up; rpc and http stand side by side."""
BELOW = {
    "vta": set(),
    "hardware": {"vta"},
    "register_model": {"vta", "hardware"},
    "devices": {"vta", "hardware", "register_model"},
    "self_test": {"vta", "devices"},
    "fpga": {"vta", "hardware", "devices", "self_test"},
    "runtime": {"vta", "devices"},
    "rpc": {"vta", "devices", "fpga", "runtime"},
    "http": {"vta", "devices", "runtime"},
}


def imports(path: Path, package: str) -> Iterator[str]:
    """Every module that a source file imports, anywhere in it, by its absolute name."""
    location = (package, *path.relative_to(PACKAGES[package]).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(location[: len(location) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def sources(package: str) -> list[Path]:
    found = sorted(PACKAGES[package].rglob("*.py"))
    assert found, f"no sources in {PACKAGES[package]}"
    return found


def roots(path: Path, package: str) -> set[str]:
    return {name.split(".")[0] for name in imports(path, package)}


@pytest.mark.parametrize("path", sources("edge_agent"), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_agent_imports_neither_the_controller_nor_compilers(path: Path) -> None:
    assert not roots(path, "edge_agent") & {"edgectl", "tvm", "tvm_ffi", "mxnet", "torch", "ziglang"}


@pytest.mark.parametrize("layer", LAYERS)
def test_the_agents_layers_import_only_what_is_below_them(layer: str) -> None:
    for path in (PACKAGES["edge_agent"] / layer).rglob("*.py"):
        used = {name.split(".")[1] for name in imports(path, "edge_agent") if name.startswith("edge_agent.")}
        above = (used & {*LAYERS, "agent"}) - BELOW[layer] - {layer}
        assert not above, f"{path.relative_to(ROOT)} imports {sorted(above)}"


def test_only_cpu_and_gpu_code_generation_imports_tvm() -> None:
    users = {path for path in sources("edgectl") if roots(path, "edgectl") & {"tvm", "tvm_ffi"}}
    assert {path.relative_to(PACKAGES["edgectl"]).parts[:2] for path in users} == {
        ("codegen", "cpu"),
        ("codegen", "gpu"),
    }


def test_running_on_a_gpu_needs_no_tvm() -> None:
    for name in ("driver.py", "runtime.py"):
        path = PACKAGES["edgectl"] / "codegen" / "gpu" / name
        assert not any(part.startswith(("tvm", "edgectl.codegen.cpu")) for part in imports(path, "edgectl"))


@pytest.mark.parametrize("package", PACKAGES)
def test_mxnet_and_torch_are_imported_only_where_they_are_used(package: str) -> None:
    """Optional packages are never imported at a module's top, so that everything works without them."""
    for path in sources(package):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        top = {alias.name.split(".")[0] for node in body if isinstance(node, ast.Import) for alias in node.names}
        absolute = [node for node in body if isinstance(node, ast.ImportFrom) and not node.level]
        top |= {(node.module or "").split(".")[0] for node in absolute}
        assert not top & {"mxnet", "torch", "onnx", "safetensors"}, path.relative_to(ROOT)
