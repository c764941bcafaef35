"""Records a small network as torch.export saves it, and what PyTorch computes with it.

    python -m tests.edgectl.frontends.record_torch

With this recording, everybody's tests read a `.pt2` file, PyTorch or not.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch

from tests.edgectl.frontends.torch_networks import Basic, ResNet, trained_alike

RECORDED = Path(__file__).parent / "recorded"


def without_traces(document: bytes) -> bytes:
    """The program without the lines of source that it notes, which have the paths of this machine."""
    program = json.loads(document)
    for node in program["graph_module"]["graph"]["nodes"]:
        node["metadata"].pop("stack_trace", None)
    return json.dumps(program).encode()


def main() -> None:
    network = trained_alike(ResNet(Basic, (1, 1), classes=5, width=4), (3, 32, 32), seed=1)
    x = torch.randn((2, 3, 32, 32), generator=torch.Generator().manual_seed(2))
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (x,), dynamic_shapes=({0: batch},))
    file = io.BytesIO()
    torch.export.save(program, file)
    target = RECORDED / "torch_network.pt2"
    with zipfile.ZipFile(file) as saved, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as kept:
        for member in saved.namelist():
            content = saved.read(member)
            if member.endswith("models/model.json"):
                content = without_traces(content)
            kept.writestr(zipfile.ZipInfo(member), content)
    with torch.no_grad():
        np.savez_compressed(RECORDED / "torch_network-expected.npz", x=x.numpy(), y=network(x).numpy())


if __name__ == "__main__":
    main()
