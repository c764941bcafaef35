"""Record what MXNet computes for the cases of mxnet_cases.py, so that the suite can compare without MXNet.

Run where the `mxnet` extra is installed, from the repository's root: python -m tests.edgectl.frontends.record_mxnet
Writes into recorded/: operators.npz, and the network of mxnet_cases.NETWORK in every age of MXNet's formats, each of
which is checked to load in this MXNet.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from edgectl.frontends.mxnet import import_mxnet
from tests.edgectl.frontends.mxnet_cases import CASES, NETWORK, Case

FOLDER = Path(__file__).parent / "recorded"
Arrays = dict[str, np.ndarray]


def evaluate(mxnet: Any, symbol: Any, arrays: Arrays, inputs: Arrays) -> list[np.ndarray]:
    """MXNet's outputs in inference mode."""
    held = {**arrays, **inputs}
    shapes, _, _ = symbol.infer_shape(**{name: array.shape for name, array in inputs.items()})
    # What is not held is a label, which inference does not read.
    args = {
        name: mxnet.nd.array(held[name]) if name in held else mxnet.nd.zeros(shape)
        for name, shape in zip(symbol.list_arguments(), shapes, strict=True)
    }
    states = {name: mxnet.nd.array(held[name]) for name in symbol.list_auxiliary_states()}
    executor = symbol.bind(mxnet.cpu(), args, aux_states=states, grad_req="null")
    return [output.asnumpy() for output in executor.forward(is_train=False)]


def build(mxnet: Any, case: Case, seed: int) -> tuple[Any, Arrays, Arrays]:
    """Symbol, random arrays for its parameters, and random input."""
    shape, construct = case
    generator = np.random.default_rng(seed)
    symbol = construct(mxnet.sym, mxnet.sym.var("data"))
    shapes, _, auxiliary = symbol.infer_shape(data=shape)
    kinds = dict(zip([*symbol.list_arguments(), *symbol.list_auxiliary_states()], [*shapes, *auxiliary], strict=True))
    arrays = {}
    for name, extent in kinds.items():
        if name == "data" or name.endswith("label"):
            continue
        positive = name.endswith("var")
        values = generator.uniform(0.5, 2, extent) if positive else generator.standard_normal(extent)
        arrays[name] = values.astype(np.float32)
    # Multiples of 1/16 compress well.
    return symbol, arrays, {"data": (generator.integers(-40, 41, shape) / 16).astype(np.float32)}


def record_operators(mxnet: Any) -> None:
    """All arrays end to end in one, with an index of where each lies: a file per array would be mostly overhead."""
    values: list[np.ndarray] = []
    index = {}

    def place(array: np.ndarray) -> dict[str, Any]:
        offset = sum(part.size for part in values)
        values.append(array.reshape(-1))
        return {"offset": offset, "shape": array.shape}

    for seed, (case, content) in enumerate(CASES.items()):
        symbol, arrays, inputs = build(mxnet, content, seed)
        index[case] = {
            "symbol": symbol.tojson(),
            "parameters": {name: place(array) for name, array in arrays.items()},
            "input": place(inputs["data"]),
            "outputs": [place(output) for output in evaluate(mxnet, symbol, arrays, inputs)],
        }
    text = np.frombuffer(json.dumps(index).encode(), np.uint8)
    np.savez_compressed(FOLDER / "operators.npz", index=text, values=np.concatenate(values))


def old_array(array: np.ndarray, magic: int | None) -> bytes:
    """An array as MXNet before 1.0 wrote it: with the magic number of 0.11-0.12, or with none as before."""
    if magic is None:
        head = struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
    else:
        head = struct.pack(f"<Ii{array.ndim}q", magic, array.ndim, *array.shape)
    return head + struct.pack("<iii", 1, 0, 0) + array.astype("<f4").tobytes()


def old_file(arrays: Arrays, magic: int | None) -> bytes:
    body = b"".join(old_array(array, magic) for array in arrays.values())
    names = b"".join(struct.pack("<Q", len(name)) + name.encode() for name in arrays)
    return struct.pack("<QQQ", 0x112, 0, len(arrays)) + body + struct.pack("<Q", len(arrays)) + names


def old_symbol(text: str, oldest: bool) -> str:
    """The symbol as MXNet 0.9-0.12 ("attr") or before ("param" beside users' attributes, no auxiliary inputs) did."""
    document = json.loads(text)
    states = {
        edge[0] for node in document["nodes"] if node["op"] == "BatchNorm" for edge in node["inputs"][3:] if oldest
    }
    kept = [index for index in range(len(document["nodes"])) if index not in states]
    place = {index: new for new, index in enumerate(kept)}
    nodes = []
    for index in kept:
        node = document["nodes"][index]
        attributes = node.pop("attrs", {})
        length = 2 if oldest else 3
        edges = [[place[edge[0]], *edge[1:length]] for edge in node["inputs"] if edge[0] in place]
        own: dict[str, Any] = {"attr": attributes}
        if oldest:
            own = {"param": attributes, "attr": {"lr_mult": "1.0"}, "backward_source_id": -1}
        nodes.append({**node, **own, "inputs": edges})
    heads = [[place[head[0]], head[1], *([] if oldest else [0])] for head in document["heads"]]
    variables = [index for index, node in enumerate(nodes) if node["op"] == "null"]
    extra = {} if oldest else {"attrs": {"mxnet_version": ["int", 904]}}
    return json.dumps({"nodes": nodes, "arg_nodes": variables, "heads": heads, **extra})


def record_formats(mxnet: Any) -> None:
    symbol, arrays, inputs = build(mxnet, NETWORK, 99)
    expected = evaluate(mxnet, symbol, arrays, inputs)[0]
    np.savez_compressed(FOLDER / "network-expected.npz", input=inputs["data"], output=expected)
    states = set(symbol.list_auxiliary_states())
    split = [{name: array for name, array in arrays.items() if (name in states) == wanted} for wanted in (False, True)]
    as_mxnet = [{name: mxnet.nd.array(array) for name, array in part.items()} for part in split]
    mxnet.model.save_checkpoint(str(FOLDER / "network"), 0, symbol, *as_mxnet)
    prefixed = {f"{'aux' if name in states else 'arg'}:{name}": array for name, array in arrays.items()}
    (FOLDER / "network-v1.params").write_bytes(old_file(prefixed, 0xF993FAC8))
    (FOLDER / "network-headerless.params").write_bytes(old_file(prefixed, None))
    mxnet.npx.set_np()
    mxnet.npx.save(str(FOLDER / "network-v3.params"), {name: mxnet.np.array(array) for name, array in arrays.items()})
    mxnet.npx.reset_np()
    text = symbol.tojson()
    (FOLDER / "network-attr-symbol.json").write_text(old_symbol(text, oldest=False))
    (FOLDER / "network-param-symbol.json").write_text(old_symbol(text, oldest=True))
    for path in FOLDER.glob("network-*.params"):
        if "v3" not in path.name:
            loaded = {key.partition(":")[2]: value.asnumpy() for key, value in mxnet.nd.load(str(path)).items()}
            assert all(np.array_equal(loaded[name], array) for name, array in arrays.items()), path
    for path in FOLDER.glob("network*-symbol.json"):
        assert np.allclose(evaluate(mxnet, mxnet.sym.load(str(path)), arrays, inputs)[0], expected), path


def main() -> None:
    mxnet = import_mxnet()
    FOLDER.mkdir(exist_ok=True)

    record_operators(mxnet)
    record_formats(mxnet)


if __name__ == "__main__":
    main()
