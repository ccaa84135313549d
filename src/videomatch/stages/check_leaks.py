"""Check a table for leaks: refuse it if what it judges by was trained on, before features are extracted or anything is
trained.

Judged are the queries and references of its protocols. Videos count as the same by what the corpora know
(:func:`videomatch.data.leaks.same_content`); a caption counts as its video. External weights (a hub id, a folder) say
nothing of what they were trained on. The videos and queries by which scores are normalised count as trained on, too.
What all methods may see of the test itself does not: an index, the singular directions of ``combine``, and the queries
of ``dual_softmax``, whose rows stand in italics.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from videomatch import examples as examples_
from videomatch.common import files
from videomatch.common.digests import dumps
from videomatch.data import tables
from videomatch.data.corpus import pooled_ids, train_ids
from videomatch.data.leaks import same_content
from videomatch.data.pairs import fold_pairs, paired_ids

ROLES = ("query", "reference")
Json = dict[str, Any]


def check_leaks(
    *, corpora: list[Path], output: Path, table: str, ids: list[int], learned: list[Json], cells: list[Json]
) -> None:
    """Write ``leaks.json``: the ``cells``, each with the number of its ``videos``, how many of these are ``shared``,
    ``by`` what, and the splits that its system itself was ``trained_on``.

    Args:
        corpora: of the table, then of all that its systems learned from.
        ids: of each corpus a number, the same where ids mean the same videos.
        learned: ``dataset`` (its number) and either ``splits`` (of both roles; none: what text analysis is fitted on),
            or ``examples`` and a ``fold``, with those to validate on if that ``selects`` weights.
        cells: ``split``, ``system``, labels of its ``rows``, whether they all say ``shares: train``, and ``members``:
            what is ``judged``, and how -> number of what was ``learned``.

    Raises:
        ValueError: with every row that shares a video and does not say so.
    """
    known = [_learned(corpora[about["dataset"]], about) for about in learned]
    judge = functools.cache(lambda key: _judged(corpora[0], **json.loads(key)))

    @functools.cache
    def shares(key: str, number: int) -> set[str]:
        """Those of the judged videos that were learned from."""
        at = learned[number]["dataset"]
        same = same_content((corpora[0], corpora[at]), judge(key), known[number][1], same_ids=ids[at] == ids[0])
        return set(same["test_id"])

    found, refused = [], []
    for cell in cells:
        judged, shared, own = set[str](), dict[str, set[str]](), dict[str, None]()
        for member in cell["members"]:
            key = dumps(member["judged"])
            judged |= judge(key)
            for how, number in member["learned"].items():
                splits, videos = known[number]
                shared.setdefault(f"{how} ({splits})", set()).update(shares(key, number))
                if learned[number].get("own") and videos:
                    own[splits] = None
        by = sorted(((len(some), how) for how, some in shared.items() if some), reverse=True)
        count = len(set[str]().union(*shared.values()))
        about = {"split": cell["split"], "system": cell["system"], "videos": len(judged), "shared": count}
        found.append(about | {"by": by, "trained_on": list(own)})
        if count and not cell["shares"]:
            ways = "; ".join(f"{n:,} by {how}" for n, how in by)
            where = f"(system {cell['system']}), protocol {cell['split']!r}"
            what = f"{count:,} of its {len(judged):,} videos were trained on: {ways}"
            refused += [f"table {table!r}, row {label!r} {where}: {what}" for label in cell["rows"]]
    if refused:
        raise ValueError("\n".join([*refused, "train on other videos, or let the row say `shares: train`"]))
    files.write_json(output / "leaks.json", {"cells": found})


def _learned(corpus: Path, about: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The splits, in words, and the videos that something was learned from."""
    if "splits" in about:
        splits = about["splits"]
        return " + ".join(splits) or "train", sorted(_judged(corpus, splits)) if splits else train_ids(corpus)
    options, fold = dict(about["examples"]), about.get("fold")
    kind = examples_.kind(options.pop("kind"))
    train, validation = kind.videos_of_parts(corpus, options, (fold[0], fold[1]) if fold else None)
    split = options.get("split", kind.split)
    named = [split] if isinstance(split, str) else list(split)
    if about["selects"] and not fold:
        named.append(f"{options.get('validation', kind.validation)} to choose weights")
    return " + ".join(named), [*train, *(validation if about["selects"] else [])]


def _judged(
    corpus: Path, split: str | Sequence[str], fold: Sequence[int] | None = None, protocol: str = "disjoint"
) -> set[str]:
    """The videos of protocols, or of the validation pairs of a fold; of captions, the videos that they belong to."""
    if fold:
        return set(paired_ids(fold_pairs(corpus, split, fold=fold[0], folds=fold[1], protocol=protocol)[1]))
    ids = pooled_ids(corpus, split, ROLES)
    texts = tables.read("texts", corpus).filter(pl.col("text_id").is_in(ids) & pl.col("video_id").is_not_null())
    return set(ids) - set(tables.read("texts", corpus)["text_id"]) | set(texts["video_id"])
