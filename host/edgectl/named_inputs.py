"""The inputs of a model as people give them: `FILE` for the only one, `NAME=FILE` for each of several."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.boards.board import input_array
from edgectl.errors import UsageError


def named_files(given: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """The file of each input in `names`. Raises UsageError where a name is unknown, given twice or missing."""
    files: dict[str, str] = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator or (name not in names and Path(text).exists()):
            if len(names) != 1:
                raise UsageError(
                    f"--input {text}: the model has inputs {', '.join(names)}; say which: --input NAME={text}"
                )
            name, path = names[0], text
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"its inputs are {', '.join(names)}"
            raise UsageError(f"--input {text}: the model has no input '{name}'; {hint}")
        if name in files:
            raise UsageError(f"--input {text}: input '{name}' was given before as {files[name]}; give each once")
        files[name] = path
    if missing := [name for name in names if name not in files]:
        raise UsageError(f"no --input for {', '.join(missing)}; give --input {missing[0]}=FILE, a photograph or .npy")
    return files


def read_inputs(manifest: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The tensors of `files`, one for each input of a model with this manifest. Raises UsageError where one is
    unreadable or of another shape."""
    return {spec["name"]: input_array(spec, manifest, files[spec["name"]]) for spec in manifest["inputs"]}
