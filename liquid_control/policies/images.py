"""Images before a circuit: convolutions over the parts of an observation that are images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import (
    get_flattened_obs_dim,
    is_image_space_channels_first,
)
from torch import Tensor, nn

from liquid_control.policies.observations import image_spaces, privileged_count


@dataclass(frozen=True)
class Pixels:
    """The place of images among flat features: vectors come before, all else after them.

    Attributes:
        first: index of the first pixel.
        size: number of pixels of all images, channels included; zero without images.
    """

    first: int
    size: int

    @classmethod
    def of(cls, space: spaces.Space[Any], features: int) -> Pixels:
        """Return the place in `features` features of a space, privileged ones included."""
        size = sum(map(get_flattened_obs_dim, image_spaces(space).values()))
        return cls(features - privileged_count(space) - size, size)

    def split(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split (..., features) into vectors, pixels and the rest."""
        vectors, pixels, rest = features.tensor_split((self.first, self.first + self.size), dim=-1)
        return vectors, pixels, rest

    def take(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return (..., features) without pixels, and the pixels."""
        if not self.size:
            return features, features[..., :0]
        vectors, pixels, rest = self.split(features)
        return torch.cat([vectors, rest], dim=-1), pixels

    def put(self, others: Tensor, pixels: Tensor) -> Tensor:
        """Return features, the inverse of `take`."""
        if not self.size:
            return others
        return torch.cat([others[..., : self.first], pixels, others[..., self.first :]], dim=-1)


@dataclass(frozen=True)
class Images:
    """The images among flat features, and the convolutions over each of them.

    Attributes:
        pixels: their place.
        shapes: (channels, height, width) of each image.
        layers: filters, kernel size and stride of each convolution.
        features: outputs for each image.
    """

    pixels: Pixels
    shapes: tuple[tuple[int, int, int], ...]
    layers: tuple[tuple[int, int, int], ...]
    features: int

    def left(self, features: int) -> int:
        """Return the number of features after `features` flat ones are encoded."""
        return features - self.pixels.size + len(self.shapes) * self.features

    def build(self) -> ImageEncoder:
        """Return an encoder with new weights."""
        return ImageEncoder(self)


class ImageEncoder(nn.Module):
    """Replaces the images in flat features by their encodings.

    By default the layers are those of SB3's NatureCNN (Mnih et al. 2015), with relu after each,
    then one linear layer with tanh. Inputs are from 0 to 1, as SB3 scales uint8 images.
    """

    def __init__(self, images: Images) -> None:
        super().__init__()
        self.images = images
        self.networks = nn.ModuleList(_network(images, shape) for shape in images.shapes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (..., features) to (..., features with `Images.features` for each image)."""
        images = self.images
        before, pixels, after = images.pixels.split(features)
        parts = pixels.split([math.prod(shape) for shape in images.shapes], dim=-1)
        encoded = [
            network(part.reshape(-1, *shape)).view(*features.shape[:-1], images.features)
            for network, part, shape in zip(self.networks, parts, images.shapes, strict=True)
        ]
        return torch.cat([before, *encoded, after], dim=-1)


def to_bytes(pixels: Tensor) -> Tensor:
    """Return pixels from 0 to 1 as they were before SB3 scaled them."""
    return pixels.mul(255).round().to(torch.uint8)


def from_bytes(pixels: Tensor) -> Tensor:
    """Scale pixels as SB3 does, the inverse of `to_bytes`."""
    return pixels.float() / 255


def images_among(
    space: spaces.Space[Any], pixels: Pixels, layers: Sequence[Sequence[int]], features: int
) -> Images | None:
    """Return the images of an observation, None if there are none.

    Args:
        space: of observations; images channels first, as SB3's VecTransposeImage leaves them.
        pixels: as in `Images`.
        layers: as in `Images`.
        features: as in `Images`.

    Raises:
        ValueError: an image has its channels last or is too small, or a layer is invalid.
    """
    if not (parts := image_spaces(space).values()):
        return None
    checked = _checked(layers)
    shapes = []
    for part in parts:
        if not isinstance(part, spaces.Box) or not is_image_space_channels_first(part):
            raise ValueError(
                f"images must have their channels first, got {part.shape}; agents transpose "
                "environments' images, elsewhere use SB3's VecTransposeImage"
            )
        channels, height, width = part.shape
        _check_fits((height, width), checked)
        shapes.append((channels, height, width))
    return Images(pixels, tuple(shapes), checked, features)


def _checked(layers: Sequence[Sequence[int]]) -> tuple[tuple[int, int, int], ...]:
    found = []
    for layer in layers:
        numbers = tuple(layer) if isinstance(layer, Sequence) else ()
        whole = all(isinstance(each, int) and each > 0 for each in numbers)
        if len(numbers) != 3 or not whole:
            raise ValueError(
                "image_layers must list filters, kernel and stride of each layer, such as "
                f"[[16, 4, 2], [32, 3, 2]], got {layer!r}"
            )
        found.append((numbers[0], numbers[1], numbers[2]))
    return tuple(found)


def _check_fits(size: tuple[int, int], layers: tuple[tuple[int, int, int], ...]) -> None:
    left = size
    for _, kernel, stride in layers:
        left = ((left[0] - kernel) // stride + 1, (left[1] - kernel) // stride + 1)
        if min(left) < 1:
            raise ValueError(
                f"images of {size[0]} x {size[1]} are too small for image_layers="
                f"{[list(each) for each in layers]}; give smaller kernels and strides, such as "
                "[[16, 3, 2], [32, 3, 2]]"
            )


def _network(images: Images, shape: tuple[int, int, int]) -> nn.Sequential:
    channels, height, width = shape
    layers: list[nn.Module] = []
    for filters, kernel, stride in images.layers:
        layers += [nn.Conv2d(channels, filters, kernel, stride), nn.ReLU()]
        channels = filters
        height, width = (height - kernel) // stride + 1, (width - kernel) // stride + 1
    flat = channels * height * width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, images.features), nn.Tanh())
