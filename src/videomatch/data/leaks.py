"""What the splits of a corpus share that they should not: near-duplicates of test videos among training videos.

Five checks of two sides:

``same id``      a video is on both sides.
``same file``    two videos are the same file, or parts of it that overlap in time.
``same source``  two videos were cut from one film or upload and overlap in time (table ``sources``).
``same text``    a text of one is a text of the other, but for case, punctuation and blanks.
``near vector``  the cosine of two features (a mean over their frames) or embeddings is at least 0.98.

MSR-VTT is why: 40 of the 1,000 videos of its 1k-A test are known to have a near-duplicate among the 9,000 to train on,
by their content, and 52 share 2 to 23 seconds of an upload with one of the 1,990 of these from the official test.
Captions are short and repeat by chance, so ``same text`` only points at places to look at. The first three are what a
corpus knows of the same content (:func:`same_content`); by them the stage ``check_leaks`` refuses a table.
"""

import unicodedata
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from videomatch.common.vectors import unit_rows
from videomatch.data import tables
from videomatch.data.corpus import split_ids, videos
from videomatch.data.store import Store

#: what is shared: ``detail`` names it, ``amount`` is its size (seconds, or a cosine)
SCHEMA = dict.fromkeys(("check", "test_id", "train_id", "amount", "detail"), pl.String) | {"amount": pl.Float64}
CHECKS = ("same id", "same file", "same source", "same text", "near vector")
#: kinds of texts that are compared
KINDS = ("title", "caption", "query")
#: seconds that two videos must share at least, and the least cosine of near vectors
SHARED, NEAR = 0.1, 0.98


def find_leaks(corpus: Path, train: Sequence[str], test: Sequence[str], vectors: Sequence[Path] = ()) -> pl.DataFrame:
    """What two sides of a corpus share: rows of :data:`SCHEMA`. A side is some splits: their videos in either role, and
    the texts of these. ``vectors`` are stores of features or embeddings with disjoint ids."""
    sides = [_videos(corpus, split) for split in (test, train)]
    found = {
        "same text": _same_text(corpus, (test, train), sides),
        "near vector": near_vectors(Store(*vectors), *sides) if vectors else pl.DataFrame(),
    }
    rows = [same_content((corpus, corpus), *sides), *(r.with_columns(check=pl.lit(c)) for c, r in found.items())]
    order = ["check", "test_id", "train_id", "detail"]
    return pl.concat(rows, how="diagonal").select(list(SCHEMA)).sort(order)


def same_content(
    corpora: tuple[Path, Path], test: Collection[str], train: Collection[str], *, same_ids: bool = True
) -> pl.DataFrame:
    """What the corpora of two sides know of the same content: rows of :data:`SCHEMA` with the checks ``same id``,
    ``same file`` and ``same source``. ``same_ids``: an id is one video in both; without it the first check is left
    out."""
    both = sorted(set(test) & set(train)) if same_ids else []
    sources = (tables.read("sources", corpus) for corpus in corpora)
    parts = (videos(corpus).select("video_id", "start", "end", source="sha256") for corpus in corpora)
    found = {
        "same id": pl.DataFrame({"test_id": both}, schema={"test_id": pl.String}).with_columns(
            train_id="test_id", detail=pl.lit("on both sides")
        ),
        "same file": same_source(*parts, test=test, train=train, same_ids=same_ids),
        "same source": same_source(*sources, test=test, train=train, same_ids=same_ids),
    }
    rows = (rows.with_columns(check=pl.lit(check)) for check, rows in found.items())
    return pl.concat([pl.DataFrame(schema=SCHEMA), *rows], how="diagonal").select(list(SCHEMA))


def report(corpus: Path, train: Sequence[str], test: Sequence[str], vectors: Sequence[Path] = ()) -> tuple[str, int]:
    """How many test videos each check finds, and examples; and how many share anything but a text."""
    found = find_leaks(corpus, train, test, vectors)
    compared = {"same file": videos(corpus)["sha256"].count(), "same source": len(tables.read("sources", corpus))}
    compared["near vector"] = len(vectors)
    size = len(_videos(corpus, test))
    lines = [f"{size:,} test videos against {len(_videos(corpus, train)):,} training videos"]
    for check in CHECKS:
        if not compared.get(check, 1):
            lines.append(f"{check}: not compared")
            continue
        rows = found.filter(pl.col("check") == check)
        count = rows["test_id"].n_unique()
        lines.append(f"{check}: {count:,} test videos ({100 * count / size:.1f} %), {len(rows):,} pairs")
        for test_id, train_id, amount, detail in rows.head(3).select(list(SCHEMA)[1:]).iter_rows():
            lines.append(f"  {test_id} ~ {train_id}: {detail}" + (f" ({amount:.3g})" if amount is not None else ""))
    return "\n".join(lines), found.filter(pl.col("check") != "same text")["test_id"].n_unique()


def _videos(corpus: Path, splits: Sequence[str]) -> list[str]:
    """The videos of some splits, in either role. (Captions are queries, too, and are left out.)"""
    listed = tables.read("splits", corpus)
    ids = {i for name in splits for role in ("query", "reference") for i in split_ids(listed, name, role)}
    ids -= set(tables.read("texts", corpus)["text_id"])
    if not ids:
        raise ValueError(f"no video is in the splits {', '.join(splits)}")
    return sorted(ids)


def same_source(
    test_sources: pl.DataFrame,
    train_sources: pl.DataFrame,
    test: Collection[str],
    train: Collection[str],
    *,
    same_ids: bool = True,
) -> pl.DataFrame:
    """Pairs of different videos that share at least 0.1 s of a source; where times are unknown, the source suffices."""
    sides = ((test_sources, test, "test_id"), (train_sources, train, "train_id"))
    rows = [t.filter(pl.col("video_id").is_in(list(ids))).rename({"video_id": name}) for t, ids, name in sides]
    both = rows[0].join(rows[1], on="source").filter(pl.lit(not same_ids) | (pl.col("test_id") != pl.col("train_id")))
    shared = pl.min_horizontal("end", "end_right") - pl.max_horizontal("start", "start_right")
    known = pl.all_horizontal(pl.col("start", "end", "start_right", "end_right").is_not_null())
    found = both.select("test_id", "train_id", amount=pl.when(known).then(shared), detail="source")
    return found.filter(pl.col("amount").is_null() | (pl.col("amount") >= SHARED))


def _same_text(corpus: Path, splits: tuple[Sequence[str], Sequence[str]], sides: list[list[str]]) -> pl.DataFrame:
    """Pairs of different videos with a text in common: a query of the protocol, or any if it has no queries."""
    texts = tables.read("texts", corpus).filter(pl.col("kind").is_in(KINDS))
    listed = tables.read("splits", corpus)
    parts = []
    for name, names, ids in zip(("test_id", "train_id"), splits, sides, strict=True):
        queries = {i for split in names for i in split_ids(listed, split, "query")} & set(texts["text_id"])
        counts = pl.col("text_id").is_in(list(queries)) if queries else pl.lit(True)
        rows = texts.filter(counts & pl.col("video_id").is_in(ids)).select(pl.col("video_id").alias(name), "text")
        plain = rows["text"].map_elements(_plain, return_dtype=pl.String).alias("detail")
        parts.append(rows.select(name).with_columns(plain).filter(pl.col("detail") != "").unique())
    return parts[0].join(parts[1], on="detail").filter(pl.col("test_id") != pl.col("train_id"))


def _plain(text: str) -> str:
    """A text without case, punctuation and repeated blanks."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())


def near_vectors(store: Store, test: Sequence[str], train: Sequence[str], *, block: int = 1024) -> pl.DataFrame:
    """Pairs of different videos whose mean vectors have a cosine of at least 0.98, by ``block`` videos."""
    (left_ids, left), (right_ids, right) = (_means(store, ids, block) for ids in (test, train))
    pairs: list[tuple[str, str, float]] = []
    for start in range(0, len(left_ids), block):
        cosine = left[start : start + block] @ right.T
        for row, column in np.argwhere(cosine >= NEAR).tolist():
            if left_ids[start + row] != right_ids[column]:
                pairs.append((left_ids[start + row], right_ids[column], float(cosine[row, column])))
    schema = {name: SCHEMA[name] for name in ("test_id", "train_id", "amount")}
    return pl.DataFrame(pairs, schema=schema, orient="row").with_columns(detail=pl.lit("cosine"))


def _means(store: Store, ids: Sequence[str], block: int) -> tuple[list[str], np.ndarray]:
    """Ids that have rows, and the mean of each one's unit rows as a unit vector, (ids, D) float32."""
    ids = store.present(ids)
    width = int(np.prod(store.shape))
    means = np.zeros((len(ids), width), np.float32)
    for start in range(0, len(ids), block):
        some = ids[start : start + block]
        values, lengths = store.gather(some)
        values = values.reshape(len(values), width).astype(np.float32)
        odd = np.repeat(some, lengths)[~np.isfinite(values).all(axis=1)].tolist()
        if odd:
            raise ValueError(f"{store.roots[0]}: the vectors of {odd[0]!r} are not finite")
        rows = unit_rows(values)
        means[start : start + len(some)] = np.add.reduceat(rows, np.cumsum(lengths) - lengths, axis=0)
    return ids, unit_rows(means) if len(means) else means
