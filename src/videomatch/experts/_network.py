"""A network of transformers, ready to be run: loaded, folded, on its device, in its precision."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

#: largest relative change by folding that is rounding
FOLD_TOLERANCE = 1e-3


def load(checkpoint: str, config: PreTrainedConfig) -> tuple[PreTrainedModel, bool]:
    """A checkpoint's image side, in evaluation mode, and whether its pooling layer has weights.

    Raises:
        ValueError: the checkpoint lacks weights of the image side (they would be drawn at random).
    """
    names = config.architectures or []
    # AutoModel knows only the variant without the projection
    kind = next((getattr(transformers, n) for n in names if n.endswith("VisionModelWithProjection")), AutoModel)
    model, info = kind.from_pretrained(checkpoint, output_loading_info=True)
    missing = sorted(k for k in info["missing_keys"] if not k.startswith("text_"))
    odd = [k for k in missing if not k.startswith(("pooler.", "vision_model.pooler."))]
    if odd:
        raise ValueError(f"{checkpoint}: the weights lack {odd[0]} (and {len(odd) - 1} more)")
    if hasattr(model, "text_model"):
        model.text_model = None  # pictures only: half of a CLIP's memory
    return model.eval().requires_grad_(False), not missing


def config_of(checkpoint: str) -> PreTrainedConfig:
    """The configuration of a folder or hub id.

    Raises:
        ValueError: there is none.
    """
    try:
        return AutoConfig.from_pretrained(checkpoint)
    except OSError as error:
        here = "; the folder exists" if Path(checkpoint).is_dir() else ""
        raise ValueError(f"no checkpoint of transformers at {checkpoint!r}{here}: {error}") from error


def features(model: PreTrainedModel, pixels: torch.Tensor, pooling: str) -> torch.Tensor:
    """``(n, 3, h, w)`` to ``(n, dim)``."""
    network: Any = model
    if pooling == "pooled":
        if hasattr(network, "get_image_features"):
            out = network.get_image_features(pixel_values=pixels)
            return out if isinstance(out, torch.Tensor) else out.pooler_output
        out = network(pixel_values=pixels)
        embeds = getattr(out, "image_embeds", None)
        return (out.pooler_output if embeds is None else embeds).flatten(1)
    hidden = getattr(network, "vision_model", network)(pixel_values=pixels).last_hidden_state
    if hidden.ndim == 4:  # a convolutional map has no first token
        return hidden.mean((2, 3))
    return hidden[:, 0] if pooling == "first" else hidden.mean(1)


def fold(model: PreTrainedModel, pixels: torch.Tensor) -> PreTrainedModel:
    """Fold each BatchNorm into the convolution registered just before it, if that leaves the features of ``pixels`` as
    they are (registration need not be the order of execution)."""
    if not any(isinstance(m, nn.BatchNorm2d) for m in model.modules()):
        return model
    folded = copy.deepcopy(model)
    for parent in list(folded.modules()):
        children = list(parent.named_children())
        for (before, conv), (name, norm) in itertools.pairwise(children):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(parent, before, fuse_conv_bn_eval(conv, norm))
                setattr(parent, name, nn.Identity())
    with torch.inference_mode():
        old, new = features(model, pixels, "pooled"), features(folded, pixels, "pooled")
    close = (old - new).norm() <= FOLD_TOLERANCE * old.norm()
    return folded if bool(close) else model


def device_and_dtype(precision: str) -> tuple[torch.device, torch.dtype]:
    """Where and how to compute: a GPU if there is one; bfloat16 where the machine multiplies it natively.

    Raises:
        ValueError: ``precision`` is unknown.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if precision in known:
        return device, known[precision]
    if precision != "auto":
        raise ValueError(f"precision {precision!r}, expected one of {', '.join(['auto', *known])}")
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else _cpu_has_bfloat16()
    return device, torch.bfloat16 if native else torch.float32


def _cpu_has_bfloat16() -> bool:
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})
