"""Class names that ship with the package."""

from __future__ import annotations

from pathlib import Path

from edgectl.errors import ModelError

FOLDER = Path(__file__).parent / "data" / "labels"


def read_labels(name: str) -> tuple[str, ...]:
    """The class names of `name` (cifar10, imagenet1k), in the order of the outputs. Raises ModelError."""
    path = FOLDER / f"{name}.txt"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.txt")))
        raise ModelError(f"no labels are called '{name}'; known are {known}")
    return tuple(path.read_text(encoding="utf-8").splitlines())
