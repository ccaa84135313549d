"""Any audio network of transformers that reads spectrograms: AST, Whisper's encoder, CLAP …

Sound is prepared by the checkpoint's own feature extractor; AST's is computed for a batch at once, with the same
numbers. The role of VGGish in MMT (Gabeur et al. 2020, arXiv:2007.10639). A video without sound has no rows.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import ASTFeatureExtractor, AutoFeatureExtractor, PreTrainedModel

from videomatch.experts import Windows, log_mel, seconds
from videomatch.experts._backbone import NetworkExpert, from_checkpoint
from videomatch.media.sound import SoundRequest


class Expert(NetworkExpert):
    """One embedding every ``every`` seconds, of a window of ``span`` seconds (a multiple of ``every``; null for
    ``every``). Silence follows the end of the video."""

    poolings = ("auto", "pooled", "mean")

    def __init__(
        self,
        *,
        backbone: str,
        every: float = 1.0,
        span: float | None = None,
        batch: int = 16,
        pooling: str = "auto",
        precision: str = "auto",
    ) -> None:
        step, length = seconds(every), seconds(every if span is None else span)
        if (length / step).denominator != 1:
            raise ValueError(f"sound: span = {span} seconds, expected a multiple of every = {every}")
        model = self.load(backbone, batch=batch, pooling=pooling, precision=precision)
        self.extractor = from_checkpoint(AutoFeatureExtractor, backbone, "audio feature extractor")
        self.rate = int(self.extractor.sampling_rate)
        self.request = SoundRequest(step, self.rate)
        self.windows = Windows(int(length / step), 1, "zeros")
        settings = self.extractor
        longest = getattr(settings, "n_samples", None) or getattr(settings, "nb_max_samples", None) or float("inf")
        if type(settings) is ASTFeatureExtractor:
            longest = settings.max_length * log_mel.HOP + log_mel.FRAME - 1
        samples = self.windows.length * self.request.samples
        if not log_mel.FRAME <= samples <= longest:
            limits = f"from {log_mel.FRAME / self.rate:g} to {longest / self.rate:g}"
            raise ValueError(f"sound: windows of {float(length):g} seconds, but {backbone} takes {limits}")
        self.model = model.to(self.device, self.precision)
        self.shape = self.infer(np.zeros((1, self.windows.length, self.request.samples), np.float32)).shape[1:]

    def default_pooling(self, model: PreTrainedModel, has_pooler: bool) -> str:
        """``pooled`` where the model has an embedding of its own (AST: the mean of its two class tokens)."""
        named = hasattr(model, "get_audio_features") or model.config.model_type == "audio-spectrogram-transformer"
        return "pooled" if named or (has_pooler and getattr(model, "pooler", None) is not None) else "mean"

    def infer(self, batch: np.ndarray) -> np.ndarray:
        return super().infer(self._spectrogram(batch.reshape(len(batch), -1)))

    def inputs(self, items: torch.Tensor) -> dict[str, torch.Tensor]:
        return {self.extractor.model_input_names[0]: items.to(self.precision)}

    def _spectrogram(self, sound: np.ndarray) -> np.ndarray:
        """``(n, samples)`` sound to the network's input ``(n, …)`` float32."""
        settings = self.extractor
        if type(settings) is not ASTFeatureExtractor:
            made = settings(list(sound), sampling_rate=self.rate, return_tensors="np")
            return np.asarray(made[settings.model_input_names[0]], np.float32)
        found = log_mel.log_mel(sound, self.rate, settings.num_mel_bins)
        found = np.pad(found, ((0, 0), (0, settings.max_length - found.shape[1]), (0, 0)))
        return (found - settings.mean) / (2 * settings.std) if settings.do_normalize else found
