"""Pretrained networks of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

from videomatch.common.checkpoint import flatten_pooled
from videomatch.common.precision import default_device, multiplies_bf16
from videomatch.experts import BaseExpert


class NetworkExpert(BaseExpert):
    """An expert with a pretrained network. Its options are ``backbone`` (folder or hub id of a checkpoint), ``batch``
    (rows at a time), ``precision`` (``float32``, ``bfloat16``, or ``auto``: bfloat16 where the machine multiplies it
    natively), and ``pooling``: ``pooled`` (the model's own), ``first`` (token), ``mean``, ``auto``."""

    poolings = ("auto", "pooled", "first", "mean")

    model: Any  # on its device

    def load(self, backbone: str, *, batch: int, pooling: str, precision: str) -> Any:
        """The network of a checkpoint without its text side, on the CPU; sets all but ``shape`` and ``request``."""
        name = type(self).__module__.rpartition(".")[2]
        if pooling not in self.poolings:
            raise ValueError(f"{name}: pooling {pooling!r}, expected one of {', '.join(self.poolings)}")
        if batch < 1:
            raise ValueError(f"{name}: batch = {batch}, expected at least 1")
        self.batch = batch
        self.config = config_of(backbone)
        self.device, self.precision, made_with = device_and_dtype(precision)
        names = self.config.architectures or []
        # AutoModel knows only the variant without the projection
        kind = next((getattr(transformers, n) for n in names if n.endswith("VisionModelWithProjection")), AutoModel)
        model, info = kind.from_pretrained(backbone, output_loading_info=True)
        missing = sorted(k for k in info["missing_keys"] if not k.startswith("text_"))  # would be drawn at random
        required = [k for k in missing if not k.startswith(("pooler.", "vision_model.pooler."))]
        if required:
            raise ValueError(f"{backbone}: the weights lack {required[0]} (and {len(required) - 1} more)")
        if hasattr(model, "text_model"):
            model.text_model = None  # half of a CLIP's memory
        flatten_pooled(model)
        self.pooling: str = pooling if pooling != "auto" else self.default_pooling(model, not missing)
        self.about = {**made_with, "pooling": self.pooling}
        return model.eval().requires_grad_(False)

    def infer(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            items = torch.from_numpy(np.require(batch, requirements=["C", "W"])).to(self.device, non_blocking=True)
            return features(self.model, self.inputs(items), self.pooling).float().cpu().numpy()

    def inputs(self, items: torch.Tensor) -> dict[str, torch.Tensor]:
        """A batch of :meth:`infer`, on the device of the network, as the network's inputs."""
        raise NotImplementedError

    def default_pooling(self, model: PreTrainedModel, has_pooler: bool) -> str:
        """The pooling of ``auto``. ``has_pooler``: the pooling layer, if there is one, has trained weights."""
        return "pooled" if has_pooler else "first"


def from_checkpoint(kind: Any, checkpoint: str, what: str) -> Any:
    """``kind.from_pretrained`` of a folder or hub id; a ValueError names ``what`` is missing there."""
    try:
        return kind.from_pretrained(checkpoint)
    except (OSError, ValueError, ImportError) as error:  # timm may be missing
        here = "; the folder exists" if Path(checkpoint).is_dir() else ""
        raise ValueError(f"no {what} at {checkpoint!r}{here}: {error}") from error


def config_of(checkpoint: str) -> PreTrainedConfig:
    """The configuration of a folder or hub id."""
    return from_checkpoint(AutoConfig, checkpoint, "checkpoint of transformers")


def find_file(checkpoint: str, *names: str) -> Path | None:
    """The first of some files that a folder or hub id has."""
    if Path(checkpoint).is_dir():
        return next((Path(checkpoint) / name for name in names if (Path(checkpoint) / name).is_file()), None)
    for name in names:
        try:
            return Path(hf_hub_download(checkpoint, name))
        except EntryNotFoundError:
            continue
    return None


def features(model: Any, inputs: Mapping[str, torch.Tensor], pooling: str) -> torch.Tensor:
    """The embeddings ``(n, dim)`` of frames, clips or sounds."""
    if pooling == "pooled":
        for name in ("get_image_features", "get_video_features", "get_audio_features"):
            if hasattr(model, name):
                return getattr(model, name)(**inputs).pooler_output
    else:
        model = getattr(model, "vision_model", model)
    if hasattr(model, "get_encoder") and model.config.is_encoder_decoder:
        model = model.get_encoder()
    # V-JEPA 2's second network predicts what is masked: not needed
    output = model(**inputs, **({"skip_predictor": True} if hasattr(model, "predictor") else {}))
    if pooling == "pooled":
        embeds = getattr(output, "image_embeds", None)
        return output.pooler_output.flatten(1) if embeds is None else embeds
    hidden = output.last_hidden_state
    if hidden.ndim == 4:  # a convolutional map has no first token
        return hidden.mean((2, 3))
    return hidden[:, 0] if pooling == "first" else hidden.mean(1)


def device_and_dtype(precision: str) -> tuple[torch.device, torch.dtype, dict[str, str]]:
    """A GPU if there is one; the type that the option ``precision`` names; and both for :attr:`BaseExpert.about`."""
    device = default_device()
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision {precision!r}, expected one of auto, float32, bfloat16")
    if precision == "auto":
        precision = "bfloat16" if multiplies_bf16(device) else "float32"
    return device, getattr(torch, precision), {"device": device.type, "precision": precision}
