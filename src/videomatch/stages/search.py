"""Search: the score of every judged pair of a protocol, its rank, and the nearest references of every query.

Scores are cosines, or inner products where the embeddings' ``embed.json`` says ``"score": "dot"``. References are those
of the protocol that have an embedding; a video is never its own reference. The result holds, of every row, how many
references score ``better`` and how many tie (``equal``), so that any rank metric is exact from it. What has no
embedding (a video that could not be decoded) is left out, counted and listed.

With ``rescore`` more than the two embeddings has a say in a score; see :mod:`videomatch.retrieval.rescoring`.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.pairs import fold_pairs
from videomatch.data.store import Store
from videomatch.retrieval import similarity
from videomatch.retrieval.rescoring import Asked
from videomatch.stages._rescore import Rescoring

log = logging.getLogger(__name__)

#: which store the queries and the references of a protocol lie in
KINDS = {"video_video": ("videos", "videos"), "text_video": ("texts", "videos"), "video_text": ("videos", "texts")}


def search(
    *,
    corpus: Path,
    embeddings: list[Path],
    output: Path,
    split: str | list[str],
    kind: str,
    top: int = 10,
    members: dict[str, dict[str, Any] | None],
    threads: int = 1,
    rescore: dict[str, Any] | None = None,
    features: list[Path] | None = None,
    frame_embeddings: list[Path] | None = None,
) -> None:
    """Write ``<member>/rankings.parquet`` and ``<member>/search.json`` of every member of a system.

    Args:
        corpus: result of ``prepare``.
        embeddings: folders with ``<member>/videos/`` and ``<member>/texts/``; several are one, with disjoint ids.
        split: the protocol: its ids in the roles query and reference, and the judged pairs with both sides among them.
            Without queries, every reference is one. Several are pooled, for members with a fold.
        kind: ``video_video``, ``text_video``, or ``video_text``: the protocol with its roles swapped.
        top: nearest references to keep of every query.
        members: name -> None, or ``{fold: [f, k], protocol}``: then only the validation pairs of that fold are judged,
            and their videos alone are searched (:func:`videomatch.data.pairs.fold_pairs`).
        threads: of the matrix product.
        rescore: ``{method, …}``: a method of :mod:`retrieval.rescoring` with its options, ``expert`` if it reads
            frames, and ``bank``, the split (or several) of other queries, if it holds them against these.
        features: results of ``extract`` with the frames that a rescoring reads.
        frame_embeddings: like ``embeddings``, with texts in the space of the frames; by default ``embeddings``.

    Raises:
        ValueError: an unknown kind or split, an embedding that is not one finite row, or a protocol of which nothing is
            left.
    """
    if kind not in KINDS:
        raise ValueError(f"no kind {kind!r} of search; there are {', '.join(KINDS)}")
    torch.set_num_threads(threads)
    more = Rescoring(corpus, kind, rescore, features or [], frame_embeddings or embeddings) if rescore else None
    whole = None if any(members.values()) else _protocol(corpus, str(split), kind)
    for member, fold in members.items():
        folders = [e / member for e in embeddings]
        protocol = whole or _fold_protocol(corpus, split, fold or {})
        _search(folders, output / member, protocol, kind, top, more and more.of(member))


@dataclass(frozen=True)
class Protocol:
    """What is searched: ids of queries and references, and the judged pairs between them."""

    name: str
    queries: list[str]
    references: list[str]
    relevance: pl.DataFrame


def _protocol(corpus: Path, split: str, kind: str) -> Protocol:
    splits, relevance = tables.read("splits", corpus), tables.read("relevance", corpus)
    sides = [split_ids(splits, split, role) for role in ("query", "reference")]
    if kind == "video_video" and not sides[0]:
        sides[0] = sides[1]  # a plain list of videos: each is held against the others
    if kind == "video_text":
        sides.reverse()
        relevance = relevance.rename({"query_id": "reference_id", "reference_id": "query_id"})
    return Protocol(split, sides[0], sides[1], relevance)


def _fold_protocol(corpus: Path, split: str | list[str], fold: dict[str, Any]) -> Protocol:
    number, folds = fold["fold"]
    options = {"protocol": fold["protocol"]} if "protocol" in fold else {}
    _, judged = fold_pairs(corpus, split, folds=folds, fold=number, **options)
    sides = [judged[column].unique().sort().to_list() for column in ("query_id", "reference_id")]
    name = "+".join([split] if isinstance(split, str) else split)
    return Protocol(f"{name} (fold {number} of {folds})", sides[0], sides[1], judged)


def _search(
    folders: list[Path], output: Path, protocol: Protocol, kind: str, top: int, rescoring: Rescoring | None
) -> None:
    """One member's result."""
    stores = {name: Store.open(*(e / name for e in folders)) for name in set(KINDS[kind])}
    query_store, reference_store = (stores[name] for name in KINDS[kind])
    queries, no_query = _there(query_store, protocol.queries)
    references, no_reference = _there(reference_store, protocol.references)
    if not queries or not references:
        raise ValueError(
            f"split {protocol.name!r}: {len(queries)} queries and {len(references)} references have an embedding"
        )
    sides = [protocol.queries, protocol.references]
    judged, lost = _judged(protocol.relevance, sides, queries, references, kind)
    position = {r: n for n, r in enumerate(references)}
    rows = {q: n for n, q in enumerate(queries)}
    pairs = np.array(
        [(rows[q], position[r]) for q, r in judged.select("query_id", "reference_id").iter_rows()], np.int64
    ).reshape(-1, 2)
    own = np.array([position.get(q, -1) for q in queries]) if kind == "video_video" else None
    bank = [] if rescoring is None else rescoring.bank(query_store, protocol.queries)
    read = [(query_store, queries), (reference_store, references), (query_store, bank)]
    embedded = [_embeddings(store, ids) for store, ids in read]
    if _score(folders) == "cosine":
        embedded = [similarity.normalise(side) for side in embedded]
    if rescoring is None:
        found = similarity.search(embedded[0], embedded[1], top=top, pairs=pairs, exclude=own)
    else:
        found = rescoring.found(embedded, [queries, references], Asked(pairs, top, own))
    output.mkdir(parents=True, exist_ok=True)
    tables.write("rankings", _rankings(judged, found, queries, references), output)
    missing = sorted({*no_query, *no_reference})
    if missing:
        log.warning("%s: %d items have no embedding, %d judged pairs are left out", protocol.name, len(missing), lost)
    about: dict[str, Any] = {
        "split": protocol.name,
        "kind": kind,
        "top": top,
        "counts": {
            "queries": len(queries),
            "references": len(references),
            "pairs": len(judged),
            "pairs left out": lost,
        },
        "own": [] if own is None else [q for q, at in zip(queries, own.tolist(), strict=True) if at >= 0],
        "missing": missing,
    }
    if rescoring is not None:
        about["rescore"] = rescoring.about
    (output / "search.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _there(store: Store, ids: list[str]) -> tuple[list[str], list[str]]:
    """Ids with and without an embedding, both in order."""
    lengths = dict(zip(ids, store.rows(ids).tolist(), strict=True))
    several = [i for i, length in lengths.items() if length > 1]
    if several:
        raise ValueError(f"{store.roots[0]}: {several[0]!r} has {lengths[several[0]]} rows, expected one embedding")
    return [i for i in ids if lengths[i]], [i for i in ids if not lengths[i]]


def _embeddings(store: Store, ids: list[str]) -> np.ndarray:
    rows, _ = store.gather(ids)
    rows = rows.reshape(len(ids), int(np.prod(store.shape)))
    odd = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(odd):
        raise ValueError(f"{store.roots[0]}: the embedding of {ids[odd[0]]!r} is not finite")
    return rows


def _score(folders: list[Path]) -> str:
    """How these embeddings are compared: ``cosine`` or ``dot``."""
    files = [folder / "embed.json" for folder in folders]
    said = [json.loads(f.read_text(encoding="utf-8")).get("score", "cosine") if f.exists() else "cosine" for f in files]
    if len(set(said)) > 1 or said[0] not in ("cosine", "dot"):
        raise ValueError(f"{', '.join(map(str, folders))}: scores are {said}, expected all cosine or all dot")
    return said[0]


def _judged(
    relevance: pl.DataFrame, sides: list[list[str]], queries: list[str], references: list[str], kind: str
) -> tuple[pl.DataFrame, int]:
    """The judged pairs of the protocol that can be scored, and how many cannot."""
    listed = relevance.filter(pl.col("query_id").is_in(sides[0]) & pl.col("reference_id").is_in(sides[1]))
    listed = listed.group_by("query_id", "reference_id").agg(pl.col("grade").mean())  # a pair may be judged twice
    if kind == "video_video":
        listed = listed.filter(pl.col("query_id") != pl.col("reference_id"))
    judged = listed.filter(pl.col("query_id").is_in(queries) & pl.col("reference_id").is_in(references))
    return judged.sort("query_id", "reference_id"), len(listed) - len(judged)


def _rankings(judged: pl.DataFrame, found: similarity.Found, queries: list[str], references: list[str]) -> pl.DataFrame:
    """Judged pairs, and the nearest references that are not judged."""
    pairs = judged.with_columns(
        pl.Series("score", found.scores), pl.Series("better", found.better), pl.Series("equal", found.equal)
    )
    row, place = np.nonzero(found.top >= 0)
    columns = found.top[row, place]
    nearest = pl.DataFrame(
        {
            "query_id": [queries[n] for n in row],
            "reference_id": [references[n] for n in columns],
            "score": found.top_scores[row, place],
            "grade": pl.Series([None] * len(row), dtype=pl.Float64),
            "better": found.top_better[row, place],
            "equal": found.top_equal[row, place],
        }
    )
    nearest = nearest.join(judged, on=["query_id", "reference_id"], how="anti")
    return pl.concat([pairs.select(nearest.columns), nearest]).sort("query_id", "better", "reference_id")
