"""A small BERT (Devlin et al. 2019, arXiv:1810.04805) pretrained by masked tokens. Weights and configuration are those
of transformers' ``BertForMaskedLM``: where a model takes a published BERT (``pretrained``, or a ``backbone``), it takes
this one."""

# pyright: reportIncompatibleMethodOverride=false
from __future__ import annotations

from jaxtyping import Int
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from videomatch.models import SystemModel, _encoders
from videomatch.models._shared import vit_sizes


class Config(BertConfig):
    """A BERT of ``layers`` and ``width``, with feed-forward layers four times as wide, for texts of ``text_length``
    tokens, start and end included. The stage fills what follows."""

    def __init__(
        self,
        *,
        layers: int = 2,
        width: int = 128,
        dropout: float = 0.0,
        text_length: int = 64,
        vocab_size: int = 21128,
        pad_token_id: int = 0,
    ) -> None:
        super().__init__(
            vocab_size=vocab_size,
            pad_token_id=pad_token_id,
            max_position_embeddings=text_length,
            attention_probs_dropout_prob=dropout,
            **vit_sizes("text_mlm", width=width, layers=layers, dropout=dropout),
        )


class Model(BertForMaskedLM, SystemModel):
    """``BertForMaskedLM`` that computes no padding, and words only where one was hidden."""

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Int[Tensor, "batch tokens"],
        token_labels: Int[Tensor, "batch tokens"],
    ) -> dict[str, Tensor]:
        """``token_logits`` and ``token_targets`` of the tokens whose label is not -100."""
        mask, hidden = attention_mask.bool(), token_labels != -100
        rows = _encoders.states(self.bert, input_ids, mask, wanted=hidden & mask)
        return {"token_logits": self.cls(rows), "token_targets": token_labels[hidden]}
