"""The agent's wheel: it installs, runs, and is the same each time."""

from __future__ import annotations

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import edge_agent
from edgectl.provisioning.agent_wheel import FILE_NAME, agent_wheel, requirements


def test_it_holds_the_agent_and_nothing_of_the_controller() -> None:
    data = agent_wheel()
    assert data == agent_wheel()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
        assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"edge_agent", "edge_bitstreams"}
        source = Path(str(edge_agent.__file__)).parent
        expected = {
            f"edge_agent/{path.relative_to(source)}"
            for path in source.rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        }
        assert {name for name in names if name.startswith("edge_agent/")} == expected
        assert "edge_bitstreams/profiles/pynq.json" in names
    assert len(data) < 1 << 20


def test_it_installs_and_runs(tmp_path: Path) -> None:
    wheel = tmp_path / FILE_NAME
    wheel.write_bytes(agent_wheel())
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target"]
    subprocess.run([*pip, str(tmp_path / "there"), str(wheel)], check=True)
    script = "import sys; sys.path.insert(0, sys.argv[1]); import edge_agent.agent as agent; print(agent.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "there")], check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(tmp_path / "there"))
    commands = sorted(path.name for path in (tmp_path / "there" / "bin").iterdir())
    assert commands == ["edge-agent", "edge-fpga"]


def test_its_requirements_are_the_base_ones() -> None:
    assert sorted(entry.split("<")[0].split(">")[0] for entry in requirements()) == ["numpy", "prometheus-client"]
