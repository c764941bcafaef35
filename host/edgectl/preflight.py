"""Whether model, bitstream, agent, image and board fit together, before anything is touched.

Each check names both values and, where they differ, the command that repairs it. Mismatches that only show on the
board, as a hang or as wrong answers, are what users of accelerators like this one lost most time with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge_agent.boards import ANY_CPU, BoardProfile, Fpga
from edge_agent.errors import AgentError
from edge_agent.fpga.bitstream import check_part
from edge_agent.fpga.programmer import fpga_of
from edge_agent.version import VERSION
from edgectl.bitstreams import Candidate
from edgectl.errors import IncompatibleError

MINIMUM_PYTHON = (3, 10)
PROGRAMMED = "operating"


@dataclass(frozen=True)
class Check:
    """One comparison. `subject` is model, bitstream, agent, image or board; `repair` is what to do where not `fits`."""

    subject: str
    what: str
    found: str
    wanted: str
    fits: bool
    repair: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.subject}: {self.what} is {self.found}, it must be {self.wanted}; {self.repair}"


def _equal(subject: str, what: str, found: str, wanted: str, repair: str) -> Check:
    fits = found == wanted
    return Check(subject, what, found or "not known", wanted, fits, "" if fits else repair)


def require(checks: Sequence[Check]) -> None:
    """Raise IncompatibleError with every check that fails."""
    failed = [check for check in checks if not check.fits]
    if failed:
        raise IncompatibleError("\n       ".join(map(str, failed)))


def board_checks(status: Mapping[str, Any], board: BoardProfile, name: str) -> list[Check]:
    """Agent, image and board, from what the agent called `name` says of itself."""
    # Imports TVM, which a bundle from the cache does without.
    from edgectl.codegen.cpu.target import cpu_target

    machine = str(status["cpu"]["machine"])
    image = status.get("image") or {}
    again = "give the agent on the board its right --board"
    checks = [
        _equal(
            "agent",
            "version",
            str(status.get("version", "")),
            VERSION,
            f"install the same version of edgectl on the board ({name}) and here",
        ),
        _equal("board", "configuration", str(status.get("config", "")), board.config, again),
        _equal(
            "board", "processor", machine, machine if board.cpu == ANY_CPU else cpu_target(board.cpu).machine, again
        ),
    ]
    python = str(image.get("python", ""))
    recent = tuple(int(part) if part.isdecimal() else 0 for part in python.split(".")[:2]) >= MINIMUM_PYTHON
    wanted = ".".join(map(str, MINIMUM_PYTHON))
    checks.append(
        Check(
            "image",
            "Python",
            python or "not known",
            f"{wanted} or later",
            recent,
            "" if recent else "write a newer image to the board's card, such as PYNQ 3",
        )
    )
    if board.fpga is not None:
        checks.append(
            _equal(
                "image",
                "FPGA manager",
                str(image.get("fpga_manager", "")),
                board.fpga.manager,
                f"{again}, or write the image of that board's maker to its card",
            )
        )
    return checks


def require_fpga(board: BoardProfile) -> Fpga:
    """A board's FPGA. Raises IncompatibleError where it has none."""
    try:
        return fpga_of(board)
    except AgentError as error:
        raise IncompatibleError(str(error)) from error


def bitstream_checks(bitstream: Candidate, board: BoardProfile, name: str) -> list[Check]:
    """Bitstream and board. Raises IncompatibleError where the board has no FPGA."""
    fpga = require_fpga(board)
    published = f"edgectl flash {name}"
    checks = [
        _equal("board", "way of programming", fpga.method, "fpga_manager", "not implemented; use the maker's own tool")
    ]
    try:
        check_part(bitstream.image, fpga, board.name)
        part = Check("bitstream", "device", fpga.part, fpga.part, True)
    except AgentError:
        header, idcode = bitstream.image.header, bitstream.image.idcode
        found = header.part if header is not None else "" if idcode is None else f"the one with identity {idcode:#010x}"
        part = Check(
            "bitstream", "device", found or "not named", fpga.part, False, f"take the published one: {published}"
        )
    checks.append(part)
    if fpga.bitstream_bytes:
        checks.append(
            _equal(
                "bitstream",
                "length of its data",
                str(len(bitstream.image.data)),
                str(fpga.bitstream_bytes),
                f"give a whole, uncompressed one, or take the published one: {published}",
            )
        )
    for what, found, wanted in (
        ("configuration", bitstream.config, board.config),
        ("instruction set", bitstream.isa, board.isa),
    ):
        checks.append(_equal("bitstream", what, found, wanted, f"take the published one: {published}"))
    if bitstream.entry is not None:
        lacks = sorted(board.features - bitstream.entry.features)
        checks.append(
            Check(
                "bitstream",
                "features",
                ", ".join(sorted(bitstream.entry.features)) or "none",
                ", ".join(sorted(board.features)) or "none",
                not lacks,
                f"take the published one: {published}" if lacks else "",
            )
        )
    return checks


def model_checks(live: Mapping[str, Any] | None, bitstream: Candidate, board: BoardProfile, name: str) -> list[Check]:
    """The manifest of the model that is live, if one is, and the bitstream that shall be flashed under it."""
    if live is None:
        return []
    described = live.get("model")
    model = described.get("name") if isinstance(described, Mapping) else described
    repair = f"compile and deploy it again: edgectl deploy {model or 'MODEL'} --board {name}"
    needs, has = frozenset(live.get("features", ())), board.features
    return [
        _equal("model", "configuration", str(live.get("config", "")), bitstream.config, repair),
        Check(
            "model",
            "features it needs",
            ", ".join(sorted(needs)) or "none",
            f"among {', '.join(sorted(has)) or 'none'}",
            needs <= has,
            "" if needs <= has else repair,
        ),
    ]


def deployment_checks(manifest: Mapping[str, Any], status: Mapping[str, Any], name: str) -> list[Check]:
    """A bundle and what the board's FPGA holds: what `deploy` looks at before it uploads. Agents that say
    nothing of their FPGA pass."""
    fpga = status.get("fpga")
    if not isinstance(fpga, Mapping):
        return []
    repair = f"program it: edgectl flash {name}"
    state = str((status.get("image") or {}).get("fpga_state", ""))
    problem = str(fpga.get("problem", "") or status.get("degraded", ""))
    checks = [Check("board", "FPGA", problem or "usable", "usable", not problem, repair if problem else "")]
    if state:
        checks.append(_equal("board", "state of the FPGA", state, PROGRAMMED, repair))
    loaded = fpga.get("bitstream")
    if isinstance(loaded, Mapping):
        checks.append(
            _equal("bitstream", "configuration", str(loaded.get("config", "")), str(manifest.get("config", "")), repair)
        )
    return checks
