"""The same networks in PyTorch: Keras's settings of batch normalisation, PyTorch's initial weights."""

from __future__ import annotations

from itertools import pairwise

import recipes
import torch
from torch import nn
from torch.nn import functional

NORMALIZATION = {"eps": 1e-3, "momentum": 0.01}


class Note(nn.Module):
    """The note's CNN, C-P-C-P-FC."""

    def __init__(self, channels: int, side: int, units: int) -> None:
        super().__init__()
        left = ((side - 2) // 2 - 2) // 2
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64 * left * left, units), nn.ReLU(),
            nn.BatchNorm1d(units, **NORMALIZATION), nn.Linear(units, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x))


class Block(nn.Module):
    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.stride = 1 if channels == filters else 2
        self.conv_1 = nn.Conv2d(channels, filters, 3, self.stride, 1, bias=False)
        self.conv_2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.norm_1, self.norm_2 = (nn.BatchNorm2d(filters, **NORMALIZATION) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm_2(self.conv_2(functional.relu(self.norm_1(self.conv_1(x)))))
        if self.stride == 2:
            new = y.shape[1] - x.shape[1]
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, new // 2, new - new // 2))
        return functional.relu(x + y)


class ResNet20(nn.Sequential):
    def __init__(self, channels: int) -> None:
        widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
        super().__init__(
            nn.Conv2d(channels, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16, **NORMALIZATION), nn.ReLU(),
            *(Block(before, after) for before, after in pairwise(widths)),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)


def network(wanted: recipes.Given, shape: tuple[int, ...]) -> nn.Module:
    """For images ``(height, width, channels)``."""
    units = wanted.recipe.dense_units
    return ResNet20(shape[2]) if units is None else Note(shape[2], shape[0], units)


def optimizer(wanted: recipes.Given, model: nn.Module) -> tuple[torch.optim.Optimizer, object]:
    """The optimizer, and its schedule per step."""
    if wanted.recipe.dense_units is None:
        rate, momentum = recipes.RESNET_LEARNING_RATE, recipes.MOMENTUM
        made = torch.optim.SGD(model.parameters(), rate, momentum, nesterov=True)
        return made, torch.optim.lr_scheduler.ConstantLR(made, 1.0)
    made = torch.optim.Adam(model.parameters(), recipes.LEARNING_RATE, eps=1e-7)
    falling = recipes.DECAY_RATE ** (1 / recipes.DECAY_STEPS)
    return made, torch.optim.lr_scheduler.ExponentialLR(made, falling)
