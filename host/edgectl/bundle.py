"""Writing bundles. Reading them, and what they hold, is edge_agent.bundle."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_agent.bundle import SCHEMA_VERSION

EPOCH = (1980, 1, 1, 0, 0, 0)
"""Every member's date, so that equal contents give equal bundles."""


def write_bundle(manifest: Mapping[str, Any], members: Mapping[str, bytes]) -> bytes:
    """The bundle's bytes: `manifest` completed by the schema version and the members' sizes and SHA-256 digests."""
    complete = {
        "schema": SCHEMA_VERSION,
        **manifest,
        "members": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(members.items())
        },
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, data in [("manifest.json", json.dumps(complete, indent=1).encode()), *sorted(members.items())]:
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return file.getvalue()


def array_member(array: np.ndarray) -> bytes:
    """An array as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
