"""The first references of every query, in the one order that a table of rankings leaves open: that of ties.

TRECVID breaks ties by shot id, the later id first; so does a run written here, and its evaluation. Where more
references tie at the last place than there is room for, those that the search kept are taken.
"""

from __future__ import annotations

import polars as pl


def ranked(rankings: pl.DataFrame, most: int, references: int) -> pl.DataFrame:
    """The ``most`` best of the ``references`` that each query was ranked against, none of which may be missing in the
    ``rankings`` of ``search``: query_id, rank (from 1), reference_id, score, ordered by query and rank."""
    wanted = min(most, references)
    # a judged pair may be anywhere in the ranking; what counts is that no one of the best is missing
    best = rankings.filter(pl.col("better") < most)
    short = best.group_by("query_id").len().filter(pl.col("len") < wanted)
    lost = rankings["query_id"].n_unique() - best["query_id"].n_unique()
    if len(short) or lost:
        first = short["query_id"][0] if len(short) else "?"
        raise ValueError(
            f"{len(short) + lost} queries have fewer than {wanted} ranked references, first {first!r}: "
            f"the search kept too few (`top`)"
        )
    return (
        best.sort("query_id", "score", "reference_id", descending=[False, True, True])
        .with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias("rank"))
        .filter(pl.col("rank") <= wanted)
        .select("query_id", "rank", "reference_id", "score")
    )
