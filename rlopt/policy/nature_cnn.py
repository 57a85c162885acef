"""The convolutional network of Mnih et al. (2015, Human-level control, Methods), with orthogonal initialisation.

Pixels are divided by 255. Then come convolutions without padding, an activation after each, and a perceptron.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from rlopt.core.checks import at_least_one, check, positive
from rlopt.policy.mlp import ACTIVATIONS, orthogonal


@dataclass(frozen=True)
class Image:
    """Shape of an observation of unsigned bytes; stored flat, (B, H W C) or (B, C H W)."""

    height: int  # pixels
    width: int
    channels: int
    channels_last: bool

    @classmethod
    def of(cls, shape: tuple[int, ...]) -> Image:
        """From (H, W), (H, W, C) or (C, H, W); there are no more channels than pixels along a side."""
        first, second, third = shape if len(shape) == 3 else (1, *shape)
        if first < third:
            return cls(second, third, first, channels_last=False)
        return cls(first, second, third, channels_last=True)

    def __str__(self) -> str:
        return f"{self.height} x {self.width} pixels, {self.channels} channel{'s' * (self.channels > 1)}"


@dataclass(frozen=True)
class NatureCNN:
    """One convolution for each of ``channels``, then hidden layers of the widths ``hidden``."""

    channels: tuple[int, ...]
    kernels: tuple[int, ...]  # pixels along a side, one for each convolution
    strides: tuple[int, ...]
    hidden: tuple[int, ...]
    activation: str
    gain: float  # of the orthogonal weights of all but the last layer
    last_gain: float  # of the last layer's

    images: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(len(self.channels) > 0, "channels", "a list of one width or more", self.channels)
        for name in ("channels", "kernels", "strides", "hidden"):
            for number in getattr(self, name):
                at_least_one(name, number)
        for name in ("kernels", "strides"):
            wanted = f"a list of {len(self.channels)}, one for each of channels"
            check(len(getattr(self, name)) == len(self.channels), name, wanted, list(getattr(self, name)))
        check(self.activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}", self.activation)
        positive("gain", self.gain)
        positive("last_gain", self.last_gain)

    def build(self, image: Image, outputs: int, generator: torch.Generator) -> nn.Module:
        """A network from flat images (B, H W C) of bytes to (B, outputs), its weights drawn from ``generator``.

        Raises ValueError where the image is too small for the kernels.
        """
        layers: list[nn.Module] = []
        channels, sides = image.channels, [image.height, image.width]
        for width, kernel, stride in zip(self.channels, self.kernels, self.strides, strict=True):
            check(min(sides) >= kernel, "kernels", f"small enough for {image}", list(self.kernels))
            layer = nn.utils.skip_init(nn.Conv2d, channels, width, kernel, stride)
            layers += [orthogonal(layer, self.gain, generator), ACTIVATIONS[self.activation]()]
            channels, sides = width, [(side - kernel) // stride + 1 for side in sides]
        layers.append(nn.Flatten())
        width = channels * sides[0] * sides[1]
        for size in self.hidden:
            layer = nn.utils.skip_init(nn.Linear, width, size)
            layers += [orthogonal(layer, self.gain, generator), ACTIVATIONS[self.activation]()]
            width = size
        layers.append(orthogonal(nn.utils.skip_init(nn.Linear, width, outputs), self.last_gain, generator))
        return _OfPixels(image, nn.Sequential(*layers))


class _OfPixels(nn.Module):
    """``layers`` on pixels in [0, 1], channels first."""

    def __init__(self, image: Image, layers: nn.Sequential):
        super().__init__()
        self.image, self.layers = image, layers

    def forward(self, flat: Tensor) -> Tensor:
        i = self.image
        if i.channels_last:
            pixels = flat.view(-1, i.height, i.width, i.channels).permute(0, 3, 1, 2)
        else:
            pixels = flat.view(-1, i.channels, i.height, i.width)
        scale: Tensor = self.layers[0].weight  # type: ignore[assignment]  # whose type the pixels take
        out: Tensor = self.layers(pixels.to(scale.dtype) / 255)
        return out
