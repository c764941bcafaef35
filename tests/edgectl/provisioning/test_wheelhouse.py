"""What goes to a board: the newest wheels that fit it, with all that they need, and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from edgectl.errors import EdgectlError, UnreachableError, UsageError
from edgectl.provisioning import wheelhouse as module
from edgectl.provisioning.agent_wheel import FILE_NAME
from edgectl.provisioning.platform import Platform
from edgectl.provisioning.wheelhouse import default_folder, fetch, wheelhouse
from tests.edgectl.provisioning.wheels import make_wheel

PYNQ = Platform("armv7l", (3, 10), (2, 35))
ARM = "cp310-cp310-manylinux_2_31_armv7l.whl"
INDEX = {
    "pip-26.0-py3-none-any.whl": [],
    "prometheus_client-0.26.0-py3-none-any.whl": [],
    f"zeroconf-0.152.1-{ARM}": ["ifaddr>=0.1.7", 'late>=1; python_version < "3.11"', "numpy", "never; extra == 'x'"],
    "ifaddr-0.2.0-py3-none-any.whl": [],
    "late-1.0-py3-none-any.whl": ['never; sys_platform == "win32"'],
}
"""What the package index of these tests has."""


@pytest.fixture(autouse=True)
def requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"": ["numpy<3,>=1.21.5", "prometheus-client<1,>=0.20"], "announce": ["zeroconf<0.153,>=0.147"]}
    monkeypatch.setattr(module, "requirements", lambda extra="": wanted[extra])
    monkeypatch.setattr(module, "agent_wheel", lambda: b"the agent")


def filled(folder: Path, *left_out: str) -> Path:
    for name, needs in INDEX.items():
        if not name.startswith(left_out or ("-",)):
            make_wheel(folder, name, needs)
    return folder


def test_a_folder_is_enough(tmp_path: Path) -> None:
    folder = filled(tmp_path / "wheels")
    make_wheel(folder, "prometheus_client-0.9.0-py3-none-any.whl")
    make_wheel(folder, "prometheus_client-1.5-py3-none-any.whl")
    make_wheel(folder, "prometheus_client-0.27-cp310-cp310-manylinux_2_17_aarch64.whl")
    (folder / "no wheel.whl").write_text("")
    found = wheelhouse(PYNQ, folder)
    assert sorted(found.wheels) == [
        FILE_NAME,
        "ifaddr-0.2.0-py3-none-any.whl",
        "late-1.0-py3-none-any.whl",
        "prometheus_client-0.26.0-py3-none-any.whl",
        f"zeroconf-0.152.1-{ARM}",
    ]
    assert found.installer[0] == "pip-26.0-py3-none-any.whl" and found.announces and not found.notices
    assert found.digest == wheelhouse(PYNQ, folder).digest


def test_the_digest_tells_contents_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = wheelhouse(PYNQ, filled(tmp_path)).digest
    monkeypatch.setattr(module, "agent_wheel", lambda: b"a newer agent")
    assert len(before) == 12 and wheelhouse(PYNQ, tmp_path).digest != before


def test_what_is_missing_is_named_with_what_gets_it(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no folder .*nowhere; prepare it: edgectl provision --fetch .* --for armv7l-3.10"
    ):
        wheelhouse(PYNQ, tmp_path / "nowhere")
    filled(tmp_path, "prometheus", "pip")
    with pytest.raises(
        UsageError, match=r"no wheel for armv7l-3.10 of pip<27,>=23, prometheus-client<1,>=0.20; fetch it"
    ):
        wheelhouse(PYNQ, tmp_path)


@pytest.mark.parametrize("lacking", ["zeroconf", "ifaddr"])
def test_an_agent_without_announcements_is_one_all_the_same(tmp_path: Path, lacking: str) -> None:
    found = wheelhouse(PYNQ, filled(tmp_path, lacking))
    assert sorted(found.needed) == ["prometheus_client-0.26.0-py3-none-any.whl"] and not found.announces
    assert f"has no wheel of {lacking}" in found.notices[0]


def test_a_damaged_wheel_is_named(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "prometheus_client-0.26.0-py3-none-any.whl").write_bytes(b"PK")
    with pytest.raises(EdgectlError, match=r"prometheus_client-0.26.0-py3-none-any.whl is damaged: .*; delete it"):
        wheelhouse(PYNQ, tmp_path)


class Index:
    """Answers as pip does. `lacks` are beginnings of files that it does not have."""

    def __init__(self, *lacks: str) -> None:
        self.lacks = lacks
        self.asked: list[list[str]] = []

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        names = command[command.index("--") + 1 :]
        self.asked.append(names)
        assert command[command.index("--python-version") + 1] == "3.10" and "manylinux_2_35_armv7l" in command
        for wanted in names:
            stem = module.Requirement(wanted).name.replace("-", "_")
            (file,) = (file for file in INDEX if file.startswith(f"{stem}-"))
            if file.startswith(self.lacks or ("-",)):
                error = f"WARNING: x\nERROR: No matching distribution found for {wanted}\n"
                return subprocess.CompletedProcess(command, 1, "", error)
            make_wheel(Path(command[command.index("--dest") + 1]), file, INDEX[file])
        return subprocess.CompletedProcess(command, 0, "", "")


def test_the_cache_is_filled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECTL_CACHE", str(tmp_path))
    index = Index()
    monkeypatch.setattr(subprocess, "run", index.run)
    found = wheelhouse(PYNQ)
    assert len(found.needed) == 4 and found.announces
    assert index.asked == [
        ["pip<27,>=23", "prometheus-client<1,>=0.20"],
        ["zeroconf<0.153,>=0.147"],
        ["ifaddr>=0.1.7", 'late>=1; python_version < "3.11"'],
    ]
    assert wheelhouse(PYNQ) == found and len(index.asked) == 3
    assert default_folder(PYNQ) == tmp_path / "wheelhouses" / "armv7l-3.10-2.35"


def test_without_an_index_it_says_how_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", Index("prometheus").run)
    with pytest.raises(UnreachableError, match=r"No matching distribution .*give --wheelhouse FOLDER here"):
        fetch(PYNQ, tmp_path)
    monkeypatch.setattr(subprocess, "run", Index("zeroconf").run)
    assert "will not be found by mDNS" in fetch(PYNQ, tmp_path)[0]
