"""Trained models with the inputs that they read, and scores of pairs of a text and a video, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer

from videomatch import examples as examples_
from videomatch.common.checkpoint import load_checkpoint
from videomatch.common.precision import default_device
from videomatch.retrieval.rescoring import CANDIDATES

#: batch sizes
VIDEOS, TEXTS = 32, 256
#: texts, and videos, of which all pairs are scored at once
SIDE = 64
#: references up to which what the model makes of them is kept: as many as there are candidates in a block of queries
KEPT = CANDIDATES

Encoded = dict[str, Tensor]


def trained(
    checkpoint: Path, corpus: Path, features: Sequence[Path], device: torch.device | str = "cpu"
) -> tuple[Any, examples_.Examples]:
    """The model of a checkpoint, and the examples that read its inputs from a corpus and its features."""
    model, system = load_checkpoint(checkpoint, device)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint) if "tokenizer" in system else None
    return model, examples_.of_system(system, corpus, features, tokenizer)


class PairScorer:
    """A trained model and the inputs that it reads of a corpus and its features; a ``ValueError`` if it scores no
    pairs."""

    def __init__(self, checkpoint: Path, corpus: Path, features: Sequence[Path]) -> None:
        self.device = default_device()
        self.model, self.reader = trained(checkpoint, corpus, features, self.device)
        if not self.model.scores_pairs:
            raise ValueError(f"{checkpoint}: its model scores no pairs (it has no `match`)")

    def texts(self, texts: Sequence[str]) -> Encoded:
        """What the model makes of texts, a row each."""
        return self._encoded(self.model.encode_texts, self.reader.read_texts, texts, TEXTS)

    def videos(self, ids: Sequence[str]) -> Encoded:
        """What the model makes of videos, a row each."""
        return self._encoded(self.model.encode_videos, self.reader.read_videos, ids, VIDEOS)

    def matched(self, texts: Encoded, videos: Encoded) -> np.ndarray:
        """Scores of all pairs, (texts, videos)."""
        with torch.inference_mode():
            return self.model.match(texts, videos).double().cpu().numpy()

    def matches(self, text: str, video: str) -> list[dict[str, Any]]:
        """The words of a text, in their order, each with the ``start`` and ``end`` (s) of the frame of a video that it
        matches best, and their ``score``; of a model that compares words with frames and of features with times, else
        none. Where the model knows words of content, those alone."""
        tokenizer, times = self.reader.source.tokenizer, self.reader.frame_times(video)
        if not hasattr(self.model, "best_frames") or tokenizer is None or times is None:
            return []
        with torch.inference_mode():
            found = self.model.best_frames(self.texts([text]), self.videos([video]))
        frames, scores, is_shown = (x[0, 0].tolist() for x in found)
        encoded = tokenizer(text, truncation=True, max_length=len(frames))
        best: dict[int, int] = {}  # word -> the piece that matches best
        for piece, word in enumerate(encoded.word_ids()):
            if word is not None and is_shown[piece] and scores[piece] >= scores[best.get(word, piece)]:
                best[word] = piece
        spans = {word: encoded.word_to_chars(word) for word in best}
        return [
            {
                "word": text[spans[word].start : spans[word].end],
                "score": scores[piece],
                "start": float(times[frames[piece]][0]),
                "end": float(times[frames[piece]][1]),
            }
            for word, piece in best.items()
        ]

    def of_pairs(
        self, texts: Sequence[str], ids: Sequence[str], *, swapped: bool = False
    ) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """Scores of pairs by the positions of their texts and videos, as
        :data:`videomatch.retrieval.rescoring.PairScores`; ``swapped``: videos are the queries."""

        def text_rows(at: np.ndarray) -> Encoded:
            return self.texts([texts[int(n)] for n in at])

        def video_rows(at: np.ndarray) -> Encoded:
            return self.videos([ids[int(n)] for n in at])

        def block(own: Encoded, others: Encoded) -> np.ndarray:
            return self.matched(others, own).T if swapped else self.matched(own, others)

        queries_of, references_of = (video_rows, text_rows) if swapped else (text_rows, video_rows)
        count = len(texts if swapped else ids)
        kept = references_of(np.arange(count)) if count <= KEPT else None

        def scores(queries: np.ndarray, references: np.ndarray) -> np.ndarray:
            own = queries_of(queries)
            if references.ndim == 1:
                parts = []
                for first in range(0, len(references), SIDE):
                    at = references[first : first + SIDE]
                    others = references_of(at) if kept is None else rows(kept, at)
                    some = (rows(own, slice(n, n + SIDE)) for n in range(0, len(queries), SIDE))
                    parts.append(np.concatenate([block(part, others) for part in some]))
                return np.concatenate(parts, axis=1)
            others, place = kept, references
            if others is None:
                needed, place = np.unique(references, return_inverse=True)
                others, place = references_of(needed), place.reshape(references.shape)
            each = (block(rows(own, slice(n, n + 1)), rows(others, at)) for n, at in enumerate(place))
            return np.concatenate(list(each))

        return scores

    def _encoded(
        self, encode: Callable[..., Encoded], read: Callable[[Any], Encoded], items: Sequence[str], size: int
    ) -> Encoded:
        parts = []
        with torch.inference_mode():
            for first in range(0, len(items), size):
                batch = {n: value.to(self.device) for n, value in read(items[first : first + size]).items()}
                parts.append(encode(**batch))
        return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def rows(encoded: Encoded, at: Any) -> Encoded:
    """Some rows of what a model made of texts or videos."""
    return {name: value[at] for name, value in encoded.items()}


def _joined(values: Iterable[Tensor]) -> Tensor:
    """Rows of batches that were padded to different lengths, as one."""
    values = list(values)
    width = max(value.shape[1] for value in values)
    return torch.cat([F.pad(v, (*(0, 0) * (v.ndim - 2), 0, width - v.shape[1])) for v in values])
