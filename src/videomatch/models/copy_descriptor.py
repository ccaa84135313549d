"""A small image network for copy detection: embeddings of frames of a copy are near those of its source.

Source: SSCD (Pizzi et al., A Self-Supervised Descriptor for Image Copy Detection, CVPR 2022): contrastive learning
between edited views of an image (``info_nce_views``) and an entropy regulariser (``entropy_spread``), without any
label. The network is a ConvNeXt (Liu et al., CVPR 2022), in the weights and names of transformers' ``ConvNextModel``,
whose pooled output is the descriptor; :mod:`videomatch.experts.image` reads it with ``pooling: pooled``.

# Deviation: SSCD is a ResNet-50 with generalised mean pooling and a linear layer of 512 dimensions, whitened
afterwards. ConvNeXt's average pooling ends in a LayerNorm instead: no statistics of a batch, and dimensions of equal
spread.
# Deviation: transformers draws ConvNeXt's weights from N(0, 0.02) and multiplies residual branches with 1e-6, for 300
epochs of ImageNet; here the weights keep the variance of activations, and branches count from the first step.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor, nn
from transformers import ConvNextConfig, ConvNextModel, ViTImageProcessorPil

from videomatch.models import SystemModel
from videomatch.models._shared import normalise, square


class Config(ConvNextConfig):
    """A small ConvNeXt: ``sizes`` are the channels of each stage, the last the descriptor's dimension; ``depths`` its
    blocks; ``patch_size`` is that of the first convolution."""

    def __init__(
        self,
        *,
        image_size: int = 64,
        sizes: Sequence[int] = (24, 48, 96, 128),
        depths: Sequence[int] = (1, 1, 2, 1),
        patch_size: int = 4,
    ) -> None:
        if len(sizes) != len(depths) or not sizes or min(*sizes, *depths) < 1:
            raise ValueError(f"copy_descriptor: sizes {list(sizes)}, depths {list(depths)}, expected one each a stage")
        super().__init__(
            image_size=image_size,
            hidden_sizes=list(sizes),
            depths=list(depths),
            num_stages=len(sizes),
            patch_size=patch_size,
            layer_scale_init_value=0.0,
        )


class Model(ConvNextModel, SystemModel):
    """``ConvNextModel`` that reads views as they are stored."""

    def __init__(self, config: ConvNextConfig) -> None:
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")

    def forward(self, views: UInt8[Tensor, "images views height width 3"]) -> dict[str, Tensor]:
        """Unit vectors ``view_embeds`` ``(images, views, dim)``."""
        pixels = normalise(views.flatten(0, 1))
        pooled: Any = super().forward(pixel_values=pixels).pooler_output
        return {"view_embeds": F.normalize(pooled.float(), dim=1).unflatten(0, views.shape[:2])}

    def processor(self) -> ViTImageProcessorPil:
        """ViT's: ConvNeXt's own crops an eighth."""
        return ViTImageProcessorPil(**square(self.config.image_size))
