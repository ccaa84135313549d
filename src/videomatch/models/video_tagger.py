"""A small VideoMAE encoder (Tong et al. 2022, arXiv:2203.12602) that predicts a video's labels from a few frames.
Motion features are read from the encoder without the head (``AutoModel.from_pretrained`` of a checkpoint).

# Deviation: trained on labels from scratch instead of being pretrained on masked clips, which takes days.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor
from transformers import VideoMAEConfig, VideoMAEForVideoClassification
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from videomatch.models import SystemModel
from videomatch.models._shared import multi_label, normalise, square, vit_sizes


class Config(VideoMAEConfig):
    """A small VideoMAE; patches are of ``patch_size`` pixels and ``tubelet_size`` frames. The stage fills
    ``image_size``, ``num_frames`` and ``id2label``."""

    def __init__(
        self,
        *,
        image_size: int = 64,
        num_frames: int = 4,
        patch_size: int = 16,
        tubelet_size: int = 2,
        width: int = 128,
        layers: int = 4,
        dropout: float = 0.0,
        id2label: dict[int, str] | None = None,
    ) -> None:
        if image_size % patch_size or num_frames % tubelet_size:
            raise ValueError(
                f"video_tagger: {num_frames} frames of {image_size} pixels are no whole number of patches of "
                f"{tubelet_size} x {patch_size} pixels"
            )
        super().__init__(
            image_size=image_size,
            num_frames=num_frames,
            patch_size=patch_size,
            tubelet_size=tubelet_size,
            **vit_sizes("video_tagger", width=width, layers=layers, dropout=dropout),
            **multi_label(id2label),
        )


class Model(VideoMAEForVideoClassification, SystemModel):
    """``VideoMAEForVideoClassification`` that reads frames as they are stored. Patches are cut out and multiplied as
    one matrix: the same sums as the three-dimensional convolution, whose backward pass is slow on a CPU."""

    def forward(self, clips: UInt8[Tensor, "batch time height width 3"]) -> dict[str, Tensor]:
        pixels = normalise(clips.flatten(0, 1))
        embeddings = self.videomae.embeddings
        # pixels of each patch, in the order of the convolution's filters
        size: Any = self.config.patch_size
        cut = pixels.unflatten(0, clips.shape[:2]).unflatten(4, (-1, size)).unflatten(3, (-1, size))
        cut = cut.unflatten(1, (-1, self.config.tubelet_size))
        # batch, time, tube, channel, row, height, column, width
        patches = cut.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(4).flatten(1, 3)
        projection = embeddings.patch_embeddings.projection
        tokens = F.linear(patches, projection.weight.flatten(1), projection.bias)
        tokens = tokens + embeddings.position_embeddings.to(tokens)
        hidden = self.videomae.encoder(tokens).last_hidden_state
        assert self.fc_norm is not None  # the configuration asks for the mean of all tokens
        return {"logits": self.classifier(self.fc_norm(hidden.mean(1)))}

    def initialise(self) -> None:
        """Start the patches' filters as a linear layer (Xavier uniform), as in ViTs without pretraining."""
        filters = self.videomae.embeddings.patch_embeddings.projection.weight
        torch.nn.init.xavier_uniform_(filters.view(len(filters), -1))

    def processor(self) -> VideoMAEImageProcessorPil:
        options = square(self.config.image_size)
        return VideoMAEImageProcessorPil(**options, crop_size=options["size"], do_center_crop=False)
