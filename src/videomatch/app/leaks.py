"""What the splits of a corpus share that they should not: near-duplicates of test videos among training videos.

Four checks of two sides, (say) the videos to train on and the videos to test with:

``same id``      a video stands on both sides.
``same source``  two videos were cut from one film or upload and overlap in time (table ``sources``).
``same text``    a text of one is a text of the other, but for case, punctuation and blanks.
``near vector``  the cosine of two features (a mean over their frames) or embeddings is at least ``threshold``.

MSR-VTT is why: 40 of the 1,000 videos of its 1k-A test are known to have a near-duplicate among the 9,000 to train on,
by their content, and 52 of them share 2 to 23 seconds of an upload with one of the 1,990 among these that come from the
official test. Captions are short and repeat by chance, so ``same text`` only points at places to look at.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.store import Store

CHECKS = ("same id", "same source", "same text", "near vector")
#: columns of a table of leaks: ``detail`` says what is shared, ``amount`` how much (seconds, or a cosine)
SCHEMA = {
    "check": pl.String,
    "test_id": pl.String,
    "train_id": pl.String,
    "amount": pl.Float64,
    "detail": pl.String,
}
#: seconds that two videos must share at least
SHARED = 0.1
#: videos whose vectors are compared at a time
ROWS = 1024


def leaks(
    corpus: Path,
    train: str | Sequence[str],
    test: str | Sequence[str],
    *,
    vectors: Sequence[Path] = (),
    threshold: float = 0.98,
    kinds: Sequence[str] = ("title", "caption", "query"),
    texts: bool = True,
) -> pl.DataFrame:
    """What two sides of a corpus share.

    Args:
        corpus: folder of ``prepare``.
        train: one split or several: the videos of either role, and the texts of their videos.
        test: likewise.
        vectors: stores of features or embeddings, by video id; several are one, with disjoint ids.
        threshold: cosine from which two vectors count as near.
        kinds: of the texts to compare.
        texts: compare texts at all.

    Returns:
        check, test_id, train_id, amount, detail, ordered; a pair stands once for each thing that it shares.

    Raises:
        ValueError: an unknown split, one without videos, or vectors that are not finite.
    """
    sides = [_videos(corpus, split) for split in (test, train)]
    found = [_same_id(*sides), same_source(tables.read("sources", corpus), *sides)]
    if texts:
        said = tables.read("texts", corpus).filter(pl.col("kind").is_in(list(kinds)))
        found.append(_same_text(corpus, said, (test, train), sides))
    if vectors:
        found.append(near_vectors(Store.open(*vectors), *sides, threshold=threshold))
    order = ["check", "test_id", "train_id", "detail"]
    return pl.concat([rows.select(list(SCHEMA)) for rows in found]).sort(order)


def report(found: pl.DataFrame, sizes: Mapping[str, int], *, examples: int = 3, checks: Sequence[str] = CHECKS) -> str:
    """A table of leaks in words: how many test videos each check finds, and the first of them.

    Args:
        found: of :func:`leaks`.
        sizes: how many videos ``test`` and ``train`` hold.
        examples: pairs to show of each check.
        checks: those that were made.
    """
    lines = [f"{sizes['test']:,} test videos against {sizes['train']:,} training videos"]
    for check in CHECKS:
        if check not in checks:
            lines.append(f"{check}: not compared")
            continue
        rows = found.filter(pl.col("check") == check)
        count = rows["test_id"].n_unique()
        lines.append(
            f"{check}: {count:,} test videos ({100 * count / max(1, sizes['test']):.1f} %), {len(rows):,} pairs"
        )
        for test_id, train_id, amount, detail in rows.head(examples).select(list(SCHEMA)[1:]).iter_rows():
            lines.append(f"  {test_id} ~ {train_id}: {detail}" + (f" ({amount:.3g})" if amount is not None else ""))
    return "\n".join(lines)


def told(
    corpus: Path, train: str | Sequence[str], test: str | Sequence[str], *, examples: int = 3, **options: Any
) -> tuple[str, int]:
    """The report on two sides of a corpus, and how many test videos share anything but a text.

    Args:
        corpus: folder of ``prepare``.
        train: one split or several.
        test: likewise.
        examples: pairs to show of each check.
        options: of :func:`leaks`.
    """
    found = leaks(corpus, train, test, **options)
    made = {
        "same id": True,
        "same source": len(tables.read("sources", corpus)) > 0,
        "same text": options.get("texts", True),
        "near vector": bool(options.get("vectors")),
    }
    checks = [check for check in CHECKS if made[check]]
    text = report(found, sizes(corpus, train, test), examples=examples, checks=checks)
    return text, found.filter(pl.col("check") != "same text")["test_id"].n_unique()


def sizes(corpus: Path, train: str | Sequence[str], test: str | Sequence[str]) -> dict[str, int]:
    """How many videos the two sides hold."""
    return {"test": len(_videos(corpus, test)), "train": len(_videos(corpus, train))}


def _names(split: str | Sequence[str]) -> list[str]:
    return [split] if isinstance(split, str) else list(split)


def _videos(corpus: Path, split: str | Sequence[str]) -> list[str]:
    """The videos of some splits, in either role (captions are queries, too: they are no videos)."""
    listed = tables.read("splits", corpus)
    ids = {i for name in _names(split) for role in ("query", "reference") for i in split_ids(listed, name, role)}
    ids -= set(tables.read("texts", corpus)["text_id"])
    if not ids:
        raise ValueError(f"split {split!r} holds no video")
    return sorted(ids)


def _frame(check: str, rows: pl.DataFrame) -> pl.DataFrame:
    absent = {"amount": pl.lit(None, pl.Float64), "detail": pl.lit("", pl.String), "check": pl.lit(check)}
    return rows.with_columns([value.alias(name) for name, value in absent.items() if name not in rows.columns])


def _same_id(test: Sequence[str], train: Sequence[str]) -> pl.DataFrame:
    both = sorted(set(test) & set(train))
    schema = {"test_id": pl.String, "train_id": pl.String}
    rows = pl.DataFrame({"test_id": both, "train_id": both}, schema=schema)
    return _frame("same id", rows.with_columns(pl.lit("on both sides").alias("detail")))


def same_source(sources: pl.DataFrame, test: Sequence[str], train: Sequence[str]) -> pl.DataFrame:
    """Pairs of different videos that share at least 0.1 s of one source; where times are unknown, the source suffices.

    Args:
        sources: table ``sources``.
        test: ids of one side.
        train: ids of the other.
    """
    left, right = (
        sources.filter(pl.col("video_id").is_in(list(ids))).rename(
            {"video_id": name, "start": f"{name}0", "end": f"{name}1"}
        )
        for name, ids in (("test_id", test), ("train_id", train))
    )
    shared = pl.min_horizontal("test_id1", "train_id1") - pl.max_horizontal("test_id0", "train_id0")
    known = pl.all_horizontal(pl.col("test_id0", "test_id1", "train_id0", "train_id1").is_not_null())
    rows = (
        left.join(right, on="source")
        .filter(pl.col("test_id") != pl.col("train_id"))
        .with_columns(pl.when(known).then(shared).alias("amount"))
        .filter(pl.col("amount").is_null() | (pl.col("amount") >= SHARED))
        .rename({"source": "detail"})
    )
    return _frame("same source", rows)


def _same_text(
    corpus: Path, said: pl.DataFrame, splits: tuple[str | Sequence[str], ...], sides: list[list[str]]
) -> pl.DataFrame:
    """Pairs of different videos with a text in common: of a protocol its own queries count, of a list of videos all
    texts of its videos."""
    listed = tables.read("splits", corpus)
    known = set(said["text_id"])
    parts = []
    for name, split, ids in zip(("test_id", "train_id"), splits, sides, strict=True):
        queries = {i for s in _names(split) for i in split_ids(listed, s, "query")} & known
        own = pl.col("text_id").is_in(list(queries)) if queries else pl.col("video_id").is_in(ids)
        rows = said.filter(own & pl.col("video_id").is_in(ids)).select("video_id", "text").rename({"video_id": name})
        plain = rows["text"].map_elements(_plain, return_dtype=pl.String).alias("detail")
        parts.append(rows.select(name).with_columns(plain).filter(pl.col("detail") != "").unique())
    rows = parts[0].join(parts[1], on="detail").filter(pl.col("test_id") != pl.col("train_id"))
    return _frame("same text", rows)


def _plain(words: str) -> str:
    """A text without what two writers of one sentence may differ in."""
    folded = unicodedata.normalize("NFKC", words).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def near_vectors(store: Store, test: Sequence[str], train: Sequence[str], *, threshold: float) -> pl.DataFrame:
    """Pairs of different videos whose mean vectors have a cosine of at least ``threshold``.

    Raises:
        ValueError: a vector is not finite.
    """
    left, right = (_means(store, ids) for ids in (test, train))
    rows: list[tuple[str, str, float]] = []
    for first in range(0, len(left[0]), ROWS):
        cosine = left[1][first : first + ROWS] @ right[1].T
        for at, column in np.argwhere(cosine >= threshold).tolist():
            pair = left[0][first + at], right[0][column]
            if pair[0] != pair[1]:
                rows.append((*pair, float(cosine[at, column])))
    schema = {"test_id": pl.String, "train_id": pl.String, "amount": pl.Float64}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return _frame("near vector", frame.with_columns(pl.lit("cosine").alias("detail")))


def _means(store: Store, ids: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Ids that have rows, and the mean of each one's unit rows as a unit vector, (ids, D) float32."""
    there = [i for i in ids if i in store and store.lengths[store.index([i])[0]]]
    width = int(np.prod(store.shape))
    means = np.zeros((len(there), width), np.float32)
    for first in range(0, len(there), ROWS):
        some = there[first : first + ROWS]
        values, lengths = store.gather(some)
        values = values.reshape(len(values), width).astype(np.float32)
        odd = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(odd):
            at = int(np.searchsorted(np.cumsum(lengths), odd[0], side="right"))
            raise ValueError(f"{store.roots[0]}: the vectors of {some[at]!r} are not finite")
        rows = unit_rows(values)
        means[first : first + len(some)] = np.add.reduceat(rows, np.cumsum(lengths) - lengths, axis=0)
    return there, unit_rows(means) if len(means) else means
