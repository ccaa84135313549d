"""What there is to choose about the joint encoder of :mod:`videomatch.models.fusion_bert`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig

from videomatch.models import _encoders

HEADS = ("tags", "tokens", "frames")
POOLS = ("mean", "attention", "mean_all", "attention_all")
LAYOUTS = ("frames_inside", "frames_first")


class Config(PretrainedConfig):
    """A joint encoder.

    Args:
        layers, width, heads_count, ffn: depth, hidden size, attention heads and feed-forward size of an encoder (BERT)
            from scratch; a pretrained one brings its own.
        dropout: of hidden states and of attention.
        embedding_dim: dimensions of the embedding.
        pool: ``mean`` or ``attention`` over what is there; ``mean_all`` or ``attention_all`` over padding, too.
        tags_from: the tag head reads the state of [CLS] (``cls``) or the ``embedding`` before its normalisation,
            either through a ReLU.
        heads: which of ``tags``, ``tokens`` and ``frames`` there are.
        pretrained: hub id or folder of a BERT-like encoder whose size and (see :func:`initialise`) weights are taken.
        vocab_size, pad_token_id, cls_token_id, sep_token_id: of the tokenizer; the stage fills this and what follows.
        frame_dim: dimensions of a frame.
        max_frames, max_tokens: longest sequences.
        layout: of the sequence (``frames_inside``, ``frames_first``); it does not change what is computed.
        num_tags: outputs of the tag head; by default as many as ``id2label`` names.
        id2label: names of the tags.
        encoder: configuration of the encoder, as a saved configuration has it; wins over ``pretrained`` and sizes.

    Raises:
        ValueError: an option is unknown, or options do not go together.
    """

    model_type = "fusion_bert"

    def __init__(
        self,
        *,
        layers: int = 4,
        width: int = 128,
        heads_count: int = 4,
        ffn: int = 512,
        dropout: float = 0.1,
        embedding_dim: int = 256,
        pool: str = "mean",
        tags_from: str = "cls",
        heads: Sequence[str] = (),
        pretrained: str | None = None,
        vocab_size: int = 21128,
        pad_token_id: int = 0,
        cls_token_id: int = 101,
        sep_token_id: int = 102,
        frame_dim: int = 1536,
        max_frames: int = 32,
        max_tokens: int = 36,
        layout: str = "frames_inside",
        num_tags: int | None = None,
        id2label: dict[int, str] | None = None,
        encoder: dict[str, Any] | PretrainedConfig | None = None,
        **others: Any,
    ) -> None:
        for name, value, known in (("pool", pool, POOLS), ("layout", layout, LAYOUTS)):
            if value not in known:
                raise ValueError(f"fusion_bert: {name} {value!r}, expected {', '.join(known)}")
        if tags_from not in ("cls", "embedding"):
            raise ValueError(f"fusion_bert: tags_from {tags_from!r}, expected cls or embedding")
        if odd := [head for head in heads if head not in HEADS]:
            raise ValueError(f"fusion_bert: no head {odd[0]!r}; there are {', '.join(HEADS)}")
        num_tags = len(id2label or ()) if num_tags is None else num_tags
        if "tags" in heads and not num_tags:
            raise ValueError("fusion_bert: a head for tags, but the examples have none (num_tags, id2label)")
        if "frames" in heads and not max_frames:
            raise ValueError("fusion_bert: a head for frames, but max_frames is 0")
        if encoder is None and pretrained is None:
            encoder = {
                "model_type": "bert",
                "vocab_size": vocab_size,
                "hidden_size": width,
                "num_hidden_layers": layers,
                "num_attention_heads": heads_count,
                "intermediate_size": ffn,
                "max_position_embeddings": max_tokens,
                "pad_token_id": pad_token_id,
            }
        found: Any = _encoders.configured(
            encoder or str(pretrained), dropout=dropout, vocab_size=vocab_size, tokens=max_tokens
        )
        self.encoder = found
        self.layers, self.width, self.ffn = found.num_hidden_layers, found.hidden_size, found.intermediate_size
        self.heads_count, self.vocab_size = found.num_attention_heads, vocab_size
        self.dropout, self.embedding_dim, self.pool, self.tags_from = dropout, embedding_dim, pool, tags_from
        self.heads, self.pretrained, self.layout, self.num_tags = list(heads), pretrained, layout, num_tags
        self.frame_dim, self.max_frames, self.max_tokens = frame_dim, max_frames, max_tokens
        if id2label is not None:
            others |= {"id2label": id2label, "label2id": {name: number for number, name in id2label.items()}}
        self.pad_token_id, self.cls_token_id, self.sep_token_id = pad_token_id, cls_token_id, sep_token_id
        super().__init__(**others)
