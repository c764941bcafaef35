"""VTA's registers on Zynq: what starts a run, and what says that it has ended (vta-facts 7.1).

Four modules have a block each, with the control register that Xilinx HLS gives to every core.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.hardware.registers import Block

CONTROL = 0x00
START, DONE, IDLE, READY, AUTO_RESTART = 0x01, 0x02, 0x04, 0x08, 0x80
"""Bits of CONTROL; reading clears DONE."""
FETCH_COUNT, FETCH_ADDRESS = 0x10, 0x18
LOAD_INPUTS, LOAD_WEIGHTS = 0x10, 0x18
COMPUTE_DONE, COMPUTE_DONE_VALID = 0x18, 0x1C
COMPUTE_MICRO_OPS, COMPUTE_BIASES = 0x20, 0x28
STORE_OUTPUTS = 0x10

_BASES = (
    ("load", LOAD_INPUTS),
    ("load", LOAD_WEIGHTS),
    ("compute", COMPUTE_MICRO_OPS),
    ("compute", COMPUTE_BIASES),
    ("store", STORE_OUTPUTS),
)
EXECUTING = ("load", "compute", "store")


class Core:
    """The accelerator's registers."""

    def __init__(self, blocks: Mapping[str, Block]) -> None:
        self._blocks = blocks

    def start(self, count: int, address: int) -> None:
        """Have `count` instructions at a physical address executed. Nothing may be running."""
        self._blocks["fetch"].write(FETCH_COUNT, count)
        self._blocks["fetch"].write(FETCH_ADDRESS, address)
        for block, offset in _BASES:  # instructions hold absolute addresses
            self._blocks[block].write(offset, 0)
        self._blocks["fetch"].write(CONTROL, START)
        for block in EXECUTING:
            self._blocks[block].write(CONTROL, START | AUTO_RESTART)

    def says_done(self) -> bool:
        """Whether the last instruction that compute has executed was FINISH: of this run or of an earlier one."""
        return self._blocks["compute"].read(COMPUTE_DONE) == 1

    def is_fetching(self) -> bool:
        """Whether fetch still has instructions to hand out."""
        return bool(self._blocks["fetch"].read(CONTROL) & START)

    def is_as_programmed(self) -> bool:
        """Whether nothing has been started since the FPGA was programmed or reset."""
        restarting = any(self._blocks[block].read(CONTROL) & AUTO_RESTART for block in EXECUTING)
        return not restarting and not self.is_fetching()
