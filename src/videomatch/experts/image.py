"""Any image network of transformers: CLIP (projected embeddings), EfficientNet, ViT, DINOv2, SigLIP …

The backbone is a folder or hub id; what it reads is prepared as its own ``preprocessor_config.json`` says. Frames are
scaled by swscale to the network's size while they are decoded (bicubic, like the processors', but chroma is upsampled
otherwise: mean difference to full size and Pillow about 2 of 255 levels), then by torch where that is not the final
size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from videomatch.experts import _network, _pixels
from videomatch.experts._expert import seconds
from videomatch.media.decode import FrameRequest

POOLINGS = ("auto", "pooled", "first", "mean")


class Expert:
    """One embedding every ``every`` seconds.

    Args:
        backbone: folder or hub id of a checkpoint.
        every: seconds between frames.
        batch: frames at a time, of as many videos as it takes.
        pooling: ``pooled`` (what the model itself calls its embedding), ``first`` (the first token), ``mean`` (of all
            tokens); ``auto`` is ``pooled``, or ``first`` for a checkpoint whose pooling layer was never trained.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the machine multiplies it natively.
    """

    def __init__(
        self, *, backbone: str, every: float = 0.5, batch: int = 32, pooling: str = "auto", precision: str = "auto"
    ) -> None:
        if pooling not in POOLINGS:
            raise ValueError(f"image: pooling {pooling!r}, expected one of {', '.join(POOLINGS)}")
        if batch < 1:
            raise ValueError(f"image: batch = {batch}, expected at least 1")
        config = _network.config_of(backbone)
        self.pixels = _pixels.of_checkpoint(backbone, config)
        self.device, self.precision = _network.device_and_dtype(precision)
        model, has_pooler = _network.load(backbone, config)
        self.pooling = pooling if pooling != "auto" else "pooled" if has_pooler else "first"
        height, width = self._input_size()
        noise = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        model = _network.fold(model, self.pixels.floats(torch.from_numpy(noise), torch.float32))
        if any(isinstance(m, torch.nn.Conv2d) and m.groups > 1 for m in model.modules()):
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model = model.to(self.device, self.precision)  # pyright: ignore[reportArgumentType]
        self.batch = batch
        self.request = FrameRequest(seconds(every), self.pixels.resize)
        self.dtype = "float16"
        self.shape = self.infer(noise[:1]).shape[1:]
        self.about: dict[str, Any] = {
            "device": self.device.type,
            "precision": str(self.precision).removeprefix("torch."),
            "pooling": self.pooling,
        }

    def _input_size(self) -> tuple[int, int]:
        size = self.pixels.crop or self.pixels.resize
        if not isinstance(size, tuple):
            raise ValueError(f"image: frames of any shape cannot be batched (resize {size}, no crop)")
        return size

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, h, w, 3)`` uint8 of one video to ``(n, height, width, 3)`` uint8 of the network's size."""
        return self.pixels.bytes(values)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """``(n, height, width, 3)`` uint8 to ``(n, dim)`` float32."""
        with torch.inference_mode():
            frames = torch.from_numpy(batch).to(self.device, non_blocking=True)
            pixels = self.pixels.floats(frames, self.precision)
            return _network.features(self.model, pixels, self.pooling).float().cpu().numpy()
