"""A small ResNet (He et al. 2016, arXiv:1512.03385) that predicts a video's labels from a few frames, stacked as
channels (early fusion: Karpathy et al. 2014, Large-scale Video Classification with Convolutional Neural Networks).
Motion features are read from the backbone without the head (``AutoModel.from_pretrained`` of a checkpoint).

# Deviation: published motion features come from networks in space and time (S3D, VideoMAE), whose weights load from the
hub. Here a clip costs as much as a frame; a VideoMAE from scratch learns little in as many seconds as a CPU has.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jaxtyping import UInt8
from torch import Tensor
from transformers import AutoModel, ResNetConfig, ResNetForImageClassification
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from videomatch.models import SystemModel, _encoders
from videomatch.models._shared import multi_label, normalise, resnet_sizes, square

FIRST = "embedder.embedder.convolution.weight"  #: the only weights that read frames


class Config(ResNetConfig):
    """A small ResNet: ``channels`` and ``blocks`` of each stage, or those of ``vision``, hub id or folder of a ResNet
    from whose weights it starts. The stage fills ``image_size``, ``num_frames`` and ``id2label``."""

    def __init__(
        self,
        *,
        image_size: int = 64,
        num_frames: int = 4,
        channels: Sequence[int] = (48, 96, 192),
        blocks: Sequence[int] = (1, 1, 1),
        vision: str | None = None,
        id2label: dict[int, str] | None = None,
    ) -> None:
        sizes = resnet_sizes("video_tagger", channels=channels, blocks=blocks, image_size=image_size)
        if vision is not None:
            given = _encoders.configuration(vision)
            if given.model_type != "resnet":
                raise ValueError(f"video_tagger: vision {vision!r} is a {given.model_type}, expected a resnet")
            sizes |= {name: getattr(given, name) for name in ("layer_type", "embedding_size", "hidden_sizes", "depths")}
        super().__init__(num_channels=3 * num_frames, **sizes, **multi_label(id2label))
        self.num_frames, self.vision = num_frames, vision


class Model(ResNetForImageClassification, SystemModel):
    """``ResNetForImageClassification`` that reads frames as they are stored."""

    def forward(self, clips: UInt8[Tensor, "batch time height width 3"]) -> dict[str, Tensor]:
        stacked = normalise(clips.flatten(0, 1)).unflatten(0, clips.shape[:2]).flatten(1, 2)
        return {"logits": self.classifier(self.resnet(stacked).pooler_output)}

    def initialise(self) -> None:
        """Take the weights of the image network; the first filters are repeated over time, so that a clip of equal
        frames is seen like the frame (I3D, Carreira and Zisserman 2017, arXiv:1705.07750)."""
        config: Any = self.config
        if config.vision is not None:
            weights = AutoModel.from_pretrained(config.vision).state_dict()
            weights[FIRST] = weights[FIRST].repeat(1, config.num_frames, 1, 1) / config.num_frames
            self.resnet.load_state_dict(weights)

    def processor(self) -> VideoMAEImageProcessorPil:
        options = square(self.config.image_size)
        return VideoMAEImageProcessorPil(**options, crop_size=options["size"], do_center_crop=False)
