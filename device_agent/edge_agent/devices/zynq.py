"""VTA in the FPGA of a Zynq-7000: Xilinx HLS modules behind memory-mapped registers, programs in DMA memory.

How a run is started, how its end is seen, and what is done about one that does not end: docs/zynq.md.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from edge_agent.boards import BoardProfile
from edge_agent.devices.base import Accelerator, AcceleratorInfo, LoadedProgram, RunStats
from edge_agent.errors import DeadlineError, DegradedError, HardwareError, IncompatibleError, InputError
from edge_agent.hardware.core import Core
from edge_agent.hardware.dma import DmaBuffer, DmaMemory
from edge_agent.hardware.dma_kinds import open_dma_memory
from edge_agent.hardware.fabric import require_programmed, reset_of
from edge_agent.hardware.journal import Journal
from edge_agent.hardware.ordering import barrier
from edge_agent.hardware.placement import PlacedProgram, Span, place, write_program
from edge_agent.hardware.registers import RegisterMap
from edge_agent.hardware.run import Run, wait
from edge_agent.hardware.sentinel import find_sentinel, new_nonce
from edge_agent.hardware.system import System
from edge_agent.vta.memory_safety import check_memory_safety
from edge_agent.vta.program import Program, Role
from edge_agent.vta.timing import serial_cycles

logger = logging.getLogger(__name__)

_MARGIN = 10
"""A run is given so many times what it would take if nothing overlapped, or the board's patience if that is longer."""
_RESET_SECONDS = 0.5
_REPAIR = "program the FPGA again: `edgectl flash BOARD`"


class ZynqProgram(LoadedProgram):
    """A program in DMA memory; `sentinel` are the bytes of its buffer that tell of a run's end."""

    def __init__(self, placed: PlacedProgram, sentinel: Span, seconds: float) -> None:
        self.program = placed.program
        self.placed = placed
        self.sentinel = sentinel
        self.seconds = seconds
        self.arrays = {
            tensor.name: placed.array(index)
            for index, tensor in enumerate(self.program.tensors)
            if tensor.role in (Role.INPUT, Role.OUTPUT)
        }


class Zynq(Accelerator):
    """The accelerator behind `core`. The FPGA is not touched before it is needed: it may not be programmed yet."""

    def __init__(
        self,
        info: AcceleratorInfo,
        bus_bytes: int,
        core: Core,
        memory: DmaMemory,
        patience: float,
        require_programmed: Callable[[], None] = lambda: None,
        reset: Callable[[], None] | None = None,
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        """A run is given at least `patience` seconds. `require_programmed` raises where the registers must not be
        touched, `reset` puts the core back as programming left it, `closing` gives back what this driver was made of.
        """
        self._info = info
        self._bus_bytes = bus_bytes
        self._core = core
        self._memory = memory
        self._journal = None if memory.journal is None else Journal(memory.journal)
        self._patience = patience
        self._require_programmed = require_programmed
        self._reset_core = reset
        self._closing = closing
        self._loaded: set[ZynqProgram] = set()
        self._attached = False
        self._pending: Run | None = None
        self._retired: list[DmaBuffer] = []
        self._condition = ""

    def describe(self) -> AcceleratorInfo:
        return self._info

    def condition(self) -> str:
        return self._condition

    def load(self, program: Program) -> ZynqProgram:
        """Raises, beside what the contract says, HardwareError (memory) and DegradedError."""
        if program.config != self._info.config:
            raise IncompatibleError(
                f"program '{program.name}' is for configuration {program.config}, this accelerator "
                f"has {self._info.config}; compile the model for this board"
            )
        if not program.features <= self._info.features:
            missing = ", ".join(sorted(program.features - self._info.features))
            raise IncompatibleError(
                f"program '{program.name}' needs {missing}, which this board does not have; compile the model for this "
                "board"
            )
        check_memory_safety(program)
        sentinel = find_sentinel(program)
        self._require_usable()  # before memory is given out that a run of a killed agent may still write to
        placement = place(program)
        buffer = self._memory.allocate(placement.nbytes)
        try:
            placed = write_program(program, placement, buffer)
            self._memory.to_device(buffer, placed.start, placed.start + placement.inputs.begin)
        except BaseException:
            self._memory.free(buffer)
            raise
        base = placed.start + placement.tensors[sentinel.tensor].begin
        seconds = max(self._patience, _MARGIN * serial_cycles(program, self._bus_bytes) / self._info.clock_hz)
        watched = Span(base + sentinel.span.begin, base + sentinel.span.end)
        loaded = ZynqProgram(placed, watched, seconds)
        self._loaded.add(loaded)
        return loaded

    def run(
        self, loaded: LoadedProgram, inputs: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]
    ) -> RunStats:
        """Raises, beside what the contract says, InputError where an array is not the program's, or the program is not
        loaded here, and DegradedError."""
        if not isinstance(loaded, ZynqProgram) or loaded not in self._loaded:
            raise InputError(f"program '{loaded.program.name}' is not loaded on this accelerator; load it again")
        begin = time.perf_counter()
        loaded.program.check_arrays(Role.INPUT, inputs)
        loaded.program.check_arrays(Role.OUTPUT, outputs)
        self._require_usable()
        for name, array in inputs.items():
            np.copyto(loaded.arrays[name], array)
        buffer, start = loaded.placed.buffer, loaded.placed.start
        placement = loaded.placed.placement
        self._memory.to_device(buffer, start + placement.inputs.begin, start + placement.inputs.end)
        started = time.perf_counter()
        if not self._start(loaded).ends():
            raise DeadlineError(f"program '{loaded.program.name}' did not finish within {loaded.seconds:.3g} s")
        ended = time.perf_counter()
        self._settled()
        barrier()
        self._memory.to_cpu(buffer, start + placement.outputs.begin, start + placement.outputs.end)
        for name, array in outputs.items():
            np.copyto(array, loaded.arrays[name])
        seconds = time.perf_counter() - begin
        return RunStats(seconds, loaded.program.counters, {"accelerator_seconds": ended - started})

    def unload(self, loaded: LoadedProgram) -> None:
        """Memory that a run which has not ended may still write to is given back when it has."""
        if not isinstance(loaded, ZynqProgram) or loaded not in self._loaded:
            return
        self._loaded.discard(loaded)
        buffer = loaded.placed.buffer
        if self._pending is not None and self._pending.buffer is buffer:
            self._retired.append(buffer)
        else:
            self._memory.free(buffer)

    def reset(self) -> None:
        """Where nothing but programming clears what a run has left behind, the accelerator is degraded until then, or
        until the run ends after all."""
        if self._pending is None:
            return
        if self._pending.ends():
            self._settled()
        elif not self._condition:
            self._recover("a run did not finish")

    def reprogrammed(self) -> None:
        self._attached = False
        self._settled()

    def close(self) -> None:
        """Memory that the accelerator may still write to stays allocated."""
        for loaded in list(self._loaded):
            self.unload(loaded)
        self._loaded.clear()
        if self._pending is None:
            self._memory.close()
        self._closing()

    def _start(self, loaded: ZynqProgram) -> Run:
        placed, watched = loaded.placed, loaded.sentinel
        nonce = new_nonce(watched.end - watched.begin)
        placed.buffer.array[watched.begin : watched.end] = nonce
        self._memory.to_device(placed.buffer, watched.begin, watched.end)
        if self._journal is not None:
            self._journal.begin(placed.buffer.physical + watched.begin, nonce.tobytes())
        deadline = time.monotonic() + loaded.seconds
        self._pending = run = Run(self._core, self._memory, placed.buffer, watched, nonce, deadline)
        barrier()
        self._core.start(len(loaded.program.instructions), placed.instructions)
        return run

    def _settled(self) -> None:
        """Nothing is running, and nothing is left of what ran."""
        self._pending = None
        self._condition = ""
        while self._retired:
            self._memory.free(self._retired.pop())
        if self._journal is not None:
            self._journal.end()

    def _require_usable(self) -> None:
        """Raises DegradedError."""
        try:
            self._require_programmed()  # each time: it may be programmed at this moment, by somebody else
        except DegradedError as error:
            self._attached = False
            self._condition = str(error)
            raise
        if not self._attached:
            self._attach()
        if self._pending is not None:
            self.reset()
        if self._condition and self._core.is_as_programmed():
            self._settled()
        if self._condition:
            raise DegradedError(f"the accelerator cannot be used: {self._condition}; {_REPAIR}")

    def _attach(self) -> None:
        """Find out what whoever used the accelerator before has left behind."""
        self._condition = ""
        self._attached = True
        if self._core.is_as_programmed() or self._earlier_run_ends():
            self._settled()
        else:
            self._recover("a run that an earlier process has started does not finish")

    def _earlier_run_ends(self) -> bool:
        """Wait for a run of an earlier process, where it may not have ended yet."""
        entry = None if self._journal is None else self._journal.read()
        if entry is not None and not entry.running:
            return True
        buffer = None if entry is None else self._memory.at(entry.sentinel, len(entry.nonce))
        if entry is not None and buffer is not None:
            logger.warning("an agent was killed during a run; waiting for its end")
            nonce = np.frombuffer(entry.nonce, np.uint8)
            deadline = time.monotonic() + self._patience
            self._pending = Run(self._core, self._memory, buffer, Span(0, len(nonce)), nonce, deadline)
            return self._pending.ends()
        logger.warning("the accelerator has been used before, by whom is not known; waiting until it is done")
        return wait(lambda: not self._core.is_fetching() and self._core.says_done(), self._patience)

    def _recover(self, why: str) -> None:
        try:
            if self._reset_core is None:
                raise HardwareError("nothing but programming resets it")
            self._reset_core()
            if not wait(self._core.is_as_programmed, _RESET_SECONDS):
                raise HardwareError("the fabric's reset did not reach it")
        except HardwareError as error:
            self._condition = f"{why}; {error}"
            logger.error("the accelerator is degraded: %s", self._condition)
            return
        logger.warning("%s; the accelerator was reset", why)
        self._settled()


def open_zynq(
    kind: str, profile: BoardProfile, system: System, directory: Path, closing: Callable[[], None] = lambda: None
) -> Zynq:
    """The driver of a board's accelerator; `closing` is called when it is closed.

    Raises HardwareError, BusyError, IncompatibleError (a profile without hardware).
    """
    hardware = profile.hardware
    if hardware is None or {"fetch", "load", "compute", "store"} - set(hardware.registers):
        raise IncompatibleError(
            f"board profile '{profile.name}' does not say where the registers of fetch, load, compute and store are; "
            "add them to its hardware entry"
        )
    with ExitStack() as stack:
        registers = RegisterMap(system, hardware)
        stack.callback(registers.close)
        memory = open_dma_memory(system, profile.dma_limit_bytes, hardware.coherent, directory)
        logger.info("registers through %s, DMA memory from %s", registers.way, memory.kind)
        stack.callback(closing)
        opened = stack.pop_all()
    return Zynq(
        AcceleratorInfo(kind, profile.config, profile.features, profile.clock_hz),
        profile.bus_bytes,
        Core(registers.blocks),
        memory,
        hardware.patience_seconds,
        lambda: require_programmed(system, profile.name),
        reset_of(system, hardware),
        opened.close,
    )


def open_device(profile: BoardProfile, directory: Path) -> Accelerator:
    return open_zynq("zynq", profile, System.here(), directory)
