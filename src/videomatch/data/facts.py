"""The table ``facts`` as vectors, for oracles that know some factors of generated videos and nothing else, and for
linear probes: what is true of a video, or of a part of it, and what a text names. References that share a value of a
factor are a group (as siblings of a family): among those alone a right one is ranked by metrics like ``R@1 (family)``.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import coo_array, csr_array, hstack

from videomatch.common.messages import unknown
from videomatch.data import tables
from videomatch.data.store import Store

#: instead of a list of factors
ALL = "all"
#: scale of the columns that texts are compared in, a power of two: so scores of texts are whole numbers
_SMALL = 2.0**-8
PAIR = ["query_id", "reference_id"]

Factors = Sequence[str] | str


def read(corpus: Path, factors: Factors) -> pl.DataFrame:
    """The facts of some factors, or of ``all``; a ValueError names one that the corpus has no facts of."""
    facts = tables.read("facts", corpus)
    known = facts["factor"].unique().to_list()
    for factor in known and () if factors == ALL else factors:
        if factor not in known:
            raise ValueError(f"{corpus}, table facts: {unknown('factor', factor, known)}")
    if not known:
        raise ValueError(f"{corpus} has no table of facts: only generated videos come with what is true of them")
    return facts if factors == ALL else facts.filter(pl.col("factor").is_in(list(factors)))


def vectors(facts: pl.DataFrame, videos: Sequence[str], texts: Sequence[str]) -> tuple[csr_array, csr_array]:
    """Rows of videos (V, D) and of texts (T, D) in one space, to be compared by inner products.

    * Of a text and a video: less by one fact that is named and wrong is better than any number that are right; then
      the more are right the better. (Among videos all name the same facts, so those where most agree come first, with
      no advantage or disadvantage for a video of many facts.)
    * Of two videos: the mean over the factors of the cosine of their sets of values (1 if they are equal, 0 if none is
      shared), up to 1e-4 for each value that is shared.
    """
    facts = facts.select("id", "factor", "value").unique().sort(pl.all())
    sides = [facts.filter(pl.col("id").is_in(list(ids))) for ids in (videos, texts)]
    named = _one_hot(sides[1], sides[1], texts)
    shown = _one_hot(sides[0], sides[1], videos)
    shared = sides[0].filter(pl.len().over("factor", "value") > 1)
    share = sides[0].select(pl.len().over("id", "factor")).to_series()
    sides[0] = sides[0].with_columns(weight=1 / (share * facts["factor"].n_unique()).sqrt())
    alike = _one_hot(sides[0], shared, videos)
    count = np.asarray(named.sum(axis=1))
    most = int(count.max(initial=0))
    rest = (1 + most**2 - most * count)[:, None]  # above 0, so that a text without a fact has a vector, too
    of_videos = hstack([shown * _SMALL, alike, np.full((len(videos), 1), _SMALL)])
    no_facts = csr_array((len(texts), shared.n_unique(["factor", "value"])))
    of_texts = hstack([named * (1 + most) / _SMALL, no_facts, rest / _SMALL])
    return csr_array(of_videos, dtype=np.float32), csr_array(of_texts, dtype=np.float32)


def _one_hot(facts: pl.DataFrame, columns: pl.DataFrame, ids: Sequence[str]) -> csr_array:
    """(ids, values): the ``weight`` of each fact (1 by default) in the column of its factor and value, of those of
    ``columns``."""
    columns = columns.select("factor", "value").unique().sort(pl.all()).with_row_index("column")
    rows = pl.DataFrame({"id": ids}, schema={"id": pl.String}).with_row_index("row")
    found = facts.join(columns, on=["factor", "value"]).join(rows, on="id")
    weight = found["weight"].to_numpy() if "weight" in found.columns else np.ones(len(found))
    return coo_array((weight, (found["row"], found["column"])), shape=(len(ids), len(columns))).tocsr()


def stretches(facts: pl.DataFrame, factor: str, ids: Sequence[str]) -> pl.DataFrame:
    """The parts of some videos of which something is known of a factor: ``id``, ``start``, ``end`` (null: the whole
    video), and the ``value``s that hold there, ordered."""
    rows = facts.filter((pl.col("factor") == factor) & pl.col("id").is_in(list(ids)))
    return rows.group_by("id", "start", "end").agg(pl.col("value").unique()).sort("id", "start", "end")


def pooled(store: Store, stretches: pl.DataFrame, parts: int) -> np.ndarray:
    """Features of stretches, (n, parts * dim) float32: the means over equal ``parts`` of the time of each, with the row
    that is nearest where a part has none; nan where the video has no rows."""
    found = np.full((len(stretches), parts, int(np.prod(store.shape))), np.nan, np.float32)
    for number, (video, start, end) in enumerate(stretches.select("id", "start", "end").iter_rows()):
        if not store.rows([video])[0]:
            continue
        rows, times = store[video].reshape(-1, found.shape[-1]).astype(np.float32), store.times(video)
        edges = np.linspace(start or 0.0, times[-1, 1] if end is None else end, parts + 1)
        inside = np.minimum(times[:, 1], edges[1:, None]) - np.maximum(times[:, 0], edges[:-1, None])
        weight = np.where(times[:, 0] < 0, 1.0, np.maximum(inside, 0))  # rows without times are of the whole video
        nearest = inside.argmax(axis=1)
        weight[np.arange(parts), nearest] += weight[np.arange(parts), nearest] == 0
        found[number] = weight / weight.sum(axis=1, keepdims=True) @ rows
    return found.reshape(len(stretches), -1)


def group_members(corpus: Path, factor: str, right: pl.DataFrame, references: Sequence[str]) -> pl.DataFrame:
    """Pairs ``query_id``, ``reference_id`` of each query of the ``right`` pairs and those of ``references`` that share
    a value of the factor with its right one, that one included; a ValueError where none has a value."""
    known = read(corpus, [factor]).select("value", reference_id="id").unique()
    of_query = right.select(PAIR).join(known, on="reference_id").select("query_id", "value").unique()
    if not len(of_query):
        raise ValueError(f"{corpus}, table facts: no reference has a fact of factor {factor!r}")
    known = known.filter(pl.col("reference_id").is_in(list(references)))
    return of_query.join(known, on="value").select(PAIR).unique().sort(PAIR)


def ranked_in_group(right: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """The ``right`` pairs among the ``members`` of their queries, which have a ``score``: how many members are
    ``better``, how many others tie (``equal``), and the ``size`` of the group; ordered by query."""
    scores = members.select("query_id", other="score")
    own = right.drop("score", "better", "equal", strict=False).join(members, on=PAIR).join(scores, on="query_id")
    counts = {"better": pl.col("other") > pl.col("score"), "equal": pl.col("other") == pl.col("score")}
    each = own.group_by([c for c in own.columns if c != "other"]).agg(
        pl.len().alias("size"), *(count.sum().cast(pl.Int64).alias(name) for name, count in counts.items())
    )
    return each.with_columns(pl.col("equal") - 1).sort(PAIR)
