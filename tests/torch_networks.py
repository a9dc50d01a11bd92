"""The networks whose weights come in torch's format, as torch computes them: written from their papers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Torch:
    """Functions on the arrays of a state dict."""

    def __init__(self, arrays: Mapping[str, np.ndarray], epsilon: float, same: bool) -> None:
        import torch

        self.torch, self.functional = torch, torch.nn.functional
        self.arrays = {name: torch.tensor(np.array(array)) for name, array in arrays.items()}
        self.epsilon, self.same = epsilon, same

    def convolution(self, x: Any, name: str, strides: int = 1, depthwise: bool = False) -> Any:
        kernel = self.arrays[f"{name}.weight"]
        size = kernel.shape[-1]
        if self.same:  # TensorFlow's: what is odd comes last
            total = [max((-(-n // strides) - 1) * strides + size - n, 0) for n in x.shape[2:]]
            x = self.functional.pad(x, [total[1] // 2, -(-total[1] // 2), total[0] // 2, -(-total[0] // 2)])
        padding, groups = (0 if self.same else size // 2), (x.shape[1] if depthwise else 1)
        return self.functional.conv2d(x, kernel, stride=strides, padding=padding, groups=groups)

    def normalized(self, x: Any, name: str) -> Any:
        parts = [self.arrays[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return self.functional.batch_norm(x, *parts, eps=self.epsilon)

    def active(self, x: Any, name: str) -> Any:
        return self.functional.relu6(self.normalized(x, name))

    def top(self, x: Any, name: str) -> Any:
        pooled = x.mean((2, 3))
        return self.functional.linear(pooled, self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"])


def efficientnet_lite(arrays: Mapping[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Feature maps and logits of pictures ``(n, height, width, 3)``."""
    net = Torch(arrays, 1e-3, same=True)
    y = net.torch.tensor(x).permute(0, 3, 1, 2)
    y = net.active(net.convolution(y, "_conv_stem", 2), "_bn0")
    widths = [arrays[f"_blocks.{n}._project_conv.weight"].shape[0] for n in range(len(arrays))
              if f"_blocks.{n}._project_conv.weight" in arrays]  # fmt: skip
    strides = {24: 2, 40: 2, 48: 2, 80: 2, 88: 2, 192: 2, 208: 2}  # where a stage begins, by its channels
    before = arrays["_conv_stem.weight"].shape[0]
    for index, width in enumerate(widths):
        name, kept, step = f"_blocks.{index}", y, strides.get(width, 1) if width != before else 1
        if f"{name}._expand_conv.weight" in arrays:
            y = net.active(net.convolution(y, f"{name}._expand_conv"), f"{name}._bn0")
        y = net.active(net.convolution(y, f"{name}._depthwise_conv", step, True), f"{name}._bn1")
        y = net.normalized(net.convolution(y, f"{name}._project_conv"), f"{name}._bn2")
        y = y + kept if width == before else y
        before = width
    y = net.active(net.convolution(y, "_conv_head"), "_bn1")
    return y.permute(0, 2, 3, 1).numpy(), net.top(y, "_fc").numpy()


def mobilenet_v2(arrays: Mapping[str, np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Feature maps and logits of pictures ``(n, height, width, 3)``."""
    net = Torch(arrays, 1e-5, same=False)
    y = net.active(
        net.convolution(net.torch.tensor(x).permute(0, 3, 1, 2), "features.0.0", 2), "features.0.1"
    )
    for index in range(1, 18):
        name, kept, last = f"features.{index}.conv", y, 2 if index > 1 else 1
        if index > 1:
            y = net.active(net.convolution(y, f"{name}.0.0"), f"{name}.0.1")
        step = 2 if index in (2, 4, 7, 14) else 1
        filtered = f"{name}.{last - 1}"
        y = net.active(net.convolution(y, f"{filtered}.0", step, True), f"{filtered}.1")
        y = net.normalized(net.convolution(y, f"{name}.{last}"), f"{name}.{last + 1}")
        y = y + kept if step == 1 and y.shape == kept.shape else y
    y = net.active(net.convolution(y, "features.18.0"), "features.18.1")
    return y.permute(0, 2, 3, 1).numpy(), net.top(y, "classifier.1").numpy()
