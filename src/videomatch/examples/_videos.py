"""Examples that are whole videos: their frame features and texts as one sequence for a joint encoder.

Tensors: B examples, F frames of D features, T tokens. A row of tokens opens with ``[CLS] [SEP]`` in the layout
``frames_inside`` (the model puts the frames between the two) and with ``[CLS]`` in ``frames_first`` (the frames come
before it); each kind of text follows, cut to its own budget, with a ``[SEP]`` of its own even where it is empty.

What is held of a video are its id and its texts; frames are read from the store, and texts tokenised, batch by batch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch

from videomatch.data import corpus as corpora
from videomatch.data.joined import joined_texts
from videomatch.data.tokenize import encode_parts
from videomatch.examples import Batch, Examples, Source, split_texts
from videomatch.examples.sampling import frame_index

Layout = Literal["frames_inside", "frames_first"]
#: kinds of texts in the order in which they stand in a sequence, whatever the order of the options (which are sorted on
#: their way to a job)
ORDER = ("title", "asr", "ocr", "caption", "query")
#: ids of [PAD], [CLS] and [SEP] where there is no text and so no tokenizer
_NO_TEXT = (0, 1, 2)


class VideoExamples(Examples):
    """What kinds of examples made of whole videos share.

    Args:
        source: with a store unless ``max_frames`` is 0, with a tokenizer unless ``texts`` is empty.
        texts: kind of text -> tokens of it at most, without special ones; empty for no text.
        layout: ``frames_inside`` or ``frames_first``.
        max_frames: frames of a video at most, longer ones are subsampled evenly
            (:func:`videomatch.examples.sampling.frame_index`); 0 for none.
        pad: pad texts to all budgets together, not to the longest of the batch.

    Raises:
        ValueError: an option does not fit the others or the source.
    """

    #: where nothing says what to train on, and the roles whose videos that means
    SPLIT = "train"
    ROLES: tuple[str, ...] = ("reference",)

    def __init__(
        self,
        source: Source,
        *,
        split: str | Sequence[str],
        validation: str | None,
        expert: str | None,
        texts: Mapping[str, int],
        layout: Layout,
        max_frames: int,
        pad: bool,
    ) -> None:
        super().__init__(source, split=split, validation=validation)
        self.expert, self.layout, self.max_frames, self.pad = expert, layout, max_frames, pad
        odd = [kind for kind, budget in texts.items() if kind not in ORDER or budget < 1]
        if odd:
            known = ", ".join(ORDER)
            raise ValueError(f"texts {odd[0]!r}: {texts[odd[0]]}, expected {known}, each with at least 1 token")
        self.texts = {kind: texts[kind] for kind in ORDER if kind in texts}
        if layout not in ("frames_inside", "frames_first"):
            raise ValueError(f"layout {layout!r}, expected frames_inside or frames_first")
        if max_frames < 0 or not (max_frames or texts):
            raise ValueError(f"max_frames {max_frames} with texts {dict(texts)}: nothing of a video would be read")
        if max_frames and len(self._store.shape) != 1:
            raise ValueError(f"rows of {self._store.roots[0]} have shape {self._store.shape}, expected vectors")
        pad_id, cls_id, sep_id = _NO_TEXT
        if texts:
            tokenizer = source.tokenizer
            if tokenizer is None or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
                raise ValueError("texts need a tokenizer with [CLS] and [SEP], like `tokenizer: {style: bert}`")
            pad_id, cls_id, sep_id = (getattr(tokenizer, f"{name}_token_id") for name in ("pad", "cls", "sep"))
        self._ids = {"pad_token_id": pad_id, "cls_token_id": cls_id, "sep_token_id": sep_id}
        self._start = [cls_id, sep_id] if layout == "frames_inside" else [cls_id]

    @classmethod
    def vocabulary(cls, corpus: Path, options: Mapping[str, Any]) -> list[str]:
        """Texts that a tokenizer is trained on: those of the kinds that are read, of the split to train on."""
        kinds = list(options.get("texts") or {})
        return split_texts(corpus, options.get("split", cls.SPLIT), kinds, cls.ROLES)["text"].to_list()

    def facts(self) -> dict[str, Any]:
        return {
            "vocab_size": len(self.source.tokenizer) if self.texts and self.source.tokenizer else len(_NO_TEXT),
            **self._ids,
            "frame_dim": self._dim,
            "max_frames": self.max_frames,
            "max_tokens": len(self._start) + sum(self.texts.values()) + len(self.texts),
            "layout": self.layout,
        }

    def usable(self, ids: Iterable[str]) -> list[str]:
        """Those of ``ids`` that have a frame (if frames are read) or a text that is not empty, in the order given."""
        wanted = pl.DataFrame({"video_id": list(ids)}, schema={"video_id": pl.String})
        return wanted.join(self._whole, on="video_id", how="semi", maintain_order="left")["video_id"].to_list()

    def read_videos(self, ids: Sequence[str]) -> Batch:
        """Videos for ``embed_videos``: frames (B, F, D) and frame_mask (B, F), input_ids and attention_mask (B, T).

        Raises:
            KeyError: a video is not usable.
        """
        known, wanted = self._whole["video_id"], pl.Series(list(ids), dtype=pl.String)
        rows = known.search_sorted(wanted).to_numpy()
        found = known.gather(np.minimum(rows, len(known) - 1)) == wanted
        if not found.all():
            raise KeyError(f"video {wanted.filter(~found)[0]!r} has neither frames nor text")
        return self._read(self._whole[rows])

    @functools.cached_property
    def _whole(self) -> pl.DataFrame:
        """All usable videos of the corpus, ordered by id."""
        return self._table(corpora.videos(self.source.corpus)["video_id"])

    @property
    def _dim(self) -> int:
        return self._store.shape[0] if self.max_frames else 1

    def _table(self, ids: Sequence[str] | pl.Series) -> pl.DataFrame:
        """video_id and a column of each kind of text, "" where there is none: those of ``ids`` to use, in order."""
        table = pl.DataFrame({"video_id": ids}, schema={"video_id": pl.String})
        usable = pl.Series(np.zeros(len(table), bool))
        if self.max_frames:
            usable |= pl.Series(self._store.rows(table["video_id"]) > 0)
        if self.texts:
            joined = joined_texts(self.source.corpus, list(self.texts), table["video_id"])
            table = table.join(joined, on="video_id", how="left", maintain_order="left").fill_null("")
            usable |= table.select(pl.any_horizontal(pl.col(*self.texts).str.strip_chars() != "")).to_series()
        return table.filter(usable).rechunk()

    def _read(self, rows: pl.DataFrame) -> Batch:
        """Rows of :meth:`_table` as tensors."""
        frames, frame_mask = self._frames(rows["video_id"].to_list())
        if self.texts and self.source.tokenizer is not None:
            parts = [rows[kind].to_list() for kind in self.texts]
            budgets = list(self.texts.values())
            tokens = encode_parts(self.source.tokenizer, parts, budgets, start=self._start, pad=self.pad)
        else:
            ids = torch.tensor(self._start).repeat(len(rows), 1)
            tokens = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        return {"frames": frames, "frame_mask": frame_mask, **tokens}

    def _frames(self, ids: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (B, F, D) float32, zeros where a video has none, and which are real (B, F)."""
        if not self.max_frames:
            return torch.zeros(len(ids), 0, self._dim), torch.zeros(len(ids), 0, dtype=torch.bool)
        lengths = self._store.rows(ids)
        there = np.flatnonzero(lengths)
        some = [ids[n] for n in there]
        if lengths.max(initial=0) <= self.max_frames:
            values, mask = self._store.batch(some)
        else:
            values, mask = self._subsampled(some)
        frames, frame_mask = torch.from_numpy(values).float(), torch.from_numpy(mask)
        if len(there) == len(ids):
            return frames, frame_mask
        at = torch.from_numpy(there)
        return (
            frames.new_zeros(len(ids), *frames.shape[1:]).index_copy_(0, at, frames),
            frame_mask.new_zeros(len(ids), mask.shape[1]).index_copy_(0, at, frame_mask),
        )

    def _subsampled(self, ids: list[str]) -> tuple[np.ndarray, np.ndarray]:
        values, lengths = self._store.gather(ids)
        starts = np.cumsum(lengths) - lengths
        kept = [first + frame_index(int(n), self.max_frames) for first, n in zip(starts, lengths, strict=True)]
        mask = np.arange(self.max_frames) < np.minimum(lengths, self.max_frames)[:, None]
        frames = np.zeros((*mask.shape, values.shape[1]), values.dtype)
        frames[mask] = values[np.concatenate(kept)]
        return frames, mask
