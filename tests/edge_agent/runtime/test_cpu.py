"""What the processor is said to be able to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.runtime import cpu

X86 = "processor\t: 0\nmodel name\t: A\nflags\t\t: fpu avx2\n\nprocessor\t: 1\nflags\t\t: fpu avx2 sse\n"
ARM = "processor\t: 0\nFeatures\t: half thumb neon vfpv3\n\nHardware\t: Xilinx Zynq Platform\n"


@pytest.mark.parametrize(
    ("machine", "listing", "expected"),
    [
        ("x86_64", X86, {"fpu", "avx2", "sse"}),
        ("armv7l", ARM, {"half", "thumb", "neon", "vfpv3"}),
        # Emulated: what the processor outside can do says nothing about the one inside.
        ("armv7l", X86, set()),
        ("x86_64", ARM, set()),
    ],
)
def test_flags_are_those_of_this_machine(
    machine: str, listing: str, expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "this_machine", lambda: machine)
    (tmp_path / "cpuinfo").write_text(listing)
    assert cpu.processor_flags(tmp_path / "cpuinfo") == expected


def test_without_a_listing_nothing_is_known(tmp_path: Path) -> None:
    assert cpu.processor_flags(tmp_path / "none") == frozenset()
