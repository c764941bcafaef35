"""Tensors in files: the input of a model that takes no photograph, as it is."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from edgectl.errors import UsageError


def is_tensor_file(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is called as NumPy calls its files."""
    return os.fspath(path).endswith((".npy", ".npz"))


def read_tensor(path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an .npy file, or `x` of an .npz file. Raises UsageError where it is unreadable or lacks `x`."""
    name = os.fspath(path)
    try:
        loaded = np.load(name, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            return np.asarray(loaded["x"])
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror or error}") from error
    except KeyError:
        raise UsageError(f"{name} has no array 'x'; make one with numpy.savez(PATH, x=tensor)") from None
    # NumPy's own words for damaged files are of pickles, and how to trust them.
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UsageError(f"{name} is no sound .npy or .npz file; make one with numpy.save(PATH, tensor)") from error
