"""Who programs the FPGA: this process, or the privileged helper on its behalf."""

from __future__ import annotations

import hashlib
import os
from typing import BinaryIO, Protocol

from edge_agent.boards import BoardProfile, Fpga
from edge_agent.errors import IncompatibleError, VerificationError
from edge_agent.fpga.bitstream import MAXIMUM_BYTES, checked_image
from edge_agent.fpga.manager import FpgaManager
from edge_agent.fpga.ports import set_port_widths
from edge_agent.hardware.system import System


class Programmer(Protocol):
    """Programs a board's FPGA."""

    def program(self, file: BinaryIO, sha256: str) -> float:
        """Program the bitstream in an open file with this SHA-256; returns the seconds that the kernel took.

        Raises VerificationError (another digest, damaged), IncompatibleError (another device) before anything is
        touched; HardwareError, AgentError.
        """


class DirectProgrammer:
    """Programs through the kernel's files, which this process must be allowed to write."""

    def __init__(self, system: System, board: BoardProfile) -> None:
        """Raises IncompatibleError where the board has no FPGA."""
        self._system = system
        self._board = board
        self._fpga = fpga_of(board)
        self._manager = FpgaManager(system, self._fpga)

    def program(self, file: BinaryIO, sha256: str) -> float:
        data = read_verified(file, sha256)
        image = checked_image(data, self._fpga, self._board.name)
        seconds = self._manager.program(image.for_kernel(self._fpga))
        set_port_widths(self._system, self._fpga.port_widths)
        return seconds


def fpga_of(board: BoardProfile) -> Fpga:
    """Raises IncompatibleError where nothing has to be programmed."""
    if board.fpga is None:
        raise IncompatibleError(
            f"board '{board.name}' ({board.description}) has no FPGA to program; to try it without a board: "
            "`edgectl flash pynq-model --bitstream FILE.bit`"
        )
    return board.fpga


def read_verified(file: BinaryIO, sha256: str) -> bytes:
    """A bitstream file's bytes. Raises VerificationError where their SHA-256 is another, or there are too many."""
    nbytes = os.fstat(file.fileno()).st_size
    if nbytes > MAXIMUM_BYTES:
        raise VerificationError(f"a bitstream of {nbytes} bytes cannot be; at most {MAXIMUM_BYTES} are accepted")
    file.seek(0)
    data = file.read(MAXIMUM_BYTES)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise VerificationError(f"the bitstream has SHA-256 {found}, {sha256} was announced; send it again")
    return data
