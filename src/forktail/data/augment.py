"""From a picture to a tensor: with chance when training, without when measuring."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from forktail.errors import InputError, nearest

AugmentKind: TypeAlias = Literal["none", "shift", "shift-flip", "crop-flip", "randaugment"]

INTERPOLATIONS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side, cut out the centre, normalise; a picture of the right size is only normalised.

    Args:
        size: Side of the square that the network sees, in pixels.
        mean: Mean of each channel, on the scale 0..1.
        std: Standard deviation of each channel, on the scale 0..1.
        interpolation: ``nearest``, ``bilinear``, ``bicubic`` or ``lanczos``.
        crop: Share of the resized shorter side that the centre keeps; the shorter side becomes ``size / crop``.

    Raises:
        InputError: If ``interpolation`` is none of these, or a number is out of range.

    Example:
        >>> prepare = Preprocess(4, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> prepare(Image.new("RGB", (8, 16), "white"))[:, 0, 0]
        tensor([1., 1., 1.])
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    crop: float = 1.0

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f'interpolation "{self.interpolation}"',
                expected="a known one",
                remedy=nearest(self.interpolation, INTERPOLATIONS),
            )
        if self.size < 1 or not all(std > 0 for std in self.std) or not self.crop > 0:
            found = f"preprocessing to size {self.size} with std {self.std} and crop {self.crop}"
            raise InputError(found, expected="numbers > 0")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) of one input."""
        return (3, self.size, self.size)

    def __call__(self, picture: Image.Image) -> Tensor:
        """Turn an RGB picture into a ``(3, size, size)`` float tensor."""
        return self.normalise(np.asarray(self.square(picture)))

    def square(self, picture: Image.Image) -> Image.Image:
        """Resize and cut out the centre."""
        if picture.size == (self.size, self.size):
            return picture
        short = int(self.size / self.crop)
        ratio = short / min(picture.size)
        width, height = (max(short, round(side * ratio)) for side in picture.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        resized = picture.resize((width, height), INTERPOLATIONS[self.interpolation])
        return resized.crop((left, top, left + self.size, top + self.size))

    def normalise(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Turn ``(size, size, 3)`` grey levels into a ``(3, size, size)`` tensor of the given mean and deviation."""
        scale, offset = self._affine
        levels = np.multiply(pixels.transpose(2, 0, 1), scale, order="C")
        levels += offset
        return torch.from_numpy(levels)

    @cached_property
    def _affine(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        mean, std = (np.array(channels, np.float32).reshape(3, 1, 1) for channels in (self.mean, self.std))
        return np.reciprocal(255 * std), np.negative(mean / std)


@dataclass(frozen=True)
class Augment:
    """Change a picture at random, then do what ``Preprocess`` does.

    Chance comes from the global generators of torch and of ``random``, which the engine sets for every example.

    - ``none``: nothing is changed;
    - ``shift``: up to an eighth of the side to each side, the border repeated (characters: a flip is another one);
    - ``shift-flip``: the same, and left and right exchanged half of the time (small photographs);
    - ``crop-flip``: a part of 8 to 100 % of the area, resized, and flipped half of the time (photographs);
    - ``randaugment``: crop-flip, then two operations of RandAugment at magnitude 9, standard deviation 0.5
      (``rand-m9-mstd0.5`` of timm).

    Args:
        preprocess: Size and normalisation.
        kind: One of these kinds.
        erasing: How often a rectangle of 2 to 33 % of the area is replaced by noise (random erasing), in [0, 1].

    Raises:
        InputError: If ``kind`` is none of them.

    Example:
        >>> prepare = Preprocess(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> Augment(prepare, "shift")(Image.new("RGB", (8, 8))).shape
        torch.Size([3, 8, 8])
    """

    preprocess: Preprocess
    kind: AugmentKind
    erasing: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in get_args(AugmentKind):
            raise InputError(
                f'augmentation "{self.kind}"',
                expected="a known one",
                remedy=nearest(self.kind, get_args(AugmentKind)),
            )

    def __call__(self, picture: Image.Image) -> Tensor:
        """Turn an RGB picture into a ``(3, size, size)`` float tensor."""
        match self.kind:
            case "none":
                pixels = np.asarray(self.preprocess.square(picture))
            case "shift":
                pixels = self._shifted(picture)
            case "shift-flip":
                pixels = _flipped(self._shifted(picture))
            case "crop-flip":
                pixels = _flipped(np.asarray(self._cropped(picture)))
            case "randaugment":
                pixels = _flipped(np.asarray(self._cropped(picture)))
                changed = Image.fromarray(pixels)
                for operation in random.choices(self._operations, k=2):
                    changed = operation(changed)
                pixels = np.asarray(changed)
        inputs = self.preprocess.normalise(pixels)
        return self._erase(inputs) if self.erasing else inputs

    @cached_property
    def _erase(self) -> Callable[[Tensor], Tensor]:
        from timm.data.random_erasing import RandomErasing

        erase: Callable[[Tensor], Tensor] = RandomErasing(self.erasing, mode="pixel", device="cpu")  # type: ignore[no-untyped-call]
        return erase

    def _shifted(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        windows = self._windows
        down, right = divmod(int(torch.randint(len(windows) ** 2, ())), len(windows))
        pixels = np.asarray(self.preprocess.square(picture))
        moved: npt.NDArray[np.uint8] = pixels.take(windows[down], axis=0).take(windows[right], axis=1)
        return moved

    @cached_property
    def _windows(self) -> npt.NDArray[np.intp]:
        # Clipped indices repeat the border: the same as padding and cropping, several times faster.
        size = self.preprocess.size
        offsets = np.arange(-(size // 8), size // 8 + 1)
        windows: npt.NDArray[np.intp] = np.clip(offsets[:, None] + np.arange(size), 0, size - 1)
        return windows

    def _cropped(self, picture: Image.Image) -> Image.Image:
        from torchvision.transforms import RandomResizedCrop

        size = self.preprocess.size
        top, left, height, width = RandomResizedCrop.get_params(picture, scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3])
        box = (left, top, left + width, top + height)
        return picture.resize((size, size), INTERPOLATIONS[self.preprocess.interpolation], box=box)

    @cached_property
    def _operations(self) -> list[Callable[[Image.Image], Image.Image]]:
        from timm.data.auto_augment import rand_augment_ops

        fill = tuple(round(255 * level) for level in self.preprocess.mean)
        hints = {"magnitude_std": 0.5, "translate_const": int(0.45 * self.preprocess.size), "img_mean": fill}
        return list(rand_augment_ops(magnitude=9, prob=0.5, hparams=hints))


@dataclass(frozen=True)
class Views:
    """See every picture in several ways, for methods that compare an image with itself.

    Args:
        transforms: One for each view.

    Example:
        >>> prepare = Preprocess(8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        >>> Views((Augment(prepare, "shift"), Augment(prepare, "shift")))(Image.new("RGB", (8, 8))).shape
        torch.Size([2, 3, 8, 8])
    """

    transforms: tuple[Callable[[Image.Image], Tensor], ...]

    def __call__(self, picture: Image.Image) -> Tensor:
        """Turn an RGB picture into ``(V, 3, size, size)``."""
        return torch.stack([transform(picture) for transform in self.transforms])


def _flipped(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Exchange left and right half of the time."""
    return pixels[:, ::-1] if torch.rand(()).item() < 0.5 else pixels
