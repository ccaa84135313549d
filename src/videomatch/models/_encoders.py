"""Text encoders of transformers: those whose modules are laid out like BERT's, and the text tower of a CLIP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PretrainedConfig

from videomatch.models._packed import encode

CLIP = "clip_text_model"
#: model types whose layers :mod:`videomatch.models._packed` can run; others differ in layers or in positions
BERTS = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
TEXTS = (*BERTS, CLIP)


def configuration(encoder: dict[str, Any] | PretrainedConfig | str) -> Any:
    """Of a hub id or folder, of its values (with ``model_type``), or as it is."""
    config = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
    return AutoConfig.from_pretrained(encoder) if isinstance(encoder, str) else config


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
    """The configuration of an encoder, or of a CLIP's text tower, with this dropout, checked against a tokenizer and
    the longest text."""
    config = configuration(encoder)
    config = getattr(config, "text_config", config)
    kind = config.model_type
    if kind not in kinds or getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        raise ValueError(f"encoder {kind!r} is not laid out like BERT, expected {', '.join(kinds)}")
    check_vocabulary(config, vocab_size)
    first = 0 if kind in ("bert", "electra", CLIP) else config.pad_token_id + 1
    if config.max_position_embeddings < first + tokens:
        raise ValueError(f"{tokens} tokens, the encoder has {config.max_position_embeddings - first}")
    for name in ("attention_dropout",) if kind == CLIP else ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(config, name, dropout)
    return config


def take_encoder(config: Any, tokens: int, kinds: Sequence[str] = BERTS) -> None:
    """Set the ``encoder`` of a model's configuration: that of a saved one, of ``pretrained``, or a BERT of its sizes,
    which are set to those of the encoder; errors as :func:`configured`."""
    sizes = {
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads_count,
        "intermediate_size": config.ffn,
        "max_position_embeddings": tokens,
        "pad_token_id": config.pad_token_id,
    }
    given = config.encoder or config.pretrained or sizes
    config.encoder = found = configured(given, config.dropout, config.vocab_size, tokens, kinds)
    config.layers, config.width, config.ffn = found.num_hidden_layers, found.hidden_size, found.intermediate_size
    config.heads_count = found.num_attention_heads


def built(config: PretrainedConfig) -> nn.Module:
    """The encoder with fresh weights, without a pooler."""
    is_plain = config.model_type in ("electra", CLIP)
    return AutoModel.from_config(config, **({} if is_plain else {"add_pooling_layer": False}))


class MaskedHead(nn.Module):
    """BERT's head for masked tokens: linear, GELU, norm, linear. AIAC's winners have the same for masked frames."""

    def __init__(self, width: int, outputs: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=eps)
        self.decoder = nn.Linear(width, outputs)

    def forward(self, rows: Float[Tensor, "n width"]) -> Float[Tensor, "n outputs"]:
        return self.decoder(self.norm(F.gelu(self.dense(rows))))


def embedded(
    encoder: Any, input_ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
) -> Float[Tensor, "n hidden"]:
    """Embeddings of the tokens in the mask by the encoder's own modules; all of token type 0."""
    count = getattr(encoder.embeddings, "create_position_ids_from_input_ids", None)
    if count is None:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device).expand(input_ids.shape)
    else:  # RoBERTa begins after the padding id
        positions = count(input_ids, encoder.embeddings.padding_idx)
    rows = encoder.embeddings(input_ids=input_ids[mask][None], position_ids=positions[mask][None])[0]
    return encoder.embeddings_project(rows) if hasattr(encoder, "embeddings_project") else rows


def states(
    encoder: Any,
    input_ids: Int[Tensor, "batch tokens"],
    mask: Bool[Tensor, "batch tokens"],
    wanted: Bool[Tensor, "batch tokens"] | None = None,
) -> Float[Tensor, "n hidden"]:
    """Last states of the tokens in the mask, or of those of them that are ``wanted``; padding is not computed."""
    return encode(encoder.encoder.layer, embedded(encoder, input_ids, mask), mask, wanted=wanted)


def copy_weights(name: str, source: nn.Module, encoder: nn.Module) -> None:
    """Copy the weights of a checkpoint's encoder, without its pooler, if it has one; a ``ValueError`` if it is not the
    configured one."""
    weights, own = (
        {key: value for key, value in module.state_dict().items() if not key.startswith("pooler.")}
        for module in (source, encoder)
    )
    shapes = [{key: value.shape for key, value in state.items()} for state in (weights, own)]
    if shapes[0] != shapes[1]:
        odd = sorted(key for key in {*weights, *own} if shapes[0].get(key) != shapes[1].get(key))
        raise ValueError(f"{name} does not fit the configured encoder: {', '.join(odd[:5])}")
    encoder.load_state_dict(weights, strict=False)


def pretrained(name: str, encoder: nn.Module, head: Any) -> Any:
    """Copy the weights of a checkpoint's encoder, or of a CLIP's text tower; with a ``head`` also those of the
    masked-token head, where there is one that fits it. Returns the checkpoint's model."""
    if head is None or hasattr(configuration(name), "text_config"):
        source: Any = AutoModel.from_pretrained(name, dtype=torch.float32)
        copy_weights(name, getattr(source, "text_model", source), encoder)
        return source
    source = AutoModelForMaskedLM.from_pretrained(name, dtype=torch.float32)
    copy_weights(name, source.base_model, encoder)
    if hasattr(source, "generator_predictions"):  # Electra
        transform, decoder = source.generator_predictions, source.generator_lm_head
    elif hasattr(source, "lm_head"):  # RoBERTa
        transform, decoder = source.lm_head, source.lm_head.decoder
    else:
        transform, decoder = source.cls.predictions.transform, source.cls.predictions.decoder
    norm = transform.layer_norm if hasattr(transform, "layer_norm") else transform.LayerNorm
    parts = [(head.dense, transform.dense), (head.norm, norm), (head.decoder, decoder)]
    if all(mine.weight.shape == theirs.weight.shape for mine, theirs in parts):  # not so for a narrower Electra
        for mine, theirs in parts:
            mine.load_state_dict(theirs.state_dict())
    return source
