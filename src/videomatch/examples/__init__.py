"""What one training example is: which are sampled in an epoch, and how some of them become tensors.

``examples: {kind: frame_caption, …}`` names the class ``FrameCaption`` of ``frame_caption.py``, a dataclass derived
from :class:`Examples` whose keyword fields are the options. It defines ``batch``, and may override the rest.

Labels are counted over the first split that :meth:`Examples.on` is called with, so the train split. All randomness is
passed in, so that any batch of any epoch can be drawn again without those before it. Features are read batch by batch.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from videomatch.common import named
from videomatch.common.vectors import padded
from videomatch.data.corpus import pooled_ids, split_texts
from videomatch.data.store import Store, expert_store

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Source:
    """What examples are made from: ``store`` is of the option ``expert``, ``stores`` of ``experts``; ``scores`` filter
    texts."""

    corpus: Path
    store: Store | None = None
    tokenizer: PreTrainedTokenizerFast | None = None
    stores: Mapping[str, Store] = field(default_factory=dict)
    scores: Path | None = None


def kind(name: str) -> type[Examples]:
    """The class of a kind of examples: ``FrameCaption`` of ``frame_caption.py``; a KeyError lists those that exist."""
    return vars(named.module("examples", name))[name.title().replace("_", "")]


def of_system(
    system: Mapping[str, Any],
    corpus: Path,
    features: Sequence[Path],
    tokenizer: PreTrainedTokenizerFast | None,
    scores: Path | None = None,
) -> Examples:
    """The examples that ``examples:`` of a resolved system describes, without a split yet."""
    options = {name: value for name, value in system["examples"].items() if name != "kind"}
    names = [options["expert"]] if options.get("expert") else list(options.get("experts") or [])
    stores = {name: expert_store(features, name) for name in names}
    given = Source(corpus, stores.get(options.get("expert") or ""), tokenizer, stores, scores)
    return kind(system["examples"]["kind"])(given, **options)


def tensors(arrays: Mapping[str, np.ndarray]) -> Batch:
    """Arrays as tensors, by name."""
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def frame_index(num_frames: int, max_frames: int) -> np.ndarray:
    """Positions ``(min(n, m),)`` int64 of the frames that a model sees of ``num_frames``, at most ``max_frames``.

    The rule of the AIAC 2021 winners: all of them while they fit, else frame ``round((i + 1/2) (n - 1) / m)`` for
    i = 0 … m - 1, the middles of m equal parts, with halves rounded to the even number.

    # Deviation: for n = m + 1 their condition ``(n - 1) / m > 1`` is false and they return m + 1 frames; ours are
    # subsampled then, too. Our mask is all ones where frames were left out; theirs hides the last n - m of those kept.
    """
    if num_frames <= max_frames:
        return np.arange(num_frames, dtype=np.int64)
    middles = (np.arange(max_frames) + 0.5) * (num_frames - 1) / max_frames
    return np.rint(middles).astype(np.int64)  # rint rounds halves to even


def check_rows(store: Store, dimensions: int, expected: str) -> None:
    """A ValueError unless a row of the store has so many dimensions."""
    if len(store.shape) != dimensions:
        raise ValueError(f"rows of {store.roots[0]} have shape {store.shape}, expected {expected}")


@dataclass(eq=False)
class Examples(ABC):
    """Examples of a split, numbered from 0; an epoch visits each of them ``per_video`` times, sampled anew each time.

    Building one reads nothing; :meth:`on` selects a split, without which it still reads videos and texts for embedding.
    """

    #: name -> function of outputs and batch tensors over a whole validation pass (filled by name)
    metrics: ClassVar[Mapping[str, Callable[..., float]]] = {}
    #: whether a validation visits each example once, however often an epoch does
    validates_once: ClassVar[bool] = False

    source: Source
    _: KW_ONLY
    split: str | Sequence[str] = "train"  # to train on; several are pooled
    validation: str | None = "val"
    per_video: int = 1
    #: videos of the selected split that can serve as an example; kinds that count otherwise leave it empty
    videos: list[str] = field(init=False, default_factory=list)
    is_training: bool = field(init=False, default=False)

    def _select(self, split: str | Sequence[str]) -> None:
        """Fill in what depends on the split."""
        ids = pooled_ids(self.source.corpus, split)
        self.videos = self._found(self.usable(ids), ids, split)

    @abstractmethod
    def batch(self, numbers: np.ndarray, rng: np.random.Generator) -> Batch:
        """These examples as tensors, each with one row per example."""

    def derived_config(self) -> dict[str, Any]:
        """Options of the model's configuration that follow from the data (vocabulary, labels)."""
        return {}

    @classmethod
    def vocabulary(cls, corpus: Path, options: Mapping[str, Any]) -> list[str]:
        """Texts that a tokenizer is trained on: all of the split to train on."""
        return split_texts(corpus, options.get("split", cls.split))["text"].to_list()

    @classmethod
    def videos_of_parts(
        cls, corpus: Path, options: Mapping[str, Any], fold: tuple[int, int] | None = None
    ) -> tuple[list[str], list[str]]:
        """Ids of the videos that :meth:`parts` of examples with these options train and validate on, or more of them
        (those without features, too): by these the workflow knows, before it extracts any, what a table would share."""
        splits = (options.get("split", cls.split), options.get("validation", cls.validation))
        train, validation = (cls._videos_of(corpus, split, options) if split else [] for split in splits)
        return train, validation

    @classmethod
    def _videos_of(cls, corpus: Path, split: str | Sequence[str], options: Mapping[str, Any]) -> list[str]:
        """Ids of the videos that examples with these options read of a split, or several pooled."""
        return pooled_ids(corpus, split)

    def on(self, split: str | Sequence[str]) -> Self:
        """These examples over a split, or several pooled; what was counted over the first (labels) stays as it is."""
        other = copy.copy(self)
        other._select(split)
        return other

    def parts(self, fold: tuple[int, int] | None = None) -> tuple[Self, Self | None]:
        """The examples to train on, and those to validate on (None without ``validation``); of fold f of k, if
        ``fold`` is (f, k), for kinds that know folds."""
        if fold is not None:
            raise ValueError(f"{type(self).__name__} knows no folds, asked for fold {fold[0]} of {fold[1]}")
        train = self.on(self.split)
        val = None if self.validation is None else train.on(self.validation)
        if val is not None and self.validates_once:
            val.per_video = 1
        train.is_training = True
        return train, val

    def epoch(self, rng: np.random.Generator) -> np.ndarray:
        """Numbers of one epoch: rounds in each of which every example comes once, so a batch holds few twice."""
        return np.concatenate([rng.permutation(self._count()) for _ in range(self.per_video)])

    def __len__(self) -> int:
        return self._count() * self.per_video

    def _count(self) -> int:
        return len(self.videos)

    def usable(self, ids: Iterable[str]) -> list[str]:
        """Those of ``ids`` that :meth:`read_videos` can read, here those with a frame, in the order given."""
        return self._store.present(list(ids))

    def read_videos(self, ids: Sequence[str]) -> Batch:
        """Whole videos for ``embed_videos``: ``frames`` ``(B, L, …)`` padded with zeros, ``mask`` ``(B, L)``."""
        frames, mask = padded(*self._store.gather(ids))
        return tensors({"frames": frames, "mask": mask})

    def frame_times(self, video: str) -> np.ndarray | None:
        """Start and end (s) of the frames that :meth:`read_videos` reads, (F, 2); None where that is not known."""
        return None

    def read_texts(self, texts: Sequence[str]) -> Batch:
        """Texts for ``embed_texts``: ``input_ids`` and ``attention_mask`` ``(B, T)``, padded to the longest."""
        raise ValueError(f"{type(self).__name__} reads no texts; expected examples with captions")

    @property
    def _store(self) -> Store:
        if self.source.store is None:
            raise ValueError(f"{type(self).__name__} reads features; the system names no expert")
        return self.source.store

    def _gathered(self, ids: Sequence[str], part: str = "values") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of all of the videos, each read once; the first row and the number of rows of every id."""
        unique, which = np.unique(np.asarray(ids), return_inverse=True)
        values, lengths = self._store.gather(unique.tolist(), part)
        return values, (np.cumsum(lengths) - lengths)[which], lengths[which]

    def _random_rows(self, ids: Sequence[str], rng: np.random.Generator, windows: np.ndarray | None = None) -> Tensor:
        """A random row of each video, inside its window ``(B, 2)`` of seconds if one is given and holds a row."""
        values, starts, lengths = self._gathered(ids)
        draws = rng.random(len(ids))
        rows = starts + (draws * lengths).astype(np.int64)
        if windows is not None and np.isfinite(windows).any():
            middles = self._gathered(ids, "times")[0].mean(1)
            for n, (start, end) in enumerate(windows):
                own = middles[starts[n] : starts[n] + lengths[n]]
                inside = np.flatnonzero((own >= start) & (own < end))
                if len(inside):
                    rows[n] = starts[n] + inside[int(draws[n] * len(inside))]
        return torch.from_numpy(values[rows])

    def _found(self, usable: list[str], ids: Sequence[str], split: str | Sequence[str]) -> list[str]:
        if not usable:
            raise ValueError(f"{type(self).__name__}: none of the {len(ids)} videos of split {split!r} can be used")
        return usable
