# SPDX-License-Identifier: Apache-2.0
"""Build this tree's wheel, from a copy, so that the tree stays clean."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

TREE = Path(__file__).parents[1]
PACKAGES = {"edgectl": "host", "edge_agent": "device_agent", "edge_bitstreams": "bitstreams"}
"""Where each package lies."""
_BUILD = "import sys, setuptools.build_meta as backend; print(backend.build_wheel(sys.argv[1]))"
_EPOCH = "315532800"
"""1980, the first that ZIP archives know: equal trees give equal wheels."""


def build_wheel(folder: Path) -> Path:
    """The wheel, in `folder`. Raises CalledProcessError, with what setuptools said."""
    with tempfile.TemporaryDirectory(prefix="edgectl-source-") as source:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        for name in PACKAGES.values():
            shutil.copytree(TREE / name, Path(source, name), ignore=ignored)
        for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
            shutil.copy(TREE / name, source)
        built = subprocess.run(
            [sys.executable, "-c", _BUILD, os.fspath(folder.absolute())],
            cwd=source,
            env={**os.environ, "SOURCE_DATE_EPOCH": _EPOCH},
            capture_output=True,
            text=True,
            check=True,
        )
    return folder / built.stdout.split()[-1]
