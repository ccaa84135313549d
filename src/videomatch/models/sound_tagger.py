"""A small Audio Spectrogram Transformer (Gong et al. 2021, arXiv:2104.01778) that predicts a video's labels. Sound
features are read from the encoder without the head (``AutoModel.from_pretrained`` of a checkpoint).

# Deviation: patches do not overlap, and no weights come from a vision transformer pretrained on images: a fraction of
the cost.
"""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

from videomatch.models import SystemModel
from videomatch.models._shared import multi_label, vit_sizes

#: of AudioSet's log-mel, as in the published checkpoints
MEAN, STD = -4.2677393, 4.5689974


class Config(ASTConfig):
    """A small AST of log-mel with a frame every 10 ms. The stage fills ``num_frames``, ``bands`` and ``id2label``."""

    def __init__(
        self,
        *,
        num_frames: int = 98,
        bands: int = 64,
        patch_size: int = 16,
        width: int = 128,
        layers: int = 3,
        dropout: float = 0.0,
        id2label: dict[int, str] | None = None,
    ) -> None:
        if min(num_frames, bands) < patch_size:
            raise ValueError(f"sound_tagger: no patch of {patch_size} fits {num_frames} frames of {bands} bands")
        super().__init__(
            max_length=num_frames,
            num_mel_bins=bands,
            patch_size=patch_size,
            frequency_stride=patch_size,
            time_stride=patch_size,
            **vit_sizes("sound_tagger", width=width, layers=layers, dropout=dropout),
            **multi_label(id2label),
        )


class Model(ASTForAudioClassification, SystemModel):
    """``ASTForAudioClassification`` that reads log-mel as it is stored."""

    def forward(self, log_mel: Float[Tensor, "batch frames bands"]) -> dict[str, Tensor]:
        pooled = self.audio_spectrogram_transformer((log_mel - MEAN) / (2 * STD)).pooler_output
        return {"logits": self.classifier(pooled)}

    def initialise(self) -> None:
        """Start positions and class tokens from N(0, 0.02), as in vision transformers; transformers' are zero, and two
        equal class tokens stay equal."""
        embeddings = self.audio_spectrogram_transformer.embeddings
        for weight in (embeddings.position_embeddings, embeddings.cls_token, embeddings.distillation_token):
            torch.nn.init.trunc_normal_(weight, std=0.02)

    def processor(self) -> ASTFeatureExtractor:
        config = self.config
        return ASTFeatureExtractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length, mean=MEAN, std=STD)
