"""Any image network: of transformers (CLIP, projected, EfficientNet, ViT, DINOv2, SigLIP …) and of timm, by folder or
hub id, and TorchScript files, as which copy descriptors are released (SSCD).

Frames are scaled by swscale to the network's size while they are decoded (mean difference to full size and Pillow about
2 of 255 levels). They are prepared as ``preprocessor_config.json`` says (EfficientNet's ``include_top`` divides by the
deviation a second time), but resized by torch on bytes: at most 1 level of 255 from transformers' processors when
frames shrink, 2 when they grow, at 5 to 6 times their speed.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoImageProcessor, PreTrainedConfig
from transformers.image_transforms import center_crop
from transformers.image_utils import ChannelDimension
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from videomatch.experts import seconds
from videomatch.experts._backbone import NetworkExpert, device_and_dtype, features, find_file
from videomatch.media.decode import FrameRequest, scaled

FOLD_TOLERANCE = 1e-3  #: largest relative change by folding that is rounding
#: Pillow's filters that torch has on bytes; the others go through Pillow
MODES = {int(Image.Resampling.BILINEAR): "bilinear", int(Image.Resampling.BICUBIC): "bicubic"}
#: frames longer than this many times their short side are cut around the centre before a centre crop
MAX_ASPECT = 16


class Expert(NetworkExpert):
    """One embedding every ``every`` seconds. ``pooling: auto`` is ``pooled``, or ``first`` for a checkpoint whose
    pooling layer was never trained.

    A TorchScript file takes ``(n, 3, size, size)`` to ``(n, dim)``. What it does not tell is given: ``size``, to which
    frames are squashed, in pixels, and ``mean`` and ``std`` of channels in [0, 1]."""

    def __init__(
        self,
        *,
        backbone: str,
        every: float = 0.5,
        batch: int = 32,
        pooling: str = "auto",
        precision: str = "auto",
        size: int | None = None,
        mean: Sequence[float] = IMAGENET_DEFAULT_MEAN,
        std: Sequence[float] = IMAGENET_DEFAULT_STD,
    ) -> None:
        if Path(backbone).is_file():
            if size is None or size < 1:
                raise ValueError(f"image: size = {size}, expected the pixels of a side that {backbone} reads")
            # a traced network may hold constants in float32
            self.device, self.precision, self.about = device_and_dtype("float32" if precision == "auto" else precision)
            self.batch, self.pooling = batch, "pooled"
            scale, shift = _normalisation(mean, std)
            pixels = Pixels((size, size), None, int(Image.Resampling.BILINEAR), scale, shift)
            model: Any = _TorchScript(backbone).eval().requires_grad_(False)
        else:
            if size is not None:
                raise ValueError(f"image: size = {size} is of a TorchScript file, {backbone} has its own")
            model = self.load(backbone, batch=batch, pooling=pooling, precision=precision)
            pixels = pixels_of(backbone, self.config)
        self.run(model, pixels, every)

    def run(self, model: Any, pixels: Pixels, every: float) -> None:
        """Take a network (with ``device`` and ``precision`` set) and how it reads frames."""
        self.pixels = pixels
        noise = np.random.default_rng(0).integers(0, 256, (2, *self.pixels.size("image"), 3), dtype=np.uint8)
        model = fold(model, self.pixels.floats(torch.from_numpy(noise), torch.float32))
        if any(isinstance(m, nn.Conv2d) and m.groups > 1 for m in model.modules()):
            model = model.to(memory_format=torch.channels_last)
        self.model = model.to(self.device, self.precision)
        self.request = FrameRequest(seconds(every), self.pixels.resize)
        self.shape = self.infer(noise[:1]).shape[1:]

    def prepare(self, values: np.ndarray) -> np.ndarray:
        return self.pixels.bytes(values)

    def inputs(self, items: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pixel_values": self.pixels.floats(items, self.precision)}


class _TorchScript(nn.Module):
    """A TorchScript file, called as a network of transformers."""

    def __init__(self, file: str) -> None:
        super().__init__()
        try:
            self.network = torch.jit.load(file, map_location="cpu")
        except RuntimeError as error:
            raise ValueError(f"{file}: no TorchScript file ({str(error).splitlines()[0]})") from error
        self.file = file

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        found = self.network(pixel_values)
        if not isinstance(found, torch.Tensor) or found.ndim != 2:
            what = f"a tensor {tuple(found.shape)}" if isinstance(found, torch.Tensor) else type(found).__name__
            raise ValueError(f"{self.file} returns {what}, expected a row of numbers for each frame")
        return SimpleNamespace(pooler_output=found)


def fold(model: Any, pixels: torch.Tensor) -> Any:
    """Fold each BatchNorm into the convolution registered just before it, if the features of ``pixels`` stay as they
    are (registration need not be the order of execution)."""
    if not any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        return model
    folded = copy.deepcopy(model)
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (before, conv), (name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(conv, norm))
                setattr(parent, name, nn.Identity())
    with torch.inference_mode():
        old, new = (features(m, {"pixel_values": pixels}, "pooled") for m in (model, folded))
    close = (old - new).norm() <= FOLD_TOLERANCE * old.norm()
    return folded if bool(close) else model


@dataclass(frozen=True)
class Pixels:
    """How frames become the input of a network, which reads ``byte * scale + shift`` of each channel."""

    resize: tuple[int, int] | int | None  # (height, width), or the short side
    crop: tuple[int, int] | None  # (height, width) cut from the centre
    resample: int  # number of Pillow's filter
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def size(self, expert: str) -> tuple[int, int]:
        """(height, width) of the network's input; an error for an ``expert`` where it depends on the frame."""
        size = self.crop or self.resize
        if not isinstance(size, tuple):
            raise ValueError(f"{expert}: frames of any shape cannot be batched (resize {size}, no crop)")
        return size

    def bytes(self, frames: np.ndarray) -> np.ndarray:
        """``(n, h, w, 3)`` uint8 of any size to ``(n, height, width, 3)`` uint8 of the network's."""
        if isinstance(self.resize, int) and self.crop is not None:
            # Deviation: a strip of 10000 x 16 pixels would grow to gigabytes before its centre is cut out, so that
            # the centre of such frames may be off by half a pixel.
            height, width = (min(side, MAX_ASPECT * min(frames.shape[1:3])) for side in frames.shape[1:3])
            top, left = (frames.shape[1] - height) // 2, (frames.shape[2] - width) // 2
            frames = frames[:, top : frames.shape[1] - top, left : frames.shape[2] - left]
        height, width = frames.shape[1:3]
        target = scaled(self.resize, height, width) if isinstance(self.resize, int) else self.resize
        if target is not None and target != (height, width):
            frames = _resize(frames, target, self.resample)
        if self.crop is not None:
            channels = ChannelDimension.FIRST
            frames = center_crop(frames.transpose(0, 3, 1, 2), self.crop, channels, channels).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(frames)

    def floats(self, frames: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """``(n, height, width, 3)`` uint8 to ``(n, 3, height, width)``, channels last in memory."""
        scale = torch.tensor(self.scale, device=frames.device)
        shift = torch.tensor(self.shift, device=frames.device)
        return torch.addcmul(shift, frames.float(), scale).to(dtype).permute(0, 3, 1, 2)


def pixels_of(checkpoint: str, config: PreTrainedConfig) -> Pixels:
    """By the checkpoint's ``preprocessor_config.json``; without one, squashed to the size in its configuration with
    bicubic filtering and the statistics of CLIP (models with a text side) or of ImageNet (all others)."""
    if config.model_type == "timm_wrapper":
        return pixels_of_timm(checkpoint, config.pretrained_cfg)
    if find_file(checkpoint, "preprocessor_config.json", "processor_config.json"):
        return pixels_of_processor(AutoImageProcessor.from_pretrained(checkpoint))
    vision = getattr(config, "vision_config", config)
    size = getattr(vision, "image_size", None)
    if size is None:
        raise ValueError(f"{checkpoint}: neither preprocessor_config.json nor an image_size in config.json")
    is_clip = vision is not config or "clip" in config.model_type
    mean, std = (OPENAI_CLIP_MEAN, OPENAI_CLIP_STD) if is_clip else (IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
    size = (size, size) if isinstance(size, int) else tuple(size)
    return Pixels(size, None, int(Image.Resampling.BICUBIC), *_normalisation(mean, std))


def _normalisation(mean: Sequence[float], std: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and shift of bytes, by the statistics of channels in [0, 1]."""
    return tuple(1 / (255 * s) for s in std), tuple(-m / s for m, s in zip(mean, std, strict=True))


def pixels_of_timm(checkpoint: str, given: Mapping[str, Any]) -> Pixels:
    """By a checkpoint's ``pretrained_cfg``, as timm prepares pictures for evaluation."""
    height, width = given["input_size"][1:]
    mode = given.get("crop_mode", "center")
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise ValueError(f"{checkpoint}: crop_mode {mode!r} of {height} x {width} pixels is not supported")
    rows, columns = (math.floor(side / given.get("crop_pct", 0.875)) for side in (height, width))
    resize = rows if mode == "center" else (rows, columns)
    resample = int(Image.Resampling[given.get("interpolation", "bicubic").upper()])
    return Pixels(resize, (height, width), resample, *_normalisation(given["mean"], given["std"]))


def pixels_of_processor(processor: Any) -> Pixels:
    """The same for an image processor of transformers; an error if it does something that is not done here."""
    name = type(processor).__name__
    if getattr(processor, "do_pad", None):
        raise ValueError(f"{name}: do_pad is not supported")
    resize = _size(name, processor.size) if processor.do_resize else None
    crop = _size(name, processor.crop_size) if getattr(processor, "do_center_crop", None) else None
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


def _resize(frames: np.ndarray, size: tuple[int, int], resample: int) -> np.ndarray:
    """``(n, *size, 3)`` uint8."""
    if resample not in MODES:
        pictures = (Image.fromarray(f).resize((size[1], size[0]), Image.Resampling(resample)) for f in frames)
        return np.stack([np.asarray(p) for p in pictures])
    tensor = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
    return F.interpolate(tensor, size, mode=MODES[resample], antialias=True).permute(0, 2, 3, 1).numpy()
