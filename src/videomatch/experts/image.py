"""Any image network of transformers: CLIP (projected embeddings), EfficientNet, ViT, DINOv2, SigLIP …

Frames are scaled by swscale to the network's size while they are decoded (bicubic, like the processors', but chroma is
upsampled otherwise: mean difference to full size and Pillow about 2 of 255 levels), then by torch where that is not the
final size.
"""

from __future__ import annotations

import numpy as np
import torch

from videomatch.experts import seconds
from videomatch.experts._backbone import NetworkExpert, fold, image_features, pixels_of
from videomatch.media.decode import FrameRequest


class Expert(NetworkExpert):
    """One embedding every ``every`` seconds.

    Args:
        backbone: folder or hub id of a checkpoint.
        every: seconds between frames.
        batch: frames at a time, across videos.
        pooling: ``pooled`` (what the model itself calls its embedding), ``first`` (the first token), ``mean`` (of all
            tokens); ``auto`` is ``pooled``, or ``first`` for a checkpoint whose pooling layer was never trained.
        precision: ``float32``, ``bfloat16``, or ``auto``: bfloat16 where the machine multiplies it natively.
    """

    def __init__(
        self, *, backbone: str, every: float = 0.5, batch: int = 32, pooling: str = "auto", precision: str = "auto"
    ) -> None:
        model = self.load(backbone, batch=batch, pooling=pooling, precision=precision)
        self.pixels = pixels_of(backbone, self.config)
        noise = np.random.default_rng(0).integers(0, 256, (2, *self.pixels.size("image"), 3), dtype=np.uint8)
        model = fold(model, self.pixels.floats(torch.from_numpy(noise), torch.float32))
        if any(isinstance(m, torch.nn.Conv2d) and m.groups > 1 for m in model.modules()):
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.model = self.placed(model)
        self.request = FrameRequest(seconds(every), self.pixels.resize)
        self.shape = self.infer(noise[:1]).shape[1:]

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """``(n, h, w, 3)`` uint8 of one video to ``(n, height, width, 3)`` uint8 of the network's size."""
        return self.pixels.bytes(values)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        """``(n, height, width, 3)`` uint8 to ``(n, dim)`` float32."""
        with torch.inference_mode():
            frames = torch.from_numpy(batch).to(self.device, non_blocking=True)
            pixels = self.pixels.floats(frames, self.precision)
            return image_features(self.model, pixels, self.pooling).float().cpu().numpy()
