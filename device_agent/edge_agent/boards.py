"""Board profiles: what a kind of board is, read from bitstreams/edge_bitstreams/profiles.

A table may be `like` another one: it then has that one's entries, but for those that it has itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from edge_agent.errors import IncompatibleError
from edge_agent.tables import read_table, resolve, table_names
from edge_agent.vta.config import Config
from edge_agent.vta.features import FEATURES

_FOLDER = "profiles"

SIMULATED = frozenset({"sim", "zynq_model"})
"""Accelerators that exist on any machine: boards with one are started when they are needed."""

ANY_CPU = "host"
"""The `cpu` of a profile whose boards run on any machine: kernels are for the machine that the agent runs on."""


@dataclass(frozen=True)
class Hardware:
    """How the CPU reaches a board's accelerator: what a driver needs to know of it.

    `registers` are the physical addresses of its register blocks by name (Zynq: fetch, load, compute, store), each of
    `register_bytes`. `coherent`: its memory port sees the CPU's caches, so DMA memory needs no maintenance. `reset` is
    what puts the core back as programming left it: "zynq_slcr" (the reset that Zynq-7000 gives the fabric), or "" where
    only programming does. A run may take `patience_seconds`, and longer where it is predicted to.
    """

    registers: Mapping[str, int] = field(hash=False)
    register_bytes: int
    coherent: bool
    reset: str
    patience_seconds: int


@dataclass(frozen=True)
class RegisterField:
    """The bits `mask` of the 32-bit register at a physical address shall have the value `value`."""

    register: int
    mask: int
    value: int


@dataclass(frozen=True)
class Fpga:
    """A board's FPGA, and how it is programmed.

    `part` is how a bitstream's header names the die, without "xc", package and speed; `idcode` how its data does, 0
    where that is not known; `bitstream_bytes` the length of a whole image, 0 where that is not known. `method` says
    what programs it: "fpga_manager" is the kernel's, which calls itself `manager`; agents do no other. `swap_words`: it
    wants the bytes of 32-bit words reversed. `port_widths` are set after programming, before the core is touched.
    """

    part: str
    idcode: int
    bitstream_bytes: int
    method: str
    manager: str
    swap_words: bool
    port_widths: tuple[RegisterField, ...]


@dataclass(frozen=True)
class BoardProfile:
    """A kind of board. `accelerator` is the file in devices/ that drives it, `cpu` the kernels' target, `processor` the
    description of the real board's CPU by which its time is predicted.

    `config` and `isa` (the VTA hardware version) name what its bitstream implements, `features` what that does beyond
    the portable rules. `clock_hz` is the fabric's clock, `bus_bytes` the width of its memory port; `memory_bytes` is
    the board's memory, DMA buffers must lie below `dma_limit_bytes`. `sources` says where the figures come from.
    `hardware` is None where no registers are behind the accelerator, `fpga` where nothing has to be programmed.
    """

    name: str
    description: str
    accelerator: str
    config: str
    isa: str
    clock_hz: int
    bus_bytes: int
    features: frozenset[str]
    cpu: str
    processor: str
    memory_bytes: int
    dma_limit_bytes: int
    sources: str
    hardware: Hardware | None = None
    fpga: Fpga | None = None

    @property
    def simulated(self) -> bool:
        """Whether such a board can be started on any machine."""
        return self.accelerator in SIMULATED

    @property
    def vta(self) -> Config:
        return Config.parse(self.config)


def profile_names() -> list[str]:
    """The boards that there are profiles of, sorted."""
    return table_names(_FOLDER)


def profile(name: str) -> BoardProfile:
    """The profile of a board. Raises IncompatibleError, listing the known ones, where there is none of this name."""
    names = profile_names()
    if name not in names:
        raise IncompatibleError(f"there is no board '{name}'; known boards: {', '.join(names)}")
    return parse_profile(name, read_table(_FOLDER, name))


def parse_profile(name: str, text: str) -> BoardProfile:
    """A profile from its JSON text. Raises IncompatibleError on missing, unknown or wrong entries."""
    try:
        entries: dict[str, Any] = resolve(_FOLDER, json.loads(text))
        given = {**entries, "features": frozenset(entries["features"]), "name": name}
        if given.get("hardware") is not None:
            given["hardware"] = _hardware(given["hardware"])
        if given.get("fpga") is not None:
            given["fpga"] = _fpga(given["fpga"])
        board = _checked(BoardProfile, given, f"board profile '{name}'")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise IncompatibleError(f"board profile '{name}' is malformed: {error!r}") from error
    if not board.features <= FEATURES:
        raise IncompatibleError(
            f"board profile '{name}' has features {sorted(board.features - FEATURES)}; known are {sorted(FEATURES)}"
        )
    Config.parse(board.config)
    return board


def _hardware(entries: Mapping[str, Any]) -> Hardware:
    """JSON has no hexadecimal numbers: addresses are strings such as "0x43C00000"."""
    registers = {block: int(address, 16) for block, address in entries["registers"].items()}
    return _checked(Hardware, {**entries, "registers": registers}, "its hardware")


def _fpga(entries: Mapping[str, Any]) -> Fpga:
    widths = tuple(
        RegisterField(**{name: int(number, 16) for name, number in width.items()}) for width in entries["port_widths"]
    )
    return _checked(Fpga, {**entries, "idcode": int(entries["idcode"], 16), "port_widths": widths}, "its fpga")


_Made = TypeVar("_Made", BoardProfile, Hardware, Fpga)


def _checked(kind: type[_Made], entries: Mapping[str, Any], what: str) -> _Made:
    """`kind` from its entries. Raises IncompatibleError on missing, unknown or wrong ones."""
    known = {entry.name for entry in fields(kind)}
    wanted = {entry.name for entry in fields(kind) if entry.default is MISSING}
    if not wanted <= set(entries) <= known:
        raise IncompatibleError(
            f"{what} must have exactly the entries {sorted(wanted)}, it has {sorted(entries)}; "
            f"{sorted(known - wanted)} may be added"
        )
    for entry in fields(kind):
        expected = _TYPES[str(entry.type)]
        if entry.name in entries and type(entries[entry.name]) not in expected:
            raise IncompatibleError(f"{what}: {entry.name} is {entries[entry.name]!r}, not of type {entry.type}")
    return kind(**entries)


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "str": (str,),
    "bool": (bool,),
    "frozenset[str]": (frozenset,),
    "Mapping[str, int]": (dict,),
    "Hardware | None": (Hardware, type(None)),
    "Fpga | None": (Fpga, type(None)),
    "tuple[RegisterField, ...]": (tuple,),
}
