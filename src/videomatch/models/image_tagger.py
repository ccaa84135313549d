"""A small ResNet (He et al. 2016, arXiv:1512.03385) that predicts a video's labels from one frame. Image features are
read from the backbone without the head (``AutoModel.from_pretrained`` of a checkpoint).

# Deviation: the winners' frames are embedded by an EfficientNet (Tan and Le 2019, arXiv:1905.11946), whose weights load
from the hub. In as many steps as a CPU has time for, one from scratch tells colours apart but no shapes.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import UInt8
from torch import Tensor
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

from videomatch.models import SystemModel
from videomatch.models._shared import multi_label, normalise, resnet_sizes, square


class Config(ResNetConfig):
    """A small ResNet: ``channels`` and ``blocks`` of each stage. The stage fills ``id2label``."""

    def __init__(
        self,
        *,
        image_size: int = 64,
        channels: Sequence[int] = (48, 96, 192),
        blocks: Sequence[int] = (1, 1, 1),
        id2label: dict[int, str] | None = None,
    ) -> None:
        sizes = resnet_sizes("image_tagger", channels=channels, blocks=blocks, image_size=image_size)
        super().__init__(**sizes, **multi_label(id2label))


class Model(ResNetForImageClassification, SystemModel):
    """``ResNetForImageClassification`` that reads frames as they are stored."""

    def forward(self, frames: UInt8[Tensor, "batch height width 3"]) -> dict[str, Tensor]:
        return {"logits": self.classifier(self.resnet(normalise(frames)).pooler_output)}

    def processor(self) -> ViTImageProcessorPil:
        return ViTImageProcessorPil(**square(self.config.image_size))
