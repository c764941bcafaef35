"""An unmodified TVM client, run as a process of its own: one process with client and endpoint can deadlock.

Usage: stock_client.py SCENARIO HOST PORT KEY BUNDLE. Prints what it found as JSON.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import tvm
from tvm import rpc


def _error(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return str(error)
    return "no error"


def files(remote: Any, bundle: str) -> dict[str, Any]:
    remote.upload(bytearray(b"abc" * 1000), "one.bin")
    remote.upload(bundle, "two.bundle")
    found: dict[str, Any] = {"listed": remote.listdir("/"), "same": bytes(remote.download("one.bin")) == b"abc" * 1000}
    remote.remove("one.bin")
    found["left"] = remote.listdir(".")
    names = ["../x", "/etc/passwd", "a/b", "a\x01b", "n" * 4096, ".."]
    found["refused"] = [_error(functools.partial(remote.upload, bytearray(b"x"), name)) for name in names]
    found["missing"] = _error(lambda: remote.download("never"))
    return found


def arguments(remote: Any, bundle: str) -> dict[str, Any]:
    echo = remote.get_function("edge.echo")
    found: dict[str, Any] = {
        "values": [
            echo(None),
            echo(7),
            echo(-(2**62)),
            echo(True),
            echo(2.5),
            echo("text"),
            echo("a longer text" * 100),
        ],
        "bytes": bytes(echo(bytearray(range(256)))).hex(),
        "short_bytes": bytes(echo(b"abc")).hex(),
        "dtype": str(echo(tvm.DataType("int8"))),
        "device": echo(remote.cpu(0)).dlpack_device_type() % 128,
    }
    found["too_many"] = _error(lambda: echo(1, 2))
    found["wrong_type"] = _error(lambda: remote.get_function("edge.upload.begin")("text", "text"))
    found["unknown"] = _error(lambda: remote.get_function("no.such.function"))
    tensor = echo(tvm.runtime.tensor(np.arange(6, dtype="int32").reshape(2, 3), remote.cpu(0)))
    found["tensor"] = tensor.numpy().tolist()
    return found


def tensors(remote: Any, bundle: str) -> dict[str, Any]:
    device = remote.cpu(0)
    found = {}
    for dtype in ("int8", "uint8", "int32", "int64", "float16", "float32", "float64", "bool"):
        array = (np.arange(24) % 2).reshape(2, 3, 4).astype(dtype)
        found[dtype] = bool((tvm.runtime.tensor(array, device).numpy() == array).all())
    large = np.random.default_rng(1).standard_normal((3, 1 << 20)).astype("float32")
    first = tvm.runtime.tensor(large, device)
    second = tvm.runtime.empty(large.shape, "float32", device)
    first.copyto(second)  # CopyAmongRemote
    found["large"] = bool((second.numpy() == large).all())
    accelerator = tvm.runtime.tensor(large[0], remote.ext_dev(0))
    found["accelerator"] = bool((accelerator.numpy() == large[0]).all())
    found["exists"] = bool(remote.ext_dev(0).exist)
    found["absent"] = bool(remote.cuda(0).exist)
    return found


def module(remote: Any, bundle: str) -> dict[str, Any]:
    remote.upload(bundle, "model.bundle")
    loaded = remote.load_module("model.bundle")
    device = remote.cpu(0)
    source = np.array([[1, 2, 3, 4]], "float32")
    data = tvm.runtime.tensor(source, device)
    target = tvm.runtime.empty((1, 4), "float32", device)
    loaded["main"](data, target)
    loaded["set_input"]("data", data)
    loaded["run"]()
    evaluation = loaded.time_evaluator("main", device, number=3, repeat=4)(data)
    longer = loaded.time_evaluator("main", device, number=1, repeat=2, min_repeat_ms=20)(data)
    remote.upload(bytearray(b"\x7fELF no bundle"), "lib.so")
    return {
        "main": loaded["main"](data).numpy().tolist(),
        "into": target.numpy().tolist(),
        "graph": loaded["get_output"](0).numpy().tolist(),
        "counters": json.loads(loaded["get_counters"]()),
        "described": json.loads(loaded["describe"]()),
        "results": list(evaluation.results),
        "longer": list(longer.results),
        "library": _error(lambda: remote.load_module("lib.so")),
        "missing": _error(lambda: remote.load_module("none.bundle")),
        "wrong_shape": _error(lambda: loaded["main"](tvm.runtime.empty((2, 4), "float32", device))),
        "unknown": _error(lambda: loaded["no_such_function"]),
    }


def pixels(remote: Any, bundle: str) -> dict[str, Any]:
    remote.upload(bundle, "pixels.bundle")
    loaded = remote.load_module("pixels.bundle")
    image = (np.arange(3 * 32 * 32) * 7 % 256).reshape(1, 3, 32, 32)
    loaded["set_input"]("data", tvm.runtime.tensor(image.astype("uint8"), remote.cpu(0)))
    loaded["run"]()
    floats = tvm.runtime.tensor(image.astype("float32"), remote.cpu(0))
    return {
        "image": image.tolist(),
        "output": loaded["get_output"](0).numpy().tolist(),
        "floats": _error(lambda: loaded["set_input"]("data", floats)),
    }


def main() -> None:
    scenario, host, port, key, bundle = sys.argv[1:]
    if scenario == "tracker":
        remote = rpc.connect_tracker(host, int(port)).request(key, session_timeout=60)
        found = arguments(remote, bundle)
    elif scenario == "wrong-key":
        found = {"error": _error(lambda: rpc.connect(host, int(port), key))}
    elif scenario == "expire":
        remote = rpc.connect(host, int(port), key, session_timeout=0.2)
        remote.get_function("edge.echo")
        import time

        time.sleep(0.6)
        found = {"error": _error(lambda: remote.get_function("edge.echo"))}
    else:
        remote = rpc.connect(host, int(port), key)
        scenarios = {"files": files, "arguments": arguments, "tensors": tensors, "module": module, "pixels": pixels}
        found = scenarios[scenario](remote, bundle)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
