"""The steps as data, and the files of deploy/ as systemd and udev judge them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge_agent.agent import parse_arguments
from edge_agent.boards import profile, profile_names
from edge_agent.fpga.helper import parse_arguments as parse_helper_arguments
from edgectl.provisioning import steps as module
from edgectl.provisioning.platform import Platform
from edgectl.provisioning.steps import OPTIONS_TEXT, Step, install_steps, leftover_steps, uninstall_steps
from edgectl.provisioning.wheelhouse import Wheelhouse

ROOT = Path(__file__).parents[3]
UNITS = sorted((ROOT / "deploy/systemd").glob("*.service"))
WORST = {"edge-agent.service": 2.0, "edge-fpga.service": 1.5}
"""The exposure that systemd-analyze may report, 10 being everything."""
WHEELS = Wheelhouse(
    b"agent", {"zeroconf-1-py3-none-any.whl": b""}, ("pip-1-py3-none-any.whl", b""), Platform("x", (3, 10))
)
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="apt-get install systemd")


def steps(kind: str, dma_module: bool = True) -> list[Step]:
    return install_steps(profile(kind), WHEELS, f"{kind}:token", dma_module)


def names(kind: str, dma_module: bool = True) -> list[str]:
    return [step.name for step in steps(kind, dma_module)]


def uploaded(kind: str, name: str) -> str:
    (step,) = (step for step in steps(kind) if step.name == name)
    (data,) = step.uploads.values()
    return data.decode()


def test_each_kind_of_board_gets_what_it_needs() -> None:
    always = ["user", "state folder", "key", "options", "packages", "board"]
    assert names("sim") == [*always, "unit edge-agent", "service"] == names("pynq-model")
    files = ["udev rules", "kernel module", "DMA memory", "unit edge-agent"]
    assert names("pynq-z2") == [*always, *files, "unit edge-fpga", "service"]
    assert names("pynq", dma_module=False) == [*always, files[0], files[3], "unit edge-fpga", "service"]
    assert {"edge-agent: incoherent", "edge-fpga: ports"} <= {*names("ultra96")} and names("zcu104") == names("ultra96")


def test_what_only_another_kind_of_board_has_is_a_leftover() -> None:
    for now in profile_names():
        leftovers = {step.name for step in leftover_steps(profile(now))}
        assert not leftovers & {*names(now)}, now
        for before in profile_names():
            assert {*names(before)} - {*names(now)} <= leftovers, (before, now)


@pytest.mark.parametrize("kind", [name for name in profile_names() if not profile(name).simulated])
def test_what_any_board_gets_is_removed(kind: str) -> None:
    written = re.compile(r"mv -f \S+ (\S+)$")
    paths = {found[1] for step in steps(kind) for line in step.apply if (found := written.search(line))}
    removed = " ".join(line for step in uninstall_steps(True) for line in step.undo)
    assert paths and all(path in removed or path.startswith("/etc/edge-agent/") for path in paths)
    assert all(place in removed for place in ("/opt/edge-agent", "/etc/edge-agent", "/var/lib/edge-agent", "userdel"))


def test_state_stays_unless_it_is_purged() -> None:
    assert not any("rm -rf /var/lib" in line for step in uninstall_steps(False) for line in step.undo)


@pytest.mark.parametrize("kind", ["sim", "pynq", "ultra96"])
def test_commands_are_posix_shell(kind: str) -> None:
    for step in (*steps(kind), *uninstall_steps(True), *uninstall_steps(False)):
        for command in (step.check, step.present, *step.apply, *step.undo):
            subprocess.run(["sh", "-n", "-c", command or "true"], check=True)


def _command(unit: str, board: str) -> list[str]:
    """The words that systemd starts a unit's command with."""
    (line,) = re.findall(r"^ExecStart=(.*)$", (ROOT / "deploy/systemd" / unit).read_text(), re.MULTILINE)
    values = dict(re.findall(r"^(\w+)=(.*)$", uploaded(board, "board") + OPTIONS_TEXT, re.MULTILINE))
    return re.sub(r"\$\{?(\w+)\}?", lambda found: values[found[1]], line).split()[1:]


@pytest.mark.parametrize("board", ["pynq-z2", "ultra96", "sim"])
def test_the_services_commands_are_ones_that_the_programs_take(board: str) -> None:
    options = parse_arguments(_command("edge-agent.service", board))
    assert options.board == board and options.host == "127.0.0.1" and options.http_host == "0.0.0.0"
    assert options.announce and str(options.state_dir) == module.STATE and str(options.key_file) == module.KEY
    assert (str(options.fpga_helper) == "/run/edge-fpga/socket") == (board != "sim")
    helper = parse_helper_arguments(_command("edge-fpga.service", board))
    assert (helper.board, str(helper.socket), helper.user) == (board, "/run/edge-fpga/socket", module.USER)


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    # Verified as it would be read: with its drop-ins, and with a command that this machine has.
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text(), flags=re.MULTILINE)
    (tmp_path / unit.name).write_text(text.replace("Wants=edge-fpga.service\n", ""))
    drop_ins = tmp_path / f"{unit.name}.d"
    drop_ins.mkdir()
    for path in unit.parent.glob(f"{unit.stem}.*.conf"):
        shutil.copy(path, drop_ins)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if unit.name in line or str(tmp_path) in line]
    assert done.returncode == 0 and not said, done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_systemd_finds_the_services_well_confined(unit: Path) -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert found is not None and float(found[1]) <= WORST[unit.name], done.stdout


def test_the_rules_are_ones_that_udev_reads() -> None:
    for line in (ROOT / "deploy/udev/60-edge-agent.rules").read_text().splitlines():
        parts = [] if line.startswith("#") else re.split(r', (?=[A-Z]+(?:==|!=|\+=|=)")', line)
        assert all(re.fullmatch(r'[A-Z]+(==|!=|\+=|=)"[^"]*"', part) for part in parts), line
