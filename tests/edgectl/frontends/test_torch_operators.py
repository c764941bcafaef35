"""PyTorch's operators: each, traced and decomposed to the core ones, is the same function as PyTorch's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from edgectl.errors import ModelError
from edgectl.frontends.torch import from_module
from edgectl.interpreter import interpret

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
pytestmark = pytest.mark.torch
functional = torch.nn.functional

IMAGE = (4, 6, 7)
SCALES = torch.linspace(-0.5, 1.5, 4)
WEIGHT = torch.linspace(-1, 1, 6 * 2 * 3 * 3).reshape(6, 2, 3, 3)
BIAS, PLANE, NUMBERS = SCALES.repeat(2)[:6], torch.linspace(0, 1, 42).reshape(6, 7), torch.arange(5.0)
MATRIX = torch.linspace(-1, 1, 5 * 168).reshape(5, 168)


def twice_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x * 1.5
    functional.relu_(y)
    y.add_(1.0)
    y *= 0.5
    return y + x


def read_after(x: torch.Tensor) -> torch.Tensor:
    y = x - 0.1
    z = functional.hardtanh_(y, -0.5, 0.5)
    return y + z


CASES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "clamp": lambda x: x.clamp(-0.25, 0.5),
    "clamp below": lambda x: torch.clamp(x, min=-0.1),
    "clamp above": lambda x: torch.clamp(x, max=0.1),
    "clamp at zero": lambda x: torch.clamp(x, min=0),
    "hardtanh": functional.hardtanh,
    "leaky relu": lambda x: functional.leaky_relu(x, 0.2),
    "prelu": lambda x: functional.prelu(x, torch.tensor([0.3])),
    "prelu of channels": lambda x: functional.prelu(x, SCALES),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "swish": lambda x: x * torch.sigmoid(x),
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "gelu": functional.gelu,
    "gelu by tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "erf": torch.erf,
    "upsample": lambda x: functional.interpolate(x, scale_factor=(2, 3)),
    "upsample to a size": lambda x: functional.interpolate(x, (12, 7), mode="nearest"),
    "softmax": lambda x: functional.softmax(x, 1),
    "softmax of columns": lambda x: torch.softmax(x, dim=-1),
    "add": lambda x: x + functional.relu(x),
    "add, scaled": lambda x: torch.add(x, functional.relu(x), alpha=0.3),
    "add a number": lambda x: x + 2,
    "add one for each channel": lambda x: x + SCALES.view(1, 4, 1, 1),
    "subtract": lambda x: x - torch.sigmoid(x),
    "subtract one for each channel": lambda x: x - SCALES.view(4, 1, 1),
    "subtract from one for each channel": lambda x: SCALES.view(4, 1, 1) - x,
    "subtract from a number": lambda x: 1 - x,
    "reversed difference": lambda x: torch.rsub(x, 2, alpha=3),
    "multiply": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "multiply by one for each channel": lambda x: SCALES[:, None, None] * x,
    "multiply by an image": lambda x: x * PLANE,
    "divide": lambda x: x / (torch.sigmoid(x) + 1),
    "divide by one for each channel": lambda x: x / (SCALES + 1)[:, None, None],
    "divide a number": lambda x: 1 / (x * x + 1),
    "negative": lambda x: -x,
    "square": torch.square,
    "maximum": lambda x: torch.maximum(x, x.mean((2, 3), keepdim=True)),
    "minimum": lambda x: torch.minimum(x, -x),
    "in place": twice_in_place,
    "in place, read by its old name": read_after,
    "convolution": lambda x: functional.conv2d(x, WEIGHT, BIAS, stride=(2, 1), padding=(1, 0), groups=2),
    "convolution, dilated": lambda x: functional.conv2d(x, WEIGHT, None, padding=2, dilation=2, groups=2),
    "convolution, same": lambda x: functional.conv2d(x, WEIGHT[..., :2], None, padding="same", groups=2),
    "convolution, valid": lambda x: functional.conv2d(x, WEIGHT, padding="valid", groups=2),
    "depthwise": lambda x: functional.conv2d(x, WEIGHT[:4, :1], groups=4),
    "padded unevenly": lambda x: functional.conv2d(functional.pad(x, (0, 1, 2, 0)), WEIGHT, groups=2),
    "pad": lambda x: functional.pad(x, (1, 2, 0, 3), value=0.5),
    "linear": lambda x: functional.linear(x.flatten(1), MATRIX, NUMBERS),
    "linear without bias": lambda x: functional.linear(torch.flatten(x, 1), MATRIX),
    "matrix product": lambda x: x.reshape(x.size(0), -1) @ MATRIX.t(),
    "matrix product and bias": lambda x: torch.addmm(NUMBERS, x.view(x.shape[0], -1), MATRIX.t()),
    "batch norm": lambda x: functional.batch_norm(x, SCALES, SCALES + 2, SCALES, SCALES, eps=1e-3),
    "batch norm alone": lambda x: functional.batch_norm(x, SCALES, SCALES + 2),
    "max pool": lambda x: functional.max_pool2d(x, 3, 2, 1),
    "max pool, ceil": lambda x: functional.max_pool2d(x, 2, 2, ceil_mode=True),
    "max pool, ceil, padded": lambda x: functional.max_pool2d(x, 3, 3, 1, ceil_mode=True),
    "average pool": lambda x: functional.avg_pool2d(x, (3, 2), 2, (1, 0)),
    "average pool without padding": lambda x: functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    "average pool, ceil": lambda x: functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
    "average pool, ceil, without padding": lambda x: functional.avg_pool2d(x, 2, 2, 1, True, False),
    "adaptive average pool": lambda x: functional.adaptive_avg_pool2d(x, 1),
    "adaptive average pool to windows": lambda x: functional.adaptive_avg_pool2d(x, (3, None)),
    "adaptive average pool to itself": lambda x: functional.adaptive_avg_pool2d(functional.relu(x), (6, 7)),
    "adaptive max pool": lambda x: functional.adaptive_max_pool2d(x, 1),
    "mean": lambda x: x.mean([2, 3]),
    "mean, kept": lambda x: x.mean(dim=(-1, -2), keepdim=True),
    "mean of rows": lambda x: x.mean(3),
    "mean of columns, kept": lambda x: x.mean(2, keepdim=True),
    "mean of a flat image": lambda x: x.flatten(2).mean(-1),
    "maximum of an image": lambda x: x.amax((2, 3)),
    "flatten": lambda x: torch.flatten(x, 1),
    "flatten some": lambda x: x.flatten(2, 3),
    "view": lambda x: x.view(x.size(0), -1),
    "reshape": lambda x: x.reshape(x.size(0), 2, 2, 42),
    "unflatten": lambda x: x.unflatten(1, (2, -1)),
    "squeeze": lambda x: functional.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "unsqueeze": lambda x: x.mean((2, 3)).unsqueeze(-1),
    "permute": lambda x: x.permute(0, 2, 3, 1),
    "transpose": lambda x: x.transpose(1, 3),
    "concatenate": lambda x: torch.cat([x, functional.relu(x)], 1),
    "concatenate rows": lambda x: torch.cat((x, x), dim=-2),
    "chunk": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
    "split": lambda x: torch.cat(torch.split(x, [1, 3], 1)[::-1], 1),
    "split evenly": lambda x: torch.cat(torch.split(x, 3, dim=2)[::-1], 2),
    "slice": lambda x: x[:, 1:3, ::2, :-1],
    "select": lambda x: x[:, -1] + x[:, 0],
    "shuffle": lambda x: functional.channel_shuffle(x, 2),
    "dropout": lambda x: functional.dropout(functional.relu(x), 0.5, False),
    "dropout in place": lambda x: functional.dropout(functional.relu(x), 0.5, False, inplace=True) + 1,
    "dropout of channels": lambda x: functional.dropout2d(functional.relu(x), 0.5, False, inplace=True),
    "copies": lambda x: (x * 2).contiguous().clone().detach().to(torch.float32),
}  # fmt: skip


DECOMPOSED_TO_BRANCHES = ("prelu", "prelu of channels")
"""Their core form chooses value by value, which the graph has no operator for."""


class Function(torch.nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


def image(samples: int = 2, shape: tuple[int, ...] = IMAGE) -> torch.Tensor:
    return torch.randn((samples, *shape), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", CASES)
def test_equals_torch(name: str) -> None:
    network, x = Function(CASES[name]), image()
    expected = network(x.clone()).numpy()
    program = torch.export.export(network, (x,))
    sources = [program] if name in DECOMPOSED_TO_BRANCHES else [program, program.run_decompositions()]
    for source in sources:
        model = from_module(source)
        found = interpret(model, {"x": x.numpy()})[model.outputs[0]]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: torch.sin(x), "operator 'aten.sin.default' is not supported (layer sin)"),
        (lambda x: functional.interpolate(x, (8, 7)), "only multiples"),
        (lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"), "upsample_bilinear2d"),
        (lambda x: functional.conv_transpose2d(x, WEIGHT[:4]), "conv_transpose2d"),
        (lambda x: functional.adaptive_avg_pool2d(x, 4), "[6, 7] pixels to [4, 4] takes windows of different sizes"),
        (lambda x: functional.max_pool2d(x, 2, dilation=2), "dilation of (2, 2)"),
        (lambda x: functional.pad(x, (-1, 0, 0, 0)), "not negative"),
        (lambda x: functional.pad(x, (1, 1, 1, 1), mode="reflect"), "not supported"),
        (lambda x: functional.dropout(x, 0.5, True), "call net.eval()"),
        (lambda x: functional.batch_norm(x, None, None, training=True), "own"),
        (lambda x: x.mean((0, 1)), "only those behind (N, C)"),
        (lambda x: x.reshape(-1, 7), "does not keep the batch"),
        (lambda x: x.permute(1, 0, 2, 3), "moves the batch axis"),
        (lambda x: torch.cat([x, x], 0), "along the batch axis"),
        (lambda x: x @ x.transpose(2, 3), "computed by another layer"),
        (lambda x: functional.avg_pool2d(x, 2, divisor_override=3), "divisor_override=3"),
        (lambda x: SCALES * 2, "nothing that its layers compute"),
        (lambda x: x, "nothing that its layers compute"),
    ],
)  # fmt: skip
def test_what_is_refused_says_why(function: Callable[[torch.Tensor], torch.Tensor], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        from_module(Function(function), (2, *IMAGE))
    assert words in str(caught.value)


def test_overwriting_a_part_that_is_read_is_refused() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        y[:, 0].zero_()
        return y

    with pytest.raises(ModelError, match="overwrites a part of 'mul', which is read later"):
        from_module(Function(function), (2, *IMAGE))


def test_overwriting_a_view_of_what_nothing_reads() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return (x * 2).flatten(1).relu_()

    model = from_module(Function(function), (2, *IMAGE))
    assert [node.operator.kind for node in model.nodes] == ["scalar", "flatten", "relu"]


def test_uneven_padding_goes_into_the_convolution() -> None:
    model = from_module(Function(CASES["padded unevenly"]), (2, *IMAGE))
    (node,) = model.nodes
    assert node.operator.attributes()["padding"] == (2, 0, 0, 1)
