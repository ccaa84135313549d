"""Options that the taggers share: multi-label heads, and encoders of a vision transformer's proportions."""

from __future__ import annotations

from typing import Any

#: dimensions of an attention head
HEAD = 32


def several(id2label: dict[int, str] | None) -> dict[str, Any]:
    """Options of a transformers configuration for a multi-label head."""
    return {
        "id2label": id2label,
        "label2id": {name: number for number, name in id2label.items()} if id2label else None,
        "problem_type": "multi_label_classification",
    }


def encoder(model: str, *, width: int, layers: int, dropout: float) -> dict[str, Any]:
    """Options of a transformers configuration for an encoder of a vision transformer's proportions.

    Raises:
        ValueError: the width is not a whole number of heads; the message names the ``model``.
    """
    if width % HEAD:
        raise ValueError(f"{model}: width {width}, expected a multiple of {HEAD} (the size of a head)")
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // HEAD,
        "intermediate_size": 4 * width,
        "hidden_dropout_prob": dropout,
    }
