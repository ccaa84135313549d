"""Any clip network of transformers: VideoMAE, TimeSformer, ViViT, V-JEPA 2, X-CLIP …

Windows of ``num_frames`` frames, ``rate`` of them a second, go through a network that sees them together: one row a
window, with the time that it saw. What a checkpoint reads is prepared as its own ``preprocessor_config.json`` says
(:mod:`videomatch.experts._pixels`). The role of S3D in MMT (Gabeur et al. 2020, arXiv:2007.10639): its motion expert.

Frames come from the media, or from a store of frames (``reads:``) whose rate must then be ``rate``; squashed ones stay
squashed. The last window of a video repeats the last frame.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil
from transformers.utils.hub import cached_file

from videomatch.experts import _network, _pixels
from videomatch.experts._expert import seconds
from videomatch.experts._windows import Windows
from videomatch.media.decode import FrameRequest

POOLINGS = ("auto", "pooled", "first", "mean")
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


class Expert:
    """One embedding a window of frames.

    Args:
        backbone: folder or hub id of a checkpoint.
        rate: frames a second that the network sees; Kinetics' recipes sample every fourth of 30 frames a second.
        num_frames: frames of a window; null for as many as the checkpoint was trained with.
        every: seconds from the begin of a window to that of the next, a whole number of frames; null for windows that
            follow one another without overlap.
        batch: windows at a time, of as many videos as it takes.
        pooling: ``pooled`` (what the model itself calls its embedding), ``first`` (the first token), ``mean`` (of all
            tokens); ``auto`` is ``pooled`` where there is such a thing with weights, then ``first`` for networks that
            have a class token (TimeSformer, ViViT), else ``mean`` (VideoMAE, V-JEPA 2).
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the machine multiplies it natively.

    Raises:
        ValueError: an option is out of bounds, or the checkpoint is none of a clip network.
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
        if pooling not in POOLINGS:
            raise ValueError(f"motion: pooling {pooling!r}, expected one of {', '.join(POOLINGS)}")
        if batch < 1:
            raise ValueError(f"motion: batch = {batch}, expected at least 1")
        config = _network.config_of(backbone)
        trained = frames_of(config)
        if trained is None and num_frames is None:
            raise ValueError(f"motion: {backbone} does not say how many frames it reads; give num_frames")
        length = num_frames or trained or 0
        gap = 1 / seconds(rate)
        step = length if every is None else seconds(every) / gap
        if step != int(step):
            raise ValueError(f"motion: every = {every} seconds is {float(step):g} frames at rate {rate:g}, not whole")
        self.windows = Windows(length, int(step))
        self.pixels = pixels_of(backbone, config)
        if (self.pixels.crop or self.pixels.resize) is None or not isinstance(
            self.pixels.crop or self.pixels.resize, tuple
        ):
            raise ValueError(f"motion: frames of any shape cannot be batched (resize {self.pixels.resize}, no crop)")
        self.request = FrameRequest(gap, self.pixels.resize)
        self.device, self.precision = _network.device_and_dtype(precision)
        model, has_pooler = _network.load(backbone, config)
        self.pooling = pooling if pooling != "auto" else _pooling(model, has_pooler)
        if self.device.type == "cpu":
            unfold(model)
        self.model = model.to(self.device, self.precision)  # pyright: ignore[reportArgumentType]
        self.batch = batch
        self.dtype = "float16"
        height, width = self.pixels.crop or self.pixels.resize  # pyright: ignore[reportGeneralTypeIssues]
        self.shape = self._try(np.zeros((1, length, height, width, 3), np.uint8), backbone, trained).shape[1:]
        self.about: dict[str, Any] = {
            "device": self.device.type,
            "precision": str(self.precision).removeprefix("torch."),
            "pooling": self.pooling,
            "num_frames": length,
        }

    def _try(self, clips: np.ndarray, backbone: str, trained: int | None) -> np.ndarray:
        try:
            return self.infer(clips)
        except (RuntimeError, ValueError, TypeError) as error:
            what = f"{clips.shape[1]} frames of {clips.shape[2]} x {clips.shape[3]}"
            raise ValueError(f"motion: {backbone} (trained on {trained} frames) cannot read {what}: {error}") from error

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, h, w, 3)`` uint8 of one video to ``(n, height, width, 3)`` uint8 of the network's size."""
        return self.pixels.bytes(values)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """``(n, num_frames, height, width, 3)`` uint8 to ``(n, dim)`` float32."""
        with torch.inference_mode():
            frames = torch.from_numpy(np.require(batch, requirements=["C", "W"])).to(self.device, non_blocking=True)
            pixels = self.pixels.floats(frames.flatten(0, 1), self.precision)
            clips = pixels.contiguous().unflatten(0, frames.shape[:2])
            return features(self.model, clips, self.pooling).float().cpu().numpy()


def frames_of(config: PreTrainedConfig) -> int | None:
    """Frames of a clip as a checkpoint was trained; None if it does not say."""
    vision = getattr(config, "vision_config", config)
    return getattr(vision, "num_frames", None) or getattr(config, "frames_per_clip", None)


def pixels_of(checkpoint: str, config: PreTrainedConfig) -> _pixels.Pixels:
    """What the checkpoint's file about its frames says. The file is read as it is, as transformers' own video
    processors need torchvision; without one as :func:`videomatch.experts._pixels.of_checkpoint`.

    Raises:
        ValueError: the processor does something that is not done here, or no size is known.
    """
    found = [cached_file(checkpoint, n, _raise_exceptions_for_missing_entries=False) for n in FILES]
    file = next((f for f in found if f), None)
    if file is None:
        return _pixels.of_checkpoint(checkpoint, config)
    given = json.loads(Path(file).read_text(encoding="utf-8"))
    given = given.get("video_processor", given.get("image_processor", given))
    names = ("video_processor_type", "image_processor_type", "feature_extractor_type")
    kind = next((given[n] for n in names if given.get(n)), "")
    implied = next((v for name, v in IMPLIED.items() if kind.startswith(name)), {})
    values = {**implied, **{k: v for k, v in given.items() if v is not None and not k.endswith("_type")}}
    if isinstance(values.get("crop_size"), int):
        values["crop_size"] = dict.fromkeys(("height", "width"), values["crop_size"])
    processor: Any = VideoMAEImageProcessorPil(**values)
    processor.rescale_offset = values.get("offset", False)  # ViViT's name for the same
    return _pixels.of_processor(processor)


def features(model: PreTrainedModel, clips: torch.Tensor, pooling: str) -> torch.Tensor:
    """``(n, num_frames, 3, h, w)`` to ``(n, dim)``."""
    network: Any = model
    if pooling == "pooled" and hasattr(network, "get_video_features"):
        out = network.get_video_features(pixel_values=clips)
        return out if isinstance(out, torch.Tensor) else out.pooler_output
    # V-JEPA 2's second network predicts what is masked: not asked
    more = {"skip_predictor": True} if hasattr(network, "predictor") else {}
    out = network(**{model.main_input_name: clips}, **more)
    if pooling == "pooled":
        return out.pooler_output
    hidden = out.last_hidden_state
    return hidden[:, 0] if pooling == "first" else hidden.mean(1)


class Patches(nn.Module):
    """A convolution over patches that do not overlap, as one product of matrices: the same sums. PyTorch's own takes 17
    times as long in bfloat16 on a CPU."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.size: tuple[int, ...] = convolution.kernel_size
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """``(n, channels, t, h, w)`` to ``(n, dim, t / tubes, h / rows, w / columns)``; a rest is cut off."""
        tubes, rows, columns = self.size
        t, h, w = clips.shape[2] // tubes, clips.shape[3] // rows, clips.shape[4] // columns
        clips = clips[:, :, : t * tubes, : h * rows, : w * columns]
        cut = clips.unflatten(4, (w, columns)).unflatten(3, (h, rows)).unflatten(2, (t, tubes))
        # n, channel, t, tube, row, height, column, width
        patches = cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)
        return F.linear(patches, self.weight.flatten(1), self.bias).permute(0, 4, 1, 2, 3)


def unfold(model: nn.Module) -> None:
    """Replace each convolution over patches of space and time by :class:`Patches`."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv3d) and child.kernel_size == child.stride and child.groups == 1:
                plain = child.padding in ((0, 0, 0), "valid") and child.dilation == (1, 1, 1)
                if plain:
                    setattr(parent, name, Patches(child))


def _pooling(model: PreTrainedModel, has_pooler: bool) -> str:
    """What ``auto`` is."""
    if hasattr(model, "get_video_features") or (has_pooler and getattr(model, "pooler", None) is not None):
        return "pooled"
    return "first" if any(name.endswith("cls_token") for name, _ in model.named_parameters()) else "mean"
