"""Networks of several inputs: one encoder for each part of a Dict or Tuple, joined, then a perceptron.

| part                                  | encoder                                                                   |
|---|---|
| image: bytes in 2, 3 or 4 dimensions  | convolutions 3 x 3 with stride 2 and padding 1, for any size, then a layer |
| other Box, MultiBinary                | hidden layers                                                             |
| Discrete, MultiDiscrete               | one-hots as they are, or an embedding: a linear layer without bias        |

The first of four axes counts stacked frames, which become channels. An embedding of a one-hot is a Linear layer, so
that solvers by layers know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rlopt.core.checks import at_least_one, check, positive
from rlopt.envs.observations import Image, as_image, declared, describe_space, image, is_picture
from rlopt.errors import UserError
from rlopt.policy.mlp import ACTIVATIONS, initialise_orthogonal
from rlopt.policy.parts import Part, parts_of

_OF_A_PART = ("channels", "features", "vector", "embedding", "image")


@dataclass(frozen=True)
class MultiInput:
    """One encoder for each part of the observation, joined, then hidden layers of the widths ``hidden``.

    ``encoders`` has other values of channels, features, vector, embedding and image for single parts, by key.
    """

    channels: tuple[int, ...]  # of an image's convolutions; each halves its sides
    features: int  # units of the layer after them
    vector: tuple[int, ...]  # widths of the layers of numbers
    embedding: int | None  # numbers for a category; None: one-hots as they are
    image: str  # auto | channels_first | channels_last | none
    encoders: dict[str, Any]  # key -> {option: value}
    hidden: tuple[int, ...]
    activation: str
    gain: float  # of the orthogonal weights of all but the last layer
    last_gain: float  # of the last layer's

    def __post_init__(self) -> None:
        for name in ("channels", "vector", "hidden"):
            check(isinstance(getattr(self, name), tuple), name, "a list of whole numbers", getattr(self, name))
            for number in getattr(self, name):
                at_least_one(name, number)
        check(len(self.channels) > 0, "channels", "a list of one width or more", self.channels)
        at_least_one("features", self.features)
        if self.embedding is not None:
            at_least_one("embedding", self.embedding)
        orders = ("auto", "channels_first", "channels_last", "none")
        check(self.image in orders, "image", f"one of {', '.join(orders)}", self.image)
        check(self.activation in ACTIVATIONS, "activation", f"one of {', '.join(ACTIVATIONS)}", self.activation)
        positive("gain", self.gain)
        positive("last_gain", self.last_gain)
        for key in self._own:
            self._of(key)

    @property
    def _own(self) -> dict[str, Any]:
        """``encoders`` by the names of parts: the places of a Tuple may be typed as numbers."""
        return {str(key): options for key, options in self.encoders.items()}

    def sees(self, space: gym.Space) -> None:
        """It takes every kind of observations; what does not suit ``encoders`` is refused by `build`."""

    def _check_keys(self, space: gym.Space) -> None:
        names = [part.name for part in parts_of(declared(space)) if part.name]
        wanted = (
            f"by the keys of the observations, {', '.join(names)}" if names else "{} where observations have no keys"
        )
        for key in self._own:
            near = get_close_matches(key, names, n=1)
            check(key in names, "encoders", wanted + (f" (did you mean {near[0]}?)" if near else ""), key)

    def build(self, space: gym.Space, outputs: int, generator: torch.Generator) -> nn.Module:
        """A network from flat observations (N, D) of ``space`` to (N, outputs); ``generator`` draws its weights.

        Raises ValueError where ``encoders`` does not suit the space.
        """
        self._check_keys(space)
        if (pixels := image(space)) is not None:  # an image by itself: rows are bytes
            self._check_order(pixels)
            encoders, high = [self._convolutions(pixels, generator)], pixels.high
            slices = [slice(0, None)]
        else:
            parts, high = list(parts_of(declared(space))), 1.0
            encoders, slices = [self._encoder(part, generator) for part in parts], [part.at for part in parts]
        width = sum(encoder.width for encoder in encoders)
        trunk = self._layers(width, self.hidden, generator)
        last = self._linear(self.hidden[-1] if self.hidden else width, outputs, self.last_gain, generator)
        return _Joined(encoders, slices, nn.Sequential(*trunk, last), high)

    def _of(self, key: str) -> MultiInput:
        """The options for one part."""
        own = self._own.get(key, {})
        wanted = f"a mapping of {', '.join(_OF_A_PART)}"
        check(isinstance(own, Mapping) and set(own) <= set(_OF_A_PART), f"encoders.{key}", wanted, own)
        if not own:
            return self
        listed: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in own.items()
        }
        try:
            return replace(self, **listed, encoders={})
        except (ValueError, TypeError) as error:
            raise ValueError(f"encoders.{key}.{error}") from error

    def _encoder(self, part: Part, generator: torch.Generator) -> _Encoder:
        own = self._of(part.name)
        size = spaces.flatdim(part.space)
        if not size:
            raise ValueError(
                f"encoders: the part {part.name}, {describe_space(part.space)}, holds no number; leave it out by "
                "gymnasium.wrappers.FilterObservation"
            )
        self._check_effect(part, own)
        if (pixels := own._pixels(part)) is not None:
            return own._convolutions(pixels, generator)
        if isinstance(part.space, spaces.Discrete | spaces.MultiDiscrete):
            if own.embedding is None:
                return _Encoder(nn.Sequential(), size)
            layer = self._linear(size, own.embedding, 1.0, generator, bias=False)
            return _Encoder(nn.Sequential(layer), own.embedding)
        return _Encoder(
            nn.Sequential(*own._layers(size, own.vector, generator)), own.vector[-1] if own.vector else size
        )

    def _check_effect(self, part: Part, own: MultiInput) -> None:
        """Raise ValueError where an option of one part is for parts of another kind."""
        kind = ("vector", "numbers") if own._pixels(part) is None else ("channels, features, image", "an image")
        if isinstance(part.space, spaces.Discrete | spaces.MultiDiscrete):
            kind = "embedding", "categories"
        read = {*kind[0].split(", "), *(["image"] if _has_axes(part.space) else [])}
        for name in self._own.get(part.name, {}):
            if name not in read:
                raise ValueError(
                    f"encoders.{part.name}.{name} has no effect: {part.name}, {describe_space(part.space)}, is taken "
                    f"as {kind[1]}, whose options are {kind[0]}"
                )

    def _check_order(self, pixels: Image) -> None:
        """Raise ValueError where ``image`` says other than what an image by itself has been taken for."""
        if self.image not in ("auto", "channels_last" if pixels.channels_last else "channels_first"):
            raise ValueError(
                f"image={self.image} is for the parts of a Dict or a Tuple, and the observations are one image; type "
                f"observations.image={self.image}"
            )

    def _pixels(self, part: Part) -> Image | None:
        """The shape of the image that a part is; None where it is none."""
        space = part.space
        if self.image == "none" or not _has_axes(space) or (self.image == "auto" and not is_picture(space)):
            return None
        shape = space.shape or ()
        frames, shape = (shape[0], shape[1:]) if len(shape) == 4 else (1, shape)
        try:
            found = image(as_image(spaces.Box(0, 255, shape, np.uint8), self.image))
        except UserError as error:
            raise ValueError(
                f"image=auto cannot tell which axis of {part.name or 'an image'}, {describe_space(space)}, holds the "
                "channels; type policy.image=channels_last or policy.image=channels_first, and critic.image likewise "
                "where critic=multi_input"
            ) from error
        assert found is not None
        return replace(found, frames=frames)

    def _convolutions(self, pixels: Image, generator: torch.Generator) -> _Encoder:
        layers: list[nn.Module] = [_Pixels(pixels)]
        channels, sides = pixels.channels * pixels.frames, [pixels.height, pixels.width]
        for width in self.channels:
            layer = nn.utils.skip_init(nn.Conv2d, channels, width, 3, 2, 1)
            layers += [initialise_orthogonal(layer, self.gain, generator), ACTIVATIONS[self.activation]()]
            channels, sides = width, [(side + 1) // 2 for side in sides]
        layers += [nn.Flatten(), *self._layers(channels * sides[0] * sides[1], (self.features,), generator)]
        return _Encoder(nn.Sequential(*layers), self.features)

    def _layers(self, width: int, hidden: tuple[int, ...], generator: torch.Generator) -> list[nn.Module]:
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [self._linear(width, size, self.gain, generator), ACTIVATIONS[self.activation]()]
            width = size
        return layers

    def _linear(
        self, inputs: int, outputs: int, gain: float, generator: torch.Generator, bias: bool = True
    ) -> nn.Module:
        return initialise_orthogonal(nn.utils.skip_init(nn.Linear, inputs, outputs, bias), gain, generator)


def _has_axes(space: gym.Space) -> bool:
    return isinstance(space, spaces.Box) and len(space.shape) in (2, 3, 4)


class _Encoder(nn.Module):
    """``layers`` from a part's numbers (N, D') to (N, width)."""

    def __init__(self, layers: nn.Sequential, width: int):
        super().__init__()
        self.layers, self.width = layers, width

    def forward(self, numbers: Tensor) -> Tensor:
        encoded: Tensor = self.layers(numbers)
        return encoded


class _Joined(nn.Module):
    """The encoders' results side by side, and the layers after them."""

    def __init__(self, encoders: list[_Encoder], slices: list[slice], trunk: nn.Sequential, high: float):
        super().__init__()
        self.encoders, self.trunk = nn.ModuleList(encoders), trunk
        self._slices, self._high = slices, high

    def forward(self, rows: Tensor) -> Tensor:
        weight: Tensor = self.trunk[-1].weight  # type: ignore[assignment]
        if rows.dtype == torch.uint8:
            rows = rows.to(weight.dtype) / self._high
        parts = [encode(rows[:, at]) for encode, at in zip(self.encoders, self._slices, strict=True)]
        out: Tensor = self.trunk(torch.cat(parts, 1))
        return out


class _Pixels(nn.Module):
    """Flat pixels (N, D') as images with channels first (N, C, H, W), the channels of all frames one after another."""

    def __init__(self, pixels: Image):
        super().__init__()
        self._pixels = pixels

    def forward(self, flat: Tensor) -> Tensor:
        p = self._pixels
        if p.channels_last:
            images = flat.reshape(-1, p.frames, p.height, p.width, p.channels).permute(0, 1, 4, 2, 3)
        else:
            images = flat.reshape(-1, p.frames, p.channels, p.height, p.width)
        return images.reshape(-1, p.frames * p.channels, p.height, p.width)
