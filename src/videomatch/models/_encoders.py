"""Text encoders of transformers: those whose modules are laid out like BERT's, and the text tower of a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig

CLIP = "clip_text_model"
#: model types whose layers :mod:`videomatch.models._packed` can run; others differ in layers or in positions
BERTS = ("bert", "camembert", "roberta", "xlm-roberta")


def configuration(encoder: dict[str, Any] | PretrainedConfig | str) -> Any:
    """Of a hub id or folder, of its values (with ``model_type``), or as it is; of a CLIP that of its text tower."""
    config: Any = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
    config = AutoConfig.from_pretrained(encoder) if isinstance(encoder, str) else config
    if config.model_type != "clip":
        return config
    config.text_config.projection_dim = config.projection_dim
    return config.text_config


def check_vocabulary(config: Any, vocab_size: int) -> None:
    """A ``ValueError`` if the tokenizer has more tokens than the encoder."""
    if config.vocab_size < vocab_size:
        raise ValueError(
            f"the encoder knows {config.vocab_size} tokens, the tokenizer {vocab_size}: they do not belong together"
        )


def configured(
    encoder: dict[str, Any] | PretrainedConfig | str,
    dropout: float,
    vocab_size: int,
    tokens: int,
    kinds: Sequence[str] = BERTS,
) -> Any:
    """The configuration of an encoder with this dropout, checked against a tokenizer and the longest text."""
    config = configuration(encoder)
    kind = config.model_type
    if kind not in kinds or getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        raise ValueError(f"encoder {kind!r} is not laid out like BERT, expected {', '.join(kinds)}")
    check_vocabulary(config, vocab_size)
    first = 0 if kind in ("bert", CLIP) else config.pad_token_id + 1
    if config.max_position_embeddings < first + tokens:
        raise ValueError(f"{tokens} tokens, the encoder has {config.max_position_embeddings - first}")
    for name in ("attention_dropout",) if kind == CLIP else ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(config, name, dropout)
    return config


def embedded(
    encoder: Any, input_ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "n hidden"]:
    """Embeddings of the tokens where the mask is true, by the encoder's own modules; all of token type 0."""
    embeddings = encoder.embeddings
    if hasattr(embeddings, "create_position_ids_from_input_ids"):  # RoBERTa begins after the padding id
        positions = embeddings.create_position_ids_from_input_ids(input_ids, embeddings.padding_idx)
    else:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    return embeddings(input_ids=input_ids[mask][None], position_ids=positions[mask][None])[0]


def pretrained(name: str, encoder: nn.Module, head: Any) -> None:
    """Copy the weights of a checkpoint's encoder, and those of its masked-token head if ``head`` is given."""
    source: Any = AutoModelForMaskedLM.from_pretrained(name, dtype=torch.float32)
    encoder.load_state_dict(source.base_model.state_dict())
    if head is None:
        return
    if hasattr(source, "lm_head"):  # RoBERTa
        transform, decoder = source.lm_head, source.lm_head.decoder
    else:
        transform, decoder = source.cls.predictions.transform, source.cls.predictions.decoder
    norm = transform.layer_norm if hasattr(transform, "layer_norm") else transform.LayerNorm
    for mine, theirs in ((head.dense, transform.dense), (head.norm, norm), (head.decoder, decoder)):
        mine.load_state_dict(theirs.state_dict())
