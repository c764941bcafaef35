"""What the operating system of a board is: an agent tells it, so that what does not fit is seen before it fails."""

from __future__ import annotations

import platform
from pathlib import Path

from edge_agent.hardware.system import System

_NAME = "PRETTY_NAME="
_LENGTH = 100


def describe_image(system: System) -> dict[str, str]:
    """The distribution's name, the kernel's release, Python's version, and the FPGA manager: what its kernel calls it
    and the state it is in, "" where it has none."""
    manager = system.kernel_class("fpga_manager") / "fpga0"
    return {
        "name": _distribution(system.root / "etc" / "os-release") or _distribution(Path("/etc/os-release")),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "fpga_manager": _text(manager / "name"),
        "fpga_state": _text(manager / "state"),
    }


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()[:_LENGTH]
    except (OSError, ValueError):
        return ""


def _distribution(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    return next((line[len(_NAME) :].strip("\"'")[:_LENGTH] for line in lines if line.startswith(_NAME)), "")
