"""Any clip network of transformers: VideoMAE, TimeSformer, ViViT, V-JEPA 2, X-CLIP …; or a ResNet whose channels are
those of all frames of a window (``models/video_tagger.py``).

A row is the embedding of a window of frames, from the media or from a store of frames (``source:``), whose rate must
be ``rate``. The last window of a video repeats the last frame. The role of S3D in MMT (arXiv:2007.10639).
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from videomatch.experts import Windows, image, seconds
from videomatch.experts._backbone import NetworkExpert, find_file
from videomatch.media.decode import FrameRequest

#: files that say how frames are prepared, the one for videos first
FILES = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
#: what the processors do that their files need not say
IMPLIED: dict[str, dict[str, Any]] = {
    "Vivit": {"size": {"shortest_edge": 256}, "rescale_factor": 1 / 127.5, "offset": True},
    "VJEPA2": {
        "size": {"shortest_edge": 292},
        "crop_size": {"height": 256, "width": 256},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    },
}


class Expert(NetworkExpert):
    """One embedding per window of frames.

    Args:
        rate: frames a second that the network sees; Kinetics' recipes sample every fourth of 30 frames a second.
        num_frames: frames of a window; null for as many as the checkpoint was trained with.
        every: seconds between the begins of two windows, a whole number of frames; null for no overlap.
    """

    def __init__(
        self,
        *,
        backbone: str,
        rate: float = 7.5,
        num_frames: int | None = None,
        every: float | None = None,
        batch: int = 8,
        pooling: str = "auto",
        precision: str = "auto",
    ) -> None:
        model = self.load(backbone, batch=batch, pooling=pooling, precision=precision)
        vision = getattr(self.config, "vision_config", self.config)
        trained = getattr(vision, "num_frames", None) or getattr(self.config, "frames_per_clip", None)
        if trained is None and num_frames is None:
            raise ValueError(f"motion: {backbone} does not say how many frames it reads; give num_frames")
        length = num_frames or trained or 0
        gap = 1 / seconds(rate)
        step = length if every is None else seconds(every) / gap
        if step != int(step):
            raise ValueError(f"motion: every = {every} seconds is {float(step):g} frames at rate {rate:g}, not whole")
        self.windows = Windows(length, int(step))
        self.pixels = pixels_of(backbone, self.config)
        self.request = FrameRequest(gap, self.pixels.resize)
        if self.device.type == "cpu":
            unfold(model)
        self.model = model.to(self.device, self.precision)
        self.about = {**self.about, "num_frames": length}
        height, width = self.pixels.size("motion")
        try:
            self.shape = self.infer(np.zeros((1, length, height, width, 3), np.uint8)).shape[1:]
        except (RuntimeError, ValueError, TypeError) as error:
            what = f"{length} frames of {height} x {width}"
            raise ValueError(f"motion: {backbone} (trained on {trained} frames) cannot read {what}: {error}") from error

    def default_pooling(self, model: PreTrainedModel, has_pooler: bool) -> str:
        """``pooled`` where there is a trained pooling layer, ``first`` for networks with a class token (TimeSformer,
        ViViT), else ``mean`` (VideoMAE, V-JEPA 2)."""
        if hasattr(model, "get_video_features") or (has_pooler and getattr(model, "pooler", None) is not None):
            return "pooled"
        return "first" if any(name.endswith("cls_token") for name, _ in model.named_parameters()) else "mean"

    def prepare(self, values: np.ndarray) -> np.ndarray:
        return self.pixels.bytes(values)

    def inputs(self, items: torch.Tensor) -> dict[str, torch.Tensor]:
        pixels = self.pixels.floats(items.flatten(0, 1), self.precision)
        name = "pixel_values" if hasattr(self.model, "get_video_features") else self.model.main_input_name
        clips = pixels.contiguous().unflatten(0, items.shape[:2])
        return {name: clips.flatten(1, 2) if self.config.model_type == "resnet" else clips}


def pixels_of(checkpoint: str, config: PreTrainedConfig) -> image.Pixels:
    """By the checkpoint's file about its frames, read as JSON because transformers' own video processors need
    torchvision; without one as for images."""
    file = find_file(checkpoint, *FILES)
    if file is None:
        return image.pixels_of(checkpoint, config)
    given = json.loads(file.read_text(encoding="utf-8"))
    given = given.get("video_processor", given.get("image_processor", given))
    names = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    kind = next((given[n] for n in names if given.get(n)), "")
    implied = next((v for name, v in IMPLIED.items() if kind.startswith(name)), {})
    values = {**implied, **{k: v for k, v in given.items() if v is not None and not k.endswith("_type")}}
    processor: Any = VideoMAEImageProcessorPil(**values)
    processor.rescale_offset = values.get("offset", False)  # ViViT's name for the same
    return image.pixels_of_processor(processor)


class Patches(nn.Module):
    """A convolution over patches that do not overlap, as one product of matrices. PyTorch's own takes 17 times as long
    in bfloat16 on a CPU."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.size: tuple[int, ...] = convolution.kernel_size
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``(n, channels, t, h, w)`` to ``(n, dim, t / tubes, h / rows, w / columns)``; a rest is cut off."""
        for axis, size in enumerate(self.size, start=2):
            clips = clips.unfold(axis, size, size)
        patches = clips.permute(0, 2, 3, 4, 1, 5, 6, 7).flatten(4)
        return F.linear(patches, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)


def unfold(model: nn.Module) -> None:
    """Replace each convolution over patches of space and time by :class:`Patches`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.Conv3d) or child.kernel_size != child.stride or child.groups > 1:
                continue
            if child.padding in ((0, 0, 0), "valid") and child.dilation == (1, 1, 1):
                setattr(parent, name, Patches(child))
