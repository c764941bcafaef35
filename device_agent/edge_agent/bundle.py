"""Reading a bundle: one ZIP file with a manifest, a plan, a kernel library, VTA programs and a golden sample.

Members: `manifest.json`, `plan.json`, `kernels.so`, `constants.bin`, `programs/*.vta`, `golden/*.npy`.
Every member but the manifest is listed there with its size and SHA-256; the bundle's digest is the SHA-256 of the
manifest's bytes, so it covers everything.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import IncompatibleError, VerificationError
from edge_agent.runtime.plan import Plan

SCHEMA_VERSION = 1
MAXIMUM_BYTES = 1 << 30
MAXIMUM_MEMBERS = 4096


@dataclass(frozen=True)
class Bundle:
    """A verified bundle in memory: digests and sizes of all members have been checked."""

    manifest: Mapping[str, Any]
    members: Mapping[str, bytes]
    digest: str
    nbytes: int
    """Size of the file."""

    @property
    def plan(self) -> Plan:
        return Plan.from_json(self.members["plan.json"].decode())

    def array(self, member: str) -> np.ndarray:
        """A `.npy` member as an array."""
        return np.load(io.BytesIO(self.members[member]), allow_pickle=False)


def read_bundle(source: Path | bytes, maximum_bytes: int = MAXIMUM_BYTES) -> Bundle:
    """Read and verify a bundle from a file or from its bytes.

    Raises VerificationError where it is damaged (not a ZIP, truncated, wrong digest, unlisted members) or unpacks to
    more than `maximum_bytes`, and IncompatibleError where its schema is another version's.
    """
    try:
        nbytes = len(source) if isinstance(source, bytes) else source.stat().st_size
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            entries = archive.infolist()
            unpacked = sum(entry.file_size for entry in entries)
            if unpacked > maximum_bytes:
                raise VerificationError(
                    f"the bundle unpacks to {unpacked} bytes, at most {maximum_bytes} are accepted here; "
                    "compile a smaller model, or for a smaller batch"
                )
            if len(entries) > MAXIMUM_MEMBERS:
                raise VerificationError(
                    f"the bundle has {len(entries)} members, at most {MAXIMUM_MEMBERS} are accepted"
                )
            members = {entry.filename: archive.read(entry) for entry in entries}
        manifest_bytes = members.pop("manifest.json")
        manifest = json.loads(manifest_bytes)
        schema, listed = manifest["schema"], manifest["members"]
    except VerificationError:
        raise
    except FileNotFoundError:
        raise VerificationError(f"there is no bundle at {source!s}") from None
    except (
        OSError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError, RuntimeError, NotImplementedError,
        EOFError,
    ) as error:  # fmt: skip
        raise VerificationError(
            f"not an edgectl bundle, or a damaged one ({error}); compile or upload it again"
        ) from error
    if schema != SCHEMA_VERSION:
        raise IncompatibleError(
            f"bundle schema {schema}, this agent reads {SCHEMA_VERSION}; compile the model again "
            "with the agent's version of edgectl"
        )
    if set(listed) != set(members):
        raise VerificationError(
            f"the bundle's members {sorted(members)} are not those of its manifest {sorted(listed)}"
        )
    for name, data in members.items():
        digest = hashlib.sha256(data).hexdigest()
        if listed[name] != {"bytes": len(data), "sha256": digest}:
            raise VerificationError(
                f"bundle member '{name}' is damaged: its digest is {digest}, the manifest says {listed[name]}"
            )
    return Bundle(manifest, members, hashlib.sha256(manifest_bytes).hexdigest(), nbytes)
