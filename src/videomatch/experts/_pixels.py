"""From decoded frames to what an image network reads: transformers' image processors, in torch, on bytes.

Resizing stays in uint8 with antialiasing (torch) and differs from the processors (Pillow) by at most 1 level of 255
when frames shrink, 2 when they grow, at 5 to 6 times their speed. What a checkpoint asks for is read from its
``preprocessor_config.json``, all of it: EfficientNet's ``include_top`` divides by the deviation a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedConfig
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD
from transformers.utils.hub import cached_file

#: Pillow's filters that torch has on bytes; the others go through Pillow
MODES = {int(Image.Resampling.BILINEAR): "bilinear", int(Image.Resampling.BICUBIC): "bicubic"}
#: frames longer than this many times their short side are cut around the centre before a centre crop
LONGEST = 16


@dataclass(frozen=True)
class Pixels:
    """How frames become the input of a network.

    Attributes:
        resize: (height, width), or the short side, or None.
        crop: (height, width) cut from the centre, or None.
        resample: number of Pillow's filter.
        scale, shift: per channel; the network reads ``byte * scale + shift``.
    """

    resize: tuple[int, int] | int | None
    crop: tuple[int, int] | None
    resample: int
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def bytes(self, frames: np.ndarray) -> np.ndarray:
        """``(n, h, w, 3)`` uint8 of any size to ``(n, height, width, 3)`` uint8 of the network's."""
        if isinstance(self.resize, int) and self.crop is not None:
            frames = _shorten(frames)
        height, width = frames.shape[1:3]
        if self.resize is not None:
            target = self.resize
            if isinstance(target, int):  # rounded down, as the processors do
                short = target
                target = (short, short * width // height) if height <= width else (short * height // width, short)
            if target != (height, width):
                frames = _resize(frames, target, self.resample)
        return np.ascontiguousarray(frames if self.crop is None else _crop(frames, self.crop))

    def floats(self, frames: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """``(n, height, width, 3)`` uint8 to ``(n, 3, height, width)``, channels last in memory."""
        scale = torch.tensor(self.scale, device=frames.device)
        shift = torch.tensor(self.shift, device=frames.device)
        return torch.addcmul(shift, frames.float(), scale).to(dtype).permute(0, 3, 1, 2)


def of_checkpoint(checkpoint: str, config: PreTrainedConfig) -> Pixels:
    """What the checkpoint's ``preprocessor_config.json`` says; without one, squashed to the size in its configuration
    with bicubic filtering and the statistics of CLIP (models with a text side) or of ImageNet (all others).

    Raises:
        ValueError: the processor does something that is not done here, or no size is known.
    """
    names = ("preprocessor_config.json", "processor_config.json")
    found = [cached_file(checkpoint, n, _raise_exceptions_for_missing_entries=False) for n in names]
    if any(found):
        return of_processor(AutoImageProcessor.from_pretrained(checkpoint))
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None)
    if size is None:
        raise ValueError(f"{checkpoint}: neither preprocessor_config.json nor an image_size in config.json")
    height, width = (size, size) if isinstance(size, int) else size
    is_clip = vision is not config or "clip" in config.model_type
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if is_clip else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    return Pixels(
        resize=(height, width),
        crop=None,
        resample=int(Image.Resampling.BICUBIC),
        scale=tuple(1 / (255 * s) for s in std),
        shift=tuple(-m / s for m, s in zip(mean, std, strict=True)),
    )


def of_processor(processor: Any) -> Pixels:
    """The same for an image processor of transformers.

    Raises:
        ValueError: it does something that is not done here.
    """
    name = type(processor).__name__
    if getattr(processor, "do_pad", None):
        raise ValueError(f"{name}: do_pad is not supported")
    resize = _size(name, processor.size) if processor.do_resize else None
    crop = None
    if getattr(processor, "do_center_crop", None):
        crop = _size(name, processor.crop_size)
        crop = (crop, crop) if isinstance(crop, int) else crop
    mean, std = np.zeros(3), np.ones(3)
    if processor.do_normalize:
        mean, std = np.broadcast_to(processor.image_mean, 3), np.broadcast_to(processor.image_std, 3)
    scale = np.full(3, processor.rescale_factor if processor.do_rescale else 1.0)
    offset = 1.0 if getattr(processor, "rescale_offset", None) else 0.0
    scale, shift = scale / std, (-offset - mean) / std
    if getattr(processor, "include_top", None):
        scale, shift = scale / std, shift / std
    return Pixels(resize, crop, int(processor.resample), tuple(scale.tolist()), tuple(shift.tolist()))


def _size(name: str, size: Any) -> tuple[int, int] | int:
    given = {k: v for k, v in dict(size).items() if v is not None}
    if set(given) == {"height", "width"}:
        return given["height"], given["width"]
    if set(given) == {"shortest_edge"}:
        return given["shortest_edge"]
    raise ValueError(f"{name}: size {given}, expected height and width, or shortest_edge")


def _shorten(frames: np.ndarray) -> np.ndarray:
    """# Deviation: extreme shapes are cut before they are resized, so that their centre may lie half a pixel off. A
    strip of 10000 x 16 pixels would grow to gigabytes before its centre is cut out."""
    height, width = frames.shape[1:3]
    longest = LONGEST * min(height, width)
    top, left = max(0, height - longest) // 2, max(0, width - longest) // 2
    return frames[:, top : height - top, left : width - left]


def _resize(frames: np.ndarray, size: tuple[int, int], resample: int) -> np.ndarray:
    """``(n, *size, 3)`` uint8."""
    if resample not in MODES:
        pictures = (Image.fromarray(f).resize((size[1], size[0]), Image.Resampling(resample)) for f in frames)
        return np.stack([np.asarray(p) for p in pictures])
    tensor = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return F.interpolate(tensor, size, mode=MODES[resample], antialias=True).permute(0, 2, 3, 1).numpy()


def _crop(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut the centre; where a frame is smaller it is filled up with black."""
    height, width = frames.shape[1:3]
    more = [max(0, size[0] - height), max(0, size[1] - width)]
    if any(more):
        # the odd pixel goes where transformers' centre crop puts it
        sides = [((m + 1) // 2, m // 2) for m in more]
        frames = np.pad(frames, ((0, 0), *sides, (0, 0)))
        height, width = frames.shape[1:3]
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    return frames[:, top : top + size[0], left : left + size[1]]
