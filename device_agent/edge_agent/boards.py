"""Board profiles: what a kind of board is, read from bitstreams/edge_bitstreams/profiles."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any

from edge_agent.errors import IncompatibleError
from edge_agent.vta.config import Config
from edge_agent.vta.features import FEATURES


@dataclass(frozen=True)
class BoardProfile:
    """A kind of board. `accelerator` is the file in devices/ that drives it, `cpu` the kernels' target, `processor` the
    description of the real board's CPU by which its time is predicted.

    `config` and `isa` (the VTA hardware version) name what its bitstream implements, `features` what that does beyond
    the portable rules. `clock_hz` is the fabric's clock, `bus_bytes` the width of its memory port; `memory_bytes` is
    the board's memory, DMA buffers must lie below `dma_limit_bytes`. `sources` says where the figures come from.
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

    @property
    def vta(self) -> Config:
        return Config.parse(self.config)


def profile_names() -> list[str]:
    """The boards that there are profiles of, sorted."""
    folder = resources.files("edge_bitstreams").joinpath("profiles")
    return sorted(entry.name[: -len(".json")] for entry in folder.iterdir() if entry.name.endswith(".json"))


def profile(name: str) -> BoardProfile:
    """The profile of a board. Raises IncompatibleError, listing the known ones, where there is none of this name."""
    names = profile_names()
    if name not in names:
        raise IncompatibleError(f"there is no board '{name}'; known boards: {', '.join(names)}")
    text = resources.files("edge_bitstreams").joinpath("profiles").joinpath(f"{name}.json").read_text(encoding="utf-8")
    return parse_profile(name, text)


def parse_profile(name: str, text: str) -> BoardProfile:
    """A profile from its JSON text. Raises IncompatibleError on missing, unknown or wrong entries."""
    try:
        entries: dict[str, Any] = json.loads(text)
        wanted = {field.name for field in fields(BoardProfile)} - {"name"}
        if set(entries) != wanted:
            raise IncompatibleError(
                f"board profile '{name}' must have exactly the entries {sorted(wanted)}, it has {sorted(entries)}"
            )
        board = BoardProfile(name=name, **{**entries, "features": frozenset(entries["features"])})
        for field in fields(BoardProfile):
            kind = {"int": int, "str": str, "frozenset[str]": frozenset}[str(field.type)]
            if type(getattr(board, field.name)) is not kind:
                raise IncompatibleError(
                    f"board profile '{name}': {field.name} is {getattr(board, field.name)!r}, not of type {field.type}"
                )
    except (ValueError, TypeError) as error:
        raise IncompatibleError(f"board profile '{name}' is malformed: {error}") from error
    if not board.features <= FEATURES:
        raise IncompatibleError(
            f"board profile '{name}' has features {sorted(board.features - FEATURES)}; known are {sorted(FEATURES)}"
        )
    Config.parse(board.config)
    return board
