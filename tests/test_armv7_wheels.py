"""What the agent needs is on PyPI as wheels for armv7: asks PyPI, so `pytest -m emulated`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomlkit
from scripts.project_wheel import TREE

pytestmark = [pytest.mark.slow, pytest.mark.emulated]

GLIBC = range(17, 36)
"""Minor versions of the C libraries that wheels may be for: a PYNQ 3 image (Ubuntu 22.04) has 2.35."""


def needed() -> list[str]:
    """The agent's requirements but NumPy, which PyPI has no armv7 wheel of and the distribution brings."""
    project = tomlkit.parse((TREE / "pyproject.toml").read_text()).unwrap()["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["announce"]]
    return [requirement for requirement in requirements if not requirement.startswith("numpy")]


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_the_agents_requirements_have_wheels(python: str, tmp_path: Path) -> None:
    """With what they need in turn. 3.10 is the Python of a PYNQ 3 image."""
    platforms = [f"--platform=manylinux_2_{minor}_armv7l" for minor in GLIBC]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", *platforms]
    options = [f"--python-version={python}", "--implementation=cp", "--dest", str(tmp_path)]
    result = subprocess.run([*command, *options, *needed()], capture_output=True, text=True, timeout=250, check=False)
    assert result.returncode == 0, result.stderr
    wheels = {path.name.split("-")[0]: path.name for path in tmp_path.iterdir()}
    assert all(name.endswith(".whl") for name in wheels.values())
    assert {"prometheus_client", "zeroconf"} <= set(wheels) and "armv7l" in wheels["zeroconf"]
