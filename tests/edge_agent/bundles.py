"""Bundles that the real runtime accepts, without kernels or programs."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from typing import Any

import numpy as np

from edge_agent.boards import profile
from edge_agent.bundle import SCHEMA_VERSION
from edge_agent.runtime.compatibility import AGENT_PROTOCOL
from edge_agent.runtime.plan import Buffer, Plan


def identity_bundle(model: str = "identity", golden: float = 1.0, **entries: Any) -> bytes:
    """`result` is `data`, float32 (1, 4), for the simulated board. A `golden` other than 1 fails the self-test.

    `entries` replace those of the manifest.
    """
    buffers = (Buffer("data", (1, 4), "float32", 0),)
    plan = Plan(buffers, (16,), (), {"data": 0}, {"result": 0})
    members = {"plan.json": plan.to_json().encode(), "golden/input.npy": _npy(1.0), "golden/output.npy": _npy(golden)}
    manifest = {
        "schema": SCHEMA_VERSION,
        "model": model,
        "agent_protocol": AGENT_PROTOCOL,
        "config": profile("sim").config,
        "features": [],
        "cpu": {"machine": platform.machine()},
        "golden": {
            "inputs": {"data": "golden/input.npy"},
            "integers": {},
            "outputs": {"result": {"member": "golden/output.npy", "rtol": 0.0, "atol": 0.0}},
        },
        "members": {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in members.items()},
    }
    manifest |= entries
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in {"manifest.json": json.dumps(manifest).encode(), **members}.items():
            archive.writestr(name, data)
    return target.getvalue()


def _npy(value: float) -> bytes:
    target = io.BytesIO()
    np.save(target, np.full((1, 4), value, np.float32))
    return target.getvalue()
