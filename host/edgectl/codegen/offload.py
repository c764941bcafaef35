"""What may go to the accelerator."""

from __future__ import annotations

NOTHING = "none"
OFFLOADS = ("all", "reference", NOTHING)
"""Every layer that the accelerator can compute; dense convolutions but the first, as other toolchains did; or none."""
