# SPDX-License-Identifier: Apache-2.0
"""Write the symbol files of Gluon's vision zoo into host/edgectl/data/zoo. Needs the `mxnet` extra.

Each NAME-symbol.json.gz is an ordinary MXNet 1.x symbol file. Its variables record their shapes, and under
`__structural_name__` the name that the same parameter bears in files of `save_parameters`, Gluon's pretrained ones
among them. index.json holds what the symbol does not: the digest of Gluon's pretrained weights and preprocessing.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

from edgectl.frontends.mxnet import import_mxnet
from edgectl.frontends.parameter_names import STRUCTURAL_NAME

mxnet = import_mxnet()

FOLDER = Path(__file__).parent.parent / "host" / "edgectl" / "data" / "zoo"
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Networks that torchvision defines with the same layers in the same order, and its file of weights for them
# (the last part of a name is the head of the file's SHA-256).
TORCHVISION = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "densenet121": "densenet121-a639ec97.pth",
    "densenet161": "densenet161-8d451a50.pth",
    "densenet169": "densenet169-b2777c0a.pth",
    "densenet201": "densenet201-c1103571.pth",
    "resnet18_v1": "resnet18-f37072fd.pth",
    "resnet34_v1": "resnet34-b627a593.pth",
    "squeezenet1.0": "squeezenet1_0-b66bff10.pth",
    "squeezenet1.1": "squeezenet1_1-b8a52dc0.pth",
    "vgg11": "vgg11-8a719046.pth",
    "vgg13": "vgg13-19584684.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg11_bn": "vgg11_bn-6002323d.pth",
    "vgg13_bn": "vgg13_bn-abd245e5.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth",
    "vgg19_bn": "vgg19_bn-c79401a0.pth",
}


def symbol_document(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """The symbol file's content, named as Gluon names a process's first instance of the network (resnetv10_...)."""
    zoo = mxnet.gluon.model_zoo.vision
    block = zoo.get_model(name, prefix=f"{type(zoo.get_model(name)).__name__.lower()}0_")
    block.initialize()
    block(mxnet.nd.zeros(shape))  # finishes deferred shapes
    document = json.loads(block(mxnet.sym.var("data", shape=shape)).tojson())
    variables = {
        parameter.name: {"__shape__": str(parameter.shape), STRUCTURAL_NAME: structural}
        for structural, parameter in block._collect_params_with_prefix().items()
    }
    for node in document["nodes"]:
        if node["name"] in variables:
            node["attrs"] = variables[node["name"]]
    return document


def write_compressed(path: Path, document: dict[str, Any]) -> None:
    """gzip without a time or name inside, so that the same network gives the same bytes."""
    text = json.dumps(document, separators=(",", ":"))
    with path.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
        packed.write(text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    from mxnet.gluon.model_zoo import model_store

    index = {}
    for name, sha1 in sorted(model_store._model_sha1.items()):
        size = 299 if name == "inceptionv3" else 224
        write_compressed(folder / f"{name}-symbol.json.gz", symbol_document(name, (1, 3, size, size)))
        index[name] = {
            "symbol": f"zoo/{name}-symbol.json.gz",
            "input_shape": [1, 3, size, size],
            "preprocessing": {"resize": 299 if size == 299 else 256, "crop": [size, size], **IMAGENET},
            "labels": "imagenet1k",
            "gluon_sha1": sha1,
            "torchvision": TORCHVISION.get(name),
        }
        print(name, flush=True)
    text = ",\n".join(f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in index.items())
    (folder / "index.json").write_text(f"{{\n{text}\n}}\n")


if __name__ == "__main__":
    main()
