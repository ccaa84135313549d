"""CLIP (Radford et al. 2021, arXiv:2103.00020) at any size: two transformers that meet in one space. Weights and
configuration are those of transformers' ``CLIPModel``, so a checkpoint loads like one from the hub."""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from videomatch.models import SystemModel
from videomatch.models._shared import normalise


class Config(CLIPConfig):
    """A CLIP of equal width on both sides. Feed-forward layers are four times as wide, heads have 64 dimensions. The
    longest text has ``text_length`` tokens, start and end included. The stage fills what follows."""

    def __init__(
        self,
        *,
        image_size: int = 64,
        patch_size: int = 16,
        width: int = 128,
        vision_layers: int = 4,
        text_layers: int = 2,
        projection_dim: int = 128,
        text_length: int = 32,
        vocab_size: int = 49408,
        pad_token_id: int = 49405,
        bos_token_id: int = 49406,
        eos_token_id: int = 49407,
    ) -> None:
        if width % 64 or image_size % patch_size:
            raise ValueError(
                f"clip: width {width} must be a multiple of 64, image_size {image_size} one of patch_size {patch_size}"
            )
        if eos_token_id == 2:
            raise ValueError("clip: eos_token_id 2 makes transformers pool at the largest id instead; choose another")
        tower = {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_attention_heads": width // 64,
            "projection_dim": projection_dim,
        }
        super().__init__(
            vision_config={
                **tower,
                "num_hidden_layers": vision_layers,
                "image_size": image_size,
                "patch_size": patch_size,
            },
            text_config={
                **tower,
                "num_hidden_layers": text_layers,
                "max_position_embeddings": text_length,
                "vocab_size": vocab_size,
                "pad_token_id": pad_token_id,
                "bos_token_id": bos_token_id,
                "eos_token_id": eos_token_id,
            },
            projection_dim=projection_dim,
        )


class Model(CLIPModel, SystemModel):
    """``CLIPModel`` that reads frames as they are stored."""

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
        pixels = normalise(frames, OPENAI_CLIP_MEAN, OPENAI_CLIP_STD)
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

    def processor(self) -> CLIPImageProcessorPil:
        vision: Any = self.config.vision_config
        size: Any = vision.image_size
        return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
