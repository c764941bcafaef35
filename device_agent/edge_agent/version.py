"""The agent's version, and the version of what it and the controller say to each other."""

from __future__ import annotations

from importlib import metadata

try:
    VERSION = metadata.version("edgectl")
except metadata.PackageNotFoundError:  # run from a source tree that is not installed
    VERSION = "0+unknown"

CONTROL_PROTOCOL = 1
"""Version of the `edge.*` functions (docs/rpc.md). It changes when a controller of the other version would fail."""
