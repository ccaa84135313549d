"""CLIP (Radford et al. 2021, arXiv:2103.00020) at any size: a ResNet (He et al. 2016, arXiv:1512.03385) and a BERT that
meet in one space. Weights and configuration are those of transformers' ``VisionTextDualEncoderModel``, so a checkpoint
loads like one from the hub.

# Deviation: the published ResNets have attention pooling, and a causal transformer is read at the last token of a text.
Here frames are averaged, and texts are read at the first token of a BERT. Both can be pretrained, the image network on
labels and the text encoder on texts alone (LiT, Zhai et al. 2022, arXiv:2111.07991): in as many steps as a CPU has time
for, a contrastive objective alone teaches an image network to tell places apart, but neither shapes nor colours.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from transformers import VisionTextDualEncoderConfig, VisionTextDualEncoderModel, ViTImageProcessorPil

from videomatch.common.checkpoint import flatten_pooled
from videomatch.models import SystemModel, _encoders
from videomatch.models._shared import normalise, resnet_sizes, square, vit_sizes


class Config(VisionTextDualEncoderConfig):
    """A small CLIP.

    Args:
        image_size: of frames, px.
        channels, blocks: of each stage of an image network from scratch.
        vision: hub id or folder of an image network whose size and weights are taken instead.
        locked: whether the image network keeps its weights; then only what projects its features is trained.
        width, text_layers: of a text encoder (BERT) from scratch.
        pretrained: hub id or folder of a BERT-like encoder whose size and weights are taken instead.
        projection_dim: of the common space.
        text_length: tokens of the longest text, start and end included.
    """

    def __init__(
        self,
        *,
        image_size: int = 64,
        channels: Sequence[int] = (48, 96, 192),
        blocks: Sequence[int] = (1, 1, 1),
        vision: str | None = None,
        locked: bool = False,
        width: int = 128,
        text_layers: int = 2,
        pretrained: str | None = None,
        projection_dim: int = 128,
        text_length: int = 32,
        vocab_size: int = 21128,
        pad_token_id: int = 0,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
    ) -> None:
        sizes = {
            "model_type": "bert",
            "vocab_size": vocab_size,
            "max_position_embeddings": text_length,
            "pad_token_id": pad_token_id,
            "bos_token_id": bos_token_id,
            "eos_token_id": eos_token_id,
            **vit_sizes("clip", width=width, layers=text_layers, dropout=0.0),
        }
        text = _encoders.configured(pretrained or sizes, 0.0, vocab_size, text_length)
        scratch = resnet_sizes("clip", channels=channels, blocks=blocks, image_size=image_size)
        images = _encoders.configuration(vision or {"model_type": "resnet", **scratch})
        super().__init__(vision_config=images, text_config=text, projection_dim=projection_dim)
        self.pretrained, self.vision, self.locked = pretrained, vision, locked


class Model(VisionTextDualEncoderModel, SystemModel):
    """``VisionTextDualEncoderModel`` that reads frames as they are stored."""

    def __init__(self, config: VisionTextDualEncoderConfig) -> None:
        super().__init__(config)
        flatten_pooled(self)
        vision: Any = self.vision_model
        vision.requires_grad_(not self.is_locked)

    @property
    def is_locked(self) -> bool:
        return bool(getattr(self.config, "locked", False))

    def train(self, mode: bool = True) -> Self:
        """A locked image network keeps its statistics, too."""
        super().train(mode)
        vision: Any = self.vision_model
        vision.train(mode and not self.is_locked)
        return self

    def forward(
        self,
        frames: UInt8[Tensor, "batch height width 3"],
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
    ) -> dict[str, Tensor]:
        """Unit vectors ``image_embeds`` and ``text_embeds`` ``(batch, dim)``, and ``logit_scale``."""
        return {
            "image_embeds": self.images(frames),
            "text_embeds": self.embed_texts(input_ids, attention_mask),
            "logit_scale": self.logit_scale,
        }

    def images(self, frames: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch dim"]:
        """Unit vectors of single frames."""
        pixels = normalise(frames)
        features: Any = self.get_image_features(pixel_values=pixels)
        return F.normalize(features.pooler_output.float(), dim=-1)

    def embed_texts(
        self, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch dim"]:
        features: Any = self.get_text_features(input_ids=input_ids, attention_mask=attention_mask)
        return F.normalize(features.pooler_output.float(), dim=-1)

    def embed_videos(
        self, frames: UInt8[Tensor, "batch length height width 3"], mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        """The mean of the frames' unit vectors, of unit length again. Every video needs at least one frame."""
        each = self.images(frames[mask])  # only real frames are computed
        owner = mask.nonzero()[:, 0]
        total = torch.zeros(len(frames), each.shape[1], device=each.device).index_add_(0, owner, each)
        return F.normalize(total, dim=-1)

    def initialise(self) -> None:
        """Take the weights of the pretrained image network, and those of the text encoder but for what pools it."""
        towers: dict[str, Any] = {"pretrained": self.text_model, "vision": self.vision_model}
        for name, tower in towers.items():
            folder: Any = getattr(self.config, name, None)
            if folder is not None:
                _encoders.pretrained(folder, tower, None)

    def processor(self) -> ViTImageProcessorPil:
        vision: Any = self.config.vision_config
        return ViTImageProcessorPil(**square(vision.image_size))
