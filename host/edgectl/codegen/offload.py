"""What may go to the accelerator."""

from __future__ import annotations

OFFLOADS = ("all", "reference")
"""Every layer that the accelerator can compute, or dense convolutions but the first, as other toolchains did."""
