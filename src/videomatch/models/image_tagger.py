"""EfficientNet (Tan and Le 2019, arXiv:1905.11946) that predicts a video's tags and category from one frame. Image
features are read from the backbone without the head (``AutoModel.from_pretrained`` of a checkpoint).

# Deviation: transformers draws BatchNorm's scales from N(0, 0.02), after which a network trained from scratch learns
nothing. As in the paper's own code convolutions are drawn by fan-out and scales start at one.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from jaxtyping import UInt8
from torch import Tensor, nn
from transformers import EfficientNetConfig, EfficientNetForImageClassification, EfficientNetImageProcessorPil

from videomatch.models import SystemModel
from videomatch.models._shared import multi_label, normalise, square


class Config(EfficientNetConfig):
    """A scaled EfficientNet: ``width`` and ``depth`` are factors on the channels and on the repeats of EfficientNet-B0.
    The stage fills ``id2label``."""

    def __init__(
        self,
        *,
        image_size: int = 64,
        width: float = 0.35,
        depth: float = 0.35,
        dropout: float = 0.1,
        id2label: dict[int, str] | None = None,
    ) -> None:
        super().__init__(
            image_size=image_size,
            width_coefficient=width,
            depth_coefficient=depth,
            hidden_dim=max(8, int(1280 * width + 4) // 8 * 8),  # what the last convolution is rounded to
            dropout_rate=dropout,
            drop_connect_rate=0.0,
            batch_norm_momentum=0.1,  # transformers' default 0.99 is meant for TensorFlow, where it weights the past
            **multi_label(id2label),
        )


class Model(EfficientNetForImageClassification, SystemModel):
    """``EfficientNetForImageClassification`` that reads frames as they are stored."""

    def __init__(self, config: EfficientNetConfig) -> None:
        super().__init__(config)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # a depthwise filter has one input channel: its fan-out would be the whole layer's
                mode = "fan_in" if module.groups > 1 else "fan_out"
                nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.ones_(module.weight)

    def forward(self, frames: UInt8[Tensor, "batch height width 3"]) -> dict[str, Tensor]:
        pixels = normalise(frames)
        pooled = self.efficientnet(pixels).pooler_output
        return {"logits": self.classifier(self.dropout(pooled))}

    def processor(self) -> EfficientNetImageProcessorPil:
        options = square(self.config.image_size)
        return EfficientNetImageProcessorPil(
            **options,
            crop_size=options["size"],
            include_top=False,  # True divides by the deviation a second time
            rescale_offset=False,
        )
