"""Score each text against the frames of its video: what pairs of the web are filtered by.

The CNVid authors (CVPR 2023) drop the pairs of lowest similarity by a model like CLIP; neither their code nor their
model or threshold is public. Here a text's cosine is the mean of those of the frames that are most similar to it. It
grows with the length of texts, so the score is the cosine less the mean of texts as long, in standard deviations. A
system's ``examples: {filter: …, keep: 0.78}`` takes the share with the best scores.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl

from videomatch.common.precision import reproducible
from videomatch.common.progress import track
from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.language import WORD
from videomatch.data.store import expert_store
from videomatch.stages.embed import TEXTS, text_tower

log = logging.getLogger(__name__)

#: texts at least that a mean and a deviation are taken of, and most groups of texts of about the same length
GROUP, GROUPS = 200, 10


def score_pairs(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    expert: str,
    text_encoder: str,
    texts: list[str],
    top: int = 3,
    threads: int = 1,
    backbones: list[Path] | None = None,
) -> None:
    """Write the table ``scores`` of all texts of the kinds ``texts`` whose video has frames.

    Args:
        expert: features of frames, image embeddings of the space of ``text_encoder``, a checkpoint like CLIP.
        top: frames whose cosines are averaged; all of a video that has fewer.
        backbones: results of training that the features or the encoder come from.
    """
    store = expert_store(features, expert)
    rows = tables.read("texts", corpus).filter(pl.col("kind").is_in(texts)).sort("video_id", "text_id")
    rows = rows.filter(pl.col("video_id").is_in(store.present(rows["video_id"].drop_nulls().unique().to_list())))
    if rows.is_empty():
        raise ValueError(f"{corpus}: no text of the kinds {texts} belongs to a video with features of {expert!r}")
    encode = text_tower(text_encoder)
    cosines = []
    with reproducible(threads):
        for chunk in track(list(rows.iter_slices(TEXTS)), label="pairs"):
            vectors = encode(chunk["text"].to_list())
            ids = chunk["video_id"].unique(maintain_order=True).to_list()
            frames, lengths = store.gather(ids)
            frames = unit_rows(frames.reshape(len(frames), -1).astype(np.float32))
            if frames.shape[1] != vectors.shape[1]:
                raise ValueError(
                    f"{text_encoder} embeds texts in {vectors.shape[1]} dimensions, {expert!r} has {frames.shape[1]}"
                )
            place = dict(zip(ids, np.split(frames, np.cumsum(lengths)[:-1]), strict=True))
            for vector, video in zip(vectors, chunk["video_id"], strict=True):
                cosines.append(float(np.sort(place[video] @ vector)[-top:].mean()))
    found = rows.select("text_id", "video_id", words=pl.col("text").str.count_matches(WORD.pattern))
    tables.write("scores", _standardised(found.with_columns(cosine=pl.Series(cosines))), output)
    log.info("%d texts of %d videos", len(found), found["video_id"].n_unique())


def _standardised(rows: pl.DataFrame) -> pl.DataFrame:
    """Cosines less the mean of the texts with about as many words, in deviations."""
    groups = min(max(len(rows) // GROUP, 1), GROUPS)
    edges = np.unique(np.quantile(rows["words"].to_numpy(), np.arange(1, groups) / groups))
    group = pl.col("words").cut(edges.tolist())
    deviation = pl.col("cosine").std(ddof=0).over(group)
    centred = pl.col("cosine") - pl.col("cosine").mean().over(group)
    score = pl.when(deviation > 0).then(centred / deviation).otherwise(0.0)
    return rows.select("text_id", "video_id", "cosine", score=score)
