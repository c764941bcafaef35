"""PREFIX-preprocessing.json: what a checkpoint's own files do not say, inputs, preprocessing and labels."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgectl.errors import ModelError
from edgectl.graph import Model, Preprocessing
from edgectl.interchange.mxnet import CheckpointPaths

SUFFIX = "-preprocessing.json"


def sidecar_path(checkpoint: str | os.PathLike[str]) -> Path:
    """Beside a checkpoint, given by its prefix or either of its files."""
    return Path(CheckpointPaths.of(checkpoint).prefix + SUFFIX)


def sidecar_text(model: Model, names: Mapping[str, str]) -> str:
    """What belongs beside `model`'s checkpoint, in which inputs are called as `names` says."""
    how = model.preprocessing
    document = {
        "inputs": {names[name]: list(kind.shape) for name, kind in model.inputs.items()},
        "preprocessing": None if how is None else asdict(how),
        "labels": list(model.labels),
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def read_sidecar(path: Path) -> tuple[Preprocessing | None, tuple[str, ...], Mapping[str, tuple[int, ...]]]:
    """(preprocessing, labels, shapes of inputs); all empty where there is no such file. Raises ModelError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None, (), {}
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot read {path}: {error}; repair it or take it away") from error
    try:
        document = json.loads(text)
        shapes = {str(name): tuple(map(_extent, shape)) for name, shape in document.get("inputs", {}).items()}
        labels = document.get("labels", [])
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise ValueError("its labels are no list of texts")
        return _preprocessing(document.get("preprocessing")), tuple(labels), shapes
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); repair it or take it away") from error


def _extent(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no extent of an input")
    return value


def _preprocessing(entry: Any) -> Preprocessing | None:
    if entry is None:
        return None
    mean, std = (tuple(float(value) for value in entry[key]) for key in ("mean", "std"))
    height, width = map(_extent, entry["crop"])
    resize, order = entry["resize"], entry.get("channel_order", "RGB")
    if type(resize) is not int or resize < 0 or len(mean) != len(std) or not mean or not all(std):
        raise ValueError("its preprocessing is none")
    if order not in ("RGB", "BGR"):
        raise ValueError(f"channel_order {order!r} is neither RGB nor BGR")
    return Preprocessing(resize, (height, width), mean, std, order)
