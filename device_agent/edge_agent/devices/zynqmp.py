"""VTA in the FPGA of a Zynq UltraScale+ MPSoC: as on Zynq-7000, at the addresses and with the caches of its profile."""

from __future__ import annotations

from pathlib import Path

from edge_agent.boards import BoardProfile
from edge_agent.devices.base import Accelerator
from edge_agent.devices.zynq import open_zynq
from edge_agent.hardware.system import System


def open_device(profile: BoardProfile, directory: Path) -> Accelerator:
    return open_zynq("zynqmp", profile, System.here(), directory)
