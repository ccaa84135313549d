"""A linear map of mean features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from videomatch.models import SystemModel


class Config(PretrainedConfig):
    """Dimensions of the features and of the embedding."""

    model_type = "toy_model"

    def __init__(self, *, dim: int = 3, out: int = 4, **given) -> None:
        super().__init__(**given)
        self.dim, self.out = dim, out


class Model(PreTrainedModel, SystemModel):
    """Embeds a video by the mean of its frames."""

    config_class = Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.linear = nn.Linear(config.dim, config.out)
        self.post_init()

    def embed_videos(self, frames: Tensor, mask: Tensor) -> Tensor:
        """(B, out)."""
        weight = mask[..., None].float()
        return self.linear((frames.float() * weight).sum(1) / weight.sum(1).clamp(min=1))

    def forward(self, frames: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """``video_embeds``."""
        return {"video_embeds": torch.nn.functional.normalize(self.embed_videos(frames, mask), dim=-1)}
