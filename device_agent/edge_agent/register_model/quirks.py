"""What hardware does that a simple model of it would not, and what broken hardware does."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from edge_agent.errors import InputError


@dataclass(frozen=True)
class Quirks:
    """How the next runs behave.

    `begin_seconds`: from the start until compute executes its first instruction; until then DONE says what it said
    before. `done_seconds`: from the last store to FINISH. `hang`: "start", no instruction is executed; "end", FINISH is
    never executed although everything is stored; either leaves the core unusable until it is reset or programmed.
    `flip`: so many bits of what is stored come out wrong. `reset_works`: the fabric's reset reaches the core.
    `flawed`: the SHA-256 of an image, as it was given to the kernel, to which `hang` and `flip` are confined.
    `upset`: the configuration memory is, so `hang` and `flip` end when the FPGA is programmed, with whatever image.
    `takes_images`: else the FPGA gets ready with none, and loses what it held.
    """

    begin_seconds: float = 0.0
    done_seconds: float = 0.0
    hang: str = ""
    flip: int = 0
    reset_works: bool = True
    flawed: str = ""
    upset: bool = False
    takes_images: bool = True

    def of_image(self, sha256: str, programmed_since: bool = False) -> Quirks:
        """How a core from the image with this SHA-256 behaves; `programmed_since` these quirks were given."""
        sound = self.flawed not in ("", sha256) or (self.upset and programmed_since)
        return replace(self, hang="", flip=0) if sound else self

    def write(self, path: Path) -> None:
        """Give them to the model that watches `path`."""
        temporary = path.with_name(f".{path.name}")
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(path)


def read_quirks(path: Path) -> Quirks:
    """The quirks in a file; none where there is no file. Raises InputError where it cannot be understood."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return Quirks()
    try:
        entries = json.loads(text)
        quirks = Quirks(**entries)
        for field in fields(Quirks):
            if not isinstance(getattr(quirks, field.name), type(field.default)):
                raise TypeError(f"{field.name} is {getattr(quirks, field.name)!r}, not of type {field.type}")
        return quirks
    except (ValueError, TypeError) as error:
        raise InputError(f"the quirks in {path} are malformed: {error}; known are {asdict(Quirks())}") from error
