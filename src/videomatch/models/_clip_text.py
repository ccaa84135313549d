"""CLIP's text tower on the tokens that are there, and in its last layer for the end of a text alone.

Results and gradients are those of transformers' ``CLIPTextModel`` (``pooler_output``): attention is causal, so nothing
behind a text's end matters to it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from videomatch.models._packed import Packing, linear, take


def pooled(
    tower: Any, input_ids: Int[Tensor, "batch tokens"], attention_mask: Int[Tensor, "batch tokens"]
) -> Float[Tensor, "batch hidden"]:
    """State of every text at its end, where CLIP reads it.

    Args:
        tower: transformers' ``CLIPTextModel``.
        input_ids, attention_mask: texts; the end is there.
    """
    ends = _ends(tower, input_ids)
    steps = torch.arange(input_ids.shape[1], device=input_ids.device)
    mask = attention_mask.bool() & (steps <= ends[:, None])
    packing = Packing.of(mask)
    places = steps.expand(input_ids.shape)[mask]
    rows = tower.embeddings.token_embedding(input_ids[mask]) + tower.embeddings.position_embedding(places)
    lengths = torch.tensor(packing.lengths, device=rows.device)
    last = lengths.cumsum(0) - 1
    layers = list(tower.encoder.layers)
    for layer in layers[:-1]:
        rows = _after(layer, rows, _everywhere(layer.self_attn, layer.layer_norm1(rows), packing))
    layer = layers[-1]
    said = _at_the_end(layer.self_attn, layer.layer_norm1(rows), packing, last)
    return tower.final_layer_norm(_after(layer, take(rows, last), said))


def _ends(tower: Any, input_ids: Tensor) -> Int[Tensor, " batch"]:
    """Where texts end: at the first end token; for old checkpoints, which name the wrong one, at the largest id."""
    end = tower.config.eos_token_id
    return input_ids.argmax(1) if end == 2 else (input_ids == end).int().argmax(1)


def _after(layer: Any, rows: Tensor, said: Tensor) -> Tensor:
    """What follows attention in a layer."""
    rows = rows + layer.self_attn.out_proj(said)
    return rows + layer.mlp(layer.layer_norm2(rows))


def _everywhere(own: Any, rows: Float[Tensor, "n hidden"], packing: Packing) -> Float[Tensor, "n hidden"]:
    joint = packing.pad(linear(rows, own.q_proj, own.k_proj, own.v_proj))
    query, key, value = joint.unflatten(2, (3, own.num_heads, own.head_dim)).permute(2, 0, 3, 1, 4)
    context = F.scaled_dot_product_attention(
        query, key, value, None, own.dropout if own.training else 0.0, is_causal=True
    )
    return packing.unpad(context.transpose(1, 2).flatten(2))


def _at_the_end(
    own: Any, rows: Float[Tensor, "n hidden"], packing: Packing, last: Int[Tensor, " batch"]
) -> Float[Tensor, "batch hidden"]:
    query = own.q_proj(take(rows, last)).unflatten(1, (own.num_heads, 1, own.head_dim))
    joint = packing.pad(linear(rows, own.k_proj, own.v_proj))
    key, value = joint.unflatten(2, (2, own.num_heads, own.head_dim)).permute(2, 0, 3, 1, 4)
    there: Bool[Tensor, "batch 1 1 tokens"] = packing.taken[:, None, None, :]
    context = F.scaled_dot_product_attention(query, key, value, there, own.dropout if own.training else 0.0)
    return context.flatten(1)
