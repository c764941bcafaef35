"""What kernels were counted to take is in the board's description: `pytest -m slow`, where qemu is installed."""

from __future__ import annotations

import pytest

from edgectl.processor import processor
from scripts import cortex_a9_cycles as script
from tests.edgectl.codegen.cpu import test_emulated as emulation

KERNELS = {
    "quantize+pack_patches float32",
    "join_planes+dequantize int8",
    "softmax float32",
    "integer_add int8",
    "integer_convolution int8",
}


def test_a_log_is_summed_over_the_kernels_runs() -> None:
    log = """IN: k000_add
0x00010000:  e5910000  ldr      r0, [r1]
0x00010004:  e2800001  add      r0, r0, #1
0x00010008:  1afffffc  bne      #0x10000

Trace 0: 0x7f00 [00000480/00010000/00000000/00000200] k000_add
Trace 0: 0x7f00 [00000480/00010000/00000000/00000200] k000_add
IN: main
0x00020000:  e12fff1e  bx       lr

Trace 0: 0x7f01 [00000480/00020000/00000000/00000200] main
"""
    counted = script.summed(log.splitlines())
    assert counted.instructions == {"core": 6} and counted.cycles == 12


def test_every_counted_kernel_is_described() -> None:
    known = processor(script.PROCESSOR)
    missing = [key for model in script.models() if known.cycles(*(key := script.unit_of(model))[:2]) is None]
    assert missing == []


@pytest.mark.slow
def test_kernels_take_no_more_cycles_than_predicted() -> None:
    if emulation.emulator("armv7") is None:
        pytest.skip("qemu-arm is not installed (Debian: qemu-user-static)")
    known = processor(script.PROCESSOR)
    checked = 0
    for model in script.models():
        kind, dtype, units = script.unit_of(model)
        if f"{kind} {dtype}" in KERNELS:
            predicted = known.cycles(kind, dtype)
            assert predicted is not None
            assert script.count(model).cycles / units <= 1.02 * predicted, (kind, dtype)
            checked += 1
    assert checked == 7
