"""Groups of references that share a value of a factor (table ``facts``), as siblings of a family: among those alone a
right one is ranked by metrics like ``R@1 (family)``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import polars as pl

from videomatch.data import facts

#: R@k of a factor
METRIC = re.compile(r"R@([1-9]\d*) \((\w+)\)")
PAIR = ["query_id", "reference_id"]


def factors(metrics: Iterable[str]) -> list[str]:
    """The factors by which metrics group references, sorted."""
    return sorted({match[2] for metric in metrics if (match := METRIC.fullmatch(metric))})


def members(corpus: Path, factor: str, right: pl.DataFrame, references: Sequence[str]) -> pl.DataFrame:
    """Pairs ``query_id``, ``reference_id`` of each query of the ``right`` pairs and those of ``references`` that share
    a value of the factor with its right one, that one included; a ValueError where none has a value."""
    known = facts.read(corpus, [factor]).select("value", reference_id="id").unique()
    of_query = right.select(PAIR).join(known, on="reference_id").select("query_id", "value").unique()
    if not len(of_query):
        raise ValueError(f"{corpus}, table facts: no reference has a fact of factor {factor!r}")
    known = known.filter(pl.col("reference_id").is_in(list(references)))
    return of_query.join(known, on="value").select(PAIR).unique().sort(PAIR)


def ranked(right: pl.DataFrame, members: pl.DataFrame) -> pl.DataFrame:
    """The ``right`` pairs among the ``members`` of their queries, which have a ``score``: how many members are
    ``better``, how many others tie (``equal``), and the ``size`` of the group; ordered by query."""
    scores = members.select("query_id", other="score")
    own = right.drop("score", "better", "equal", strict=False).join(members, on=PAIR).join(scores, on="query_id")
    counts = {"better": pl.col("other") > pl.col("score"), "equal": pl.col("other") == pl.col("score")}
    each = own.group_by([c for c in own.columns if c != "other"]).agg(
        pl.len().alias("size"), *(count.sum().cast(pl.Int64).alias(name) for name, count in counts.items())
    )
    return each.with_columns(pl.col("equal") - 1).sort(PAIR)
