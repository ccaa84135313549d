"""What there is to choose about the multi-modal transformer of :mod:`videomatch.models.mmt`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from videomatch.models import _encoders

AGGREGATES = ("max", "mean", "zero")
TOKENS = ("both", "aggregates", "frames")
TEXTS = ("bert", "clip", "words")


class Config(PretrainedConfig):
    """A multi-modal transformer over the rows of several experts, and a text encoder. Defaults are the published ones.

    Args:
        layers, heads, width, ffn: depth, attention heads, hidden size and feed-forward size of the video encoder;
            ``width`` is also the size of an expert's part of an embedding.
        dropout: of hidden states and of attention on both sides, and before the weights of the experts.
        max_positions: of the temporal embedding: aggregates, unknown times, and seconds; later ones share the last.
        temporal: whether there is a temporal embedding.
        aggregate: what an expert's aggregate token starts from: the ``max`` or ``mean`` of all its rows, or ``zero``.
        tokens: what an expert contributes: ``both`` aggregate and frame tokens, ``aggregates``, or ``frames`` alone.
            With ``frames`` its embedding is the mean of its last states.
        centred: start from projections that take out of every expert's rows what they have in common, and weigh their
            numbers alike (see :func:`videomatch.models.mmt.look`).
        keep_missing: an expert that a video lacks still has an embedding and its weight (published); else the weights
            are those of the experts that the video has, divided by their sum.
        text: ``bert`` or ``clip``: the text encoder from scratch; a pretrained one brings its own kind and size. Or
            ``words``: a vector of ``text_width`` for every token, and their mean (in the published code word vectors
            and ``txt_agg: mnp``): what little text there is goes further than with a transformer from scratch.
        text_layers, text_width, text_heads, text_ffn: of the text encoder from scratch.
        pretrained: hub id or folder of a BERT-like encoder, or of a CLIP whose text tower is taken, with its weights
            (see :func:`videomatch.models.mmt.initialise`).
        experts: names and dimensions of the experts; the stage fills this and what follows.
        text_length: longest text in tokens.
        vocab_size, pad_token_id, bos_token_id, eos_token_id: of the tokenizer; CLIP reads a text's state at the last.
        text_encoder: configuration of the text encoder, as a saved configuration has it; wins over ``pretrained``.

    Raises:
        ValueError: an option is unknown, or options do not go together.
    """

    model_type = "mmt"

    def __init__(
        self,
        *,
        layers: int = 4,
        heads: int = 4,
        width: int = 512,
        ffn: int = 3072,
        dropout: float = 0.1,
        max_positions: int = 32,
        temporal: bool = True,
        aggregate: str = "max",
        tokens: str = "both",
        centred: bool = False,
        keep_missing: bool = True,
        text: str = "bert",
        text_layers: int = 12,
        text_width: int = 768,
        text_heads: int = 12,
        text_ffn: int = 3072,
        pretrained: str | None = None,
        experts: Mapping[str, int] | None = None,
        text_length: int = 30,
        vocab_size: int = 28996,
        pad_token_id: int = 0,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        text_encoder: dict[str, Any] | PretrainedConfig | None = None,
        **others: Any,
    ) -> None:
        for name, value, known in (
            ("aggregate", aggregate, AGGREGATES),
            ("tokens", tokens, TOKENS),
            ("text", text, TEXTS),
        ):
            if value not in known:
                raise ValueError(f"mmt: {name} {value!r}, expected {', '.join(known)}")
        if width % heads:
            raise ValueError(f"mmt: width {width} is no multiple of the {heads} heads")
        if max_positions < 3:
            raise ValueError(f"mmt: max_positions {max_positions}, expected at least 3: aggregates, unknown, a second")
        if text == "words" and (pretrained or text_encoder):
            raise ValueError(f"mmt: text words learns its own vectors; pretrained {pretrained!r} is of no use")
        if text_encoder is None and pretrained is None and text != "words":
            size = {
                "vocab_size": vocab_size,
                "hidden_size": text_width,
                "num_hidden_layers": text_layers,
                "num_attention_heads": text_heads,
                "intermediate_size": text_ffn,
                "max_position_embeddings": text_length,
                "pad_token_id": pad_token_id,
            }
            ends = {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
            text_encoder = {"model_type": "bert", **size} if text == "bert" else _clip(size, ends)
        encoder = text_encoder or pretrained
        self.text_encoder = encoder and _checked(encoder, dropout, vocab_size, text_length, eos_token_id)
        self.layers, self.heads, self.width, self.ffn = layers, heads, width, ffn
        self.dropout, self.max_positions, self.temporal = dropout, max_positions, temporal
        self.aggregate, self.tokens, self.centred, self.keep_missing = aggregate, tokens, centred, keep_missing
        self.text, self.text_layers, self.text_width = text, text_layers, text_width
        self.text_heads, self.text_ffn, self.pretrained = text_heads, text_ffn, pretrained
        self.experts = dict(sorted((experts or {}).items()))
        self.text_length, self.vocab_size = text_length, vocab_size
        # transformers keeps these three as they are given
        ids = {"pad_token_id": pad_token_id, "bos_token_id": bos_token_id, "eos_token_id": eos_token_id}
        super().__init__(**{**others, **ids})


def _clip(size: dict[str, Any], ends: dict[str, int | None]) -> dict[str, Any]:
    if None in ends.values():
        raise ValueError(f"mmt: a CLIP text encoder needs a tokenizer with begin and end, got {ends}")
    return {"model_type": "clip_text_model", "hidden_act": "quick_gelu", **size, **ends}


def _checked(
    encoder: dict[str, Any] | PretrainedConfig | str, dropout: float, vocab_size: int, tokens: int, end: int | None
) -> PretrainedConfig:
    """The text encoder's configuration."""
    if isinstance(encoder, str):
        found: Any = AutoConfig.from_pretrained(encoder)
    else:
        found = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
    found = found.text_config if found.model_type == "clip" else found
    if found.model_type != "clip_text_model":
        return _encoders.configured(found, dropout=dropout, vocab_size=vocab_size, tokens=tokens)
    if found.vocab_size < vocab_size or found.max_position_embeddings < tokens:
        has = f"{found.vocab_size} tokens and {found.max_position_embeddings} positions"
        raise ValueError(f"mmt: the text encoder has {has}; the tokenizer has {vocab_size}, texts up to {tokens}")
    if found.eos_token_id not in (2, end):  # with 2 the largest id is the end (see transformers)
        raise ValueError(f"mmt: texts end with {found.eos_token_id} for the text encoder, the tokenizer's with {end}")
    found.attention_dropout = dropout
    return found
