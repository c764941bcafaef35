"""Networks of PyTorch in the families' known shapes, for tests; and normalisations that have seen data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


def trained_alike(network: nn.Module, *shapes: Sequence[int], seed: int = 0) -> nn.Module:
    """`network` with seeded weights, scales and statistics such as training leaves, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, deviation: float, mean: float = 0.0) -> Tensor:
        return mean + deviation * torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for part in network.modules():
            if isinstance(part, nn.Conv2d | nn.Linear):
                part.weight.copy_(normal(part.weight, (2 / part.weight[0].numel()) ** 0.5))
                if part.bias is not None:
                    part.bias.copy_(normal(part.bias, 0.05))
            elif isinstance(part, nn.BatchNorm2d):
                part.momentum = None
                if part.affine:
                    part.weight.copy_(normal(part.weight, 0.15, 1.0))
                    part.bias.copy_(normal(part.bias, 0.15))
        network.train()
        inputs = [torch.randn((4, *shape), generator=generator) for shape in shapes]
        network(*inputs)
    return network.eval()


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "relu") -> nn.Module:
    parts: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    kinds = {"relu": nn.ReLU, "relu6": nn.ReLU6, "hardswish": nn.Hardswish, "silu": nn.SiLU}
    return nn.Sequential(*parts, *([kinds[act](inplace=True)] if act else []))


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class Bottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1 to four times the width, and a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(inputs, 4 * width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


def shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Residual network with torchvision's names: conv1, bn1, layer1..layer4, fc."""

    def __init__(
        self, block: type[Basic] | type[Bottleneck], depths: Sequence[int], classes: int = 1000, width: int = 64
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage, depth in enumerate(depths):
            blocks = []
            for number in range(depth):
                blocks.append(block(channels, width << stage, 2 if stage and not number else 1))
                channels = (width << stage) * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(depths)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def resnet18() -> nn.Module:
    return ResNet(Basic, (2, 2, 2, 2))


def resnet50() -> nn.Module:
    return ResNet(Bottleneck, (3, 4, 6, 3))


class PreActivation(nn.Module):
    """Normalisation and ReLU before each convolution, written with functions."""

    def __init__(self, width: int = 16, blocks: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(2 * blocks))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in range(2 * blocks))
        self.last = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for first in range(0, len(self.norms), 2):
            y = x
            for step in (first, first + 1):
                y = self.convolutions[step](functional.relu(self.norms[step](y)))
            x = x + y
        x = functional.relu_(self.last(x)).mean([2, 3])
        return self.head(x)


class MobileNet(nn.Module):
    """Inverted residuals with depthwise convolutions, as MobileNetV2."""

    def __init__(self, act: str = "relu6", classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_norm(3, 16, 3, 2, act=act), Inverted(16, 16, 1, 4, act), Inverted(16, 24, 2, 4, act),
            Inverted(24, 24, 1, 4, act), conv_norm(24, 64, 1, act=act),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(64, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(x.reshape(x.shape[0], -1))


class Inverted(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, factor: int, act: str) -> None:
        super().__init__()
        hidden = inputs * factor
        self.adds = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv_norm(inputs, hidden, 1, act=act), conv_norm(hidden, hidden, 3, stride, hidden, act),
            conv_norm(hidden, outputs, 1, act=""),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class DenseNet(nn.Module):
    """Layers that each read all before them, concatenated."""

    def __init__(self, growth: int = 8, layers: int = 4, classes: int = 10) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.layers = nn.ModuleList()
        for number in range(layers):
            width = 16 + number * growth
            self.layers.append(nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, growth, 3, padding=1)))
        width = 16 + layers * growth
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width // 2, classes)
        self.transition = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width // 2, 1), nn.AvgPool2d(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        features = [self.conv0(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        x = self.transition(self.norm(torch.cat(features, 1)))
        return self.classifier(functional.adaptive_avg_pool2d(x, 1).view(x.size(0), -1))


class Inception(nn.Module):
    """Branches of different windows, concatenated; an average pool that leaves padding out."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_norm(3, 16, 3, 2)
        self.branch1 = conv_norm(16, 8, 1)
        self.branch5 = nn.Sequential(conv_norm(16, 8, 1), conv_norm(8, 16, 5))
        self.wide = nn.Sequential(
            nn.Conv2d(16, 8, (1, 7), padding=(0, 3), bias=False), nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, (7, 1), padding=(3, 0)), nn.ReLU(),
        )  # fmt: skip
        self.pooled = conv_norm(16, 8, 1)
        self.fc = nn.Linear(40, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(self.stem(x), 3, 2, ceil_mode=True)
        pool = functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        x = torch.cat([self.branch1(x), self.branch5(x), self.wide(x), self.pooled(pool)], dim=1)
        x = functional.avg_pool2d(x, 2, 2, ceil_mode=True)
        return self.fc(functional.dropout(x.mean((2, 3)), 0.4, self.training))


class Fire(nn.Module):
    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.squeeze(x))
        return torch.cat([functional.relu(self.expand1x1(x)), functional.relu(self.expand3x3(x))], 1)


FIRES = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
"""Squeezed and expanded channels of SqueezeNet 1.1, by the number of the layer."""


class SqueezeNet(nn.Module):
    """SqueezeNet 1.1."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2)
        self.pool = nn.MaxPool2d(3, 2)
        channels = 64
        for number, (squeezed, expanded) in FIRES.items():
            setattr(self, f"fire{number}", Fire(channels, squeezed, expanded))
            channels = 2 * expanded
        self.conv10 = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(functional.relu(self.conv1(x)))
        for number in FIRES:
            x = getattr(self, f"fire{number}")(x)
            if number in (3, 5):
                x = self.pool(x)
        return functional.adaptive_avg_pool2d(functional.relu(self.conv10(x)), 1).flatten(1)


class Shuffle(nn.Module):
    """Halves of the channels take different ways and are shuffled, as in ShuffleNet."""

    def __init__(self, width: int = 32, classes: int = 10) -> None:
        super().__init__()
        self.stem = conv_norm(3, width, 3, 2)
        self.branch = nn.Sequential(
            conv_norm(width // 2, width // 2, 1), conv_norm(width // 2, width // 2, 3, 1, width // 2, "")
        )
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for _ in range(2):
            first, second = x.chunk(2, dim=1)
            x = torch.cat((first, self.branch(second)), dim=1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.fc(x.mean(3).mean(2))


class TwoInputs(nn.Module):
    """An image and another of half its size, joined by concatenation and addition, and numbers beside them."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, 2, 1)
        self.right = nn.Conv2d(1, 8, 3, 1, 1)
        self.fc = nn.Linear(16 + 4, classes)

    def forward(self, image: Tensor, depth: Tensor, numbers: Tensor) -> Tensor:
        left, right = functional.relu(self.left(image)), functional.relu(self.right(depth))
        x = torch.cat([left + right, left], 1)
        return self.fc(torch.cat([x.mean([2, 3]), numbers], 1))
