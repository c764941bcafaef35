"""Weights from files into a PyTorch module: by name, and all that does not fit told at once."""

from __future__ import annotations

import difflib
import os
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from edgectl.errors import ModelError
from edgectl.frontends.problems import refuse
from edgectl.interchange.torch_file import read_torch_tensors

COUNTER = "num_batches_tracked"
"""A buffer of normalisations that only training reads, and old files lack."""


def load_weights(module: Any, path: str | os.PathLike[str], torch: Any) -> None:
    """Put the tensors of a state dict (`.pth`, `.pt`, `.safetensors`) into `module`; no code in the file runs.

    A prefix that all names share, as "module." of DataParallel, is taken off or put on where names then fit. Raises
    ModelError that lists every missing and unexpected name, with the nearest ones, and every shape that differs.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    tensors = matched(read_state(path), expected)
    refuse(os.fspath(path), misfits(tensors, expected))
    # A copy, since torch wants memory that it may write to.
    state = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
    for name in expected.keys() - state.keys():
        state[name] = module.state_dict()[name]
    module.load_state_dict(state, strict=True)


def read_state(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name. Raises ModelError where the file is missing, damaged or holds code."""
    if not os.fspath(path).endswith(".safetensors"):
        return read_torch_tensors(path)
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ModelError(f"{os.fspath(path)} needs the package safetensors: pip install 'edgectl[torch]'") from error
    try:
        return dict(load_file(os.fspath(path)))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, struct.error) as error:
        raise ModelError(f"cannot read {os.fspath(path)} ({error}); save it again") from error


def matched(tensors: Mapping[str, np.ndarray], expected: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """`tensors` with a shared first part of their names taken off, or one that all `expected` share put on, where that
    makes more of them fit."""
    own, other = _shared_prefix(tensors), _shared_prefix(expected)
    candidates = [
        dict(tensors),
        {name.removeprefix(own): array for name, array in tensors.items()},
        {other + name: array for name, array in tensors.items()},
        {other + name.removeprefix(own): array for name, array in tensors.items()},
    ]
    return max(candidates, key=lambda candidate: len(candidate.keys() & expected.keys()))


def _shared_prefix(names: Mapping[str, Any]) -> str:
    """The first part of all names and its dot; empty where they share none."""
    firsts = {name.partition(".")[0] for name in names if "." in name}
    shared = len(firsts) == 1 and all("." in name for name in names)
    return f"{firsts.pop()}." if shared else ""


def misfits(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Every name of either side that the other lacks, and every shape that differs, in words."""
    missing = [name for name in expected if name not in tensors and not name.endswith(COUNTER)]
    unexpected = [name for name in tensors if name not in expected]
    problems = []
    for side, names, others in (("missing", missing, unexpected), ("unexpected", unexpected, missing)):
        if names:
            problems.append(f"{len(names)} {side}: {', '.join(_near(name, others or [*expected]) for name in names)}")
    problems += [
        f"'{name}' has shape {list(array.shape)}, the network needs {list(expected[name])}"
        for name, array in tensors.items()
        if name in expected and tuple(array.shape) != expected[name]
    ]
    return problems


def _near(name: str, others: list[str]) -> str:
    near = difflib.get_close_matches(name, others, 1, 0.6)
    return f"'{name}' (nearest: '{near[0]}')" if near and near[0] != name else f"'{name}'"
