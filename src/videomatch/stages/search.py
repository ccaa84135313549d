"""Search: the score of every judged pair of a protocol, its rank, and the nearest references of every query.

Scores are cosines, or inner products where the embeddings' ``embed.json`` says ``"score": "dot"``. References are those
of the protocol that have an embedding; a video is never its own reference. The result holds, of every row, how many
references score ``better`` and how many tie (``equal``), so that any rank metric is exact from it. Items without an
embedding (videos that could not be decoded) are left out, counted and listed. With ``groups`` the result also holds, of
every query, all references that have a fact in common with a right one.

With ``rescore`` a score also uses frames of videos, other queries, or another model; see
:mod:`videomatch.retrieval.rescoring`.

Vectors are read from their stores part by part (but for ``rescore``, which holds them all). Beyond ``exact_up_to``
references the nearest of queries *without* ranked pairs are looked up in inverted lists
(:class:`videomatch.retrieval.index.Index`), since each video of a large corpus against all others is a square of its
size. No score, rank or metric of a ranked pair is made from that; ``search.json`` tells how many of the true nearest
are found of a sample of these queries.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from videomatch.common import files
from videomatch.common.vectors import unit_rows
from videomatch.data import facts, tables
from videomatch.data.corpus import pooled_ids, split_texts
from videomatch.data.pairs import fold_pairs
from videomatch.data.store import Store, expert_store
from videomatch.retrieval import exact, rescoring
from videomatch.retrieval.exact import Request, SearchResult

log = logging.getLogger(__name__)

#: the stores of the queries and of the references of a protocol
KINDS = {"video_video": ("videos", "videos"), "text_video": ("texts", "videos"), "video_text": ("videos", "texts")}
#: rescoring method -> the entry of ``rescore:`` that names its further input
INPUTS = {
    "frame_max": "expert",
    "frame_softmax": "expert",
    "qb_norm": "bank",
    "dual_softmax": None,
    "rerank": "reranker",
}
#: kinds of texts that are queries
QUERIES = ("caption", "query")
#: queries that are searched for exactly, too, to measure the recall of inverted lists
SAMPLE = 256


def search(
    *,
    corpus: Path,
    embeddings: Path,
    output: Path,
    split: str | list[str],
    kind: str,
    top: int = 10,
    members: dict[str, dict[str, Any] | None],
    threads: int = 1,
    groups: Sequence[str] = (),
    rescore: dict[str, Any] | None = None,
    features: list[Path] | None = None,
    frame_embeddings: Path | None = None,
    run: list[Path] | None = None,
    exact_up_to: int | None = None,
    scratch: Path | None = None,
) -> None:
    """Write ``<member>/rankings.parquet`` and ``<member>/search.json`` of every member of a system.

    Args:
        embeddings: folder with ``<member>/videos/`` and ``<member>/texts/``.
        split: the protocol: its ids in the roles query and reference, and the judged pairs with both sides among them.
            Without queries, every reference is one. Several are pooled, for members with a fold.
        kind: of :data:`KINDS`; ``video_text`` swaps the protocol's roles.
        members: name -> None, or ``{fold: [f, k], protocol}``: then only the validation pairs of that fold are judged,
            and their videos alone are searched (:func:`videomatch.data.pairs.fold_pairs`).
        groups: factors of the table ``facts``: references that share a value of one are ranked whatever their score.
        rescore: ``{method, …}``: a method of :mod:`retrieval.rescoring` with its options, ``expert`` if it reads
            frames, and ``bank``, the split (or several) of other queries, if it reads those.
        frame_embeddings: like ``embeddings``, with texts in the space of the frames; by default ``embeddings``.
        run: the checkpoints of the system that scores pairs, one per member in the order of their names.
        exact_up_to: references beyond which queries without ranked pairs are looked up; by default none is.
        scratch: folder that survives a kill; members and inverted lists in it are not made again.
    """
    needed = INPUTS[rescore["method"]] if rescore else None
    if rescore and needed is not None and needed not in rescore and not (needed == "reranker" and run):
        raise ValueError(f"rescore {rescore} needs {needed!r}")
    if needed in ("expert", "reranker") and kind == "video_video":
        raise ValueError(f"rescore {rescore} compares texts with videos; this search compares videos")
    runs = dict(zip(sorted(members), run, strict=True)) if run else {}
    torch.set_num_threads(threads)
    for member, fold in members.items():
        texts = (frame_embeddings or embeddings) / member
        given = Rescoring(corpus, kind, rescore, features or [], texts, runs.get(member)) if rescore else None
        protocol = _protocol(corpus, split, kind, fold)
        place = (scratch or output) / member
        if scratch is None or not place.exists():
            lists = None if exact_up_to is None else (exact_up_to, (scratch or output) / f".{member}.lists")
            with files.replacing(place) as folder:
                _search(embeddings / member, folder, protocol, kind, top, given, (corpus, groups), lists)
            files.remove((scratch or output) / f".{member}.lists")
        if scratch is not None:
            shutil.copytree(place, output / member)


@dataclass(frozen=True)
class Protocol:
    """What is searched: ids of queries and references, and the judged pairs between them."""

    name: str
    queries: list[str]
    references: list[str]
    relevance: pl.DataFrame


def _protocol(corpus: Path, split: str | list[str], kind: str, fold: dict[str, Any] | None) -> Protocol:
    name = split if isinstance(split, str) else "+".join(split)
    if fold:
        number, folds = fold["fold"]
        options = {"protocol": fold["protocol"]} if "protocol" in fold else {}
        _, judged = fold_pairs(corpus, split, folds=folds, fold=number, **options)
        sides = [judged[column].unique().sort().to_list() for column in ("query_id", "reference_id")]
        return Protocol(f"{name} (fold {number} of {folds})", sides[0], sides[1], judged)
    relevance = tables.read("relevance", corpus)
    sides = [pooled_ids(corpus, name, [role]) for role in ("query", "reference")]
    if kind == "video_video" and not sides[0]:
        sides[0] = sides[1]  # a plain list of videos: each is compared with the others
    if kind == "video_text":
        sides.reverse()
        relevance = relevance.rename({"query_id": "reference_id", "reference_id": "query_id"})
    return Protocol(name, sides[0], sides[1], relevance)


@dataclass(frozen=True)
class Rescoring:
    """The options of ``rescore:``, and where the inputs of its method are; ``embeddings`` are those of one member."""

    corpus: Path
    kind: str
    options: Mapping[str, Any]
    features: Sequence[Path]
    embeddings: Path
    run: Path | None = None

    def search(
        self, store: Store, ids: Sequence[list[str]], rows: Sequence[np.ndarray], is_cosine: bool, request: Request
    ) -> SearchResult:
        """The result for ids and rows of the queries, whose embeddings are in ``store``, and of the references."""
        method, wanted = self.options["method"], INPUTS[self.options["method"]]
        options = {name: value for name, value in self.options.items() if name not in ("method", wanted)}
        inputs: list[Any] = []
        if wanted == "bank":
            inputs = [_Embeddings(store, self._bank(store, ids[0]), is_cosine)[:]]
        elif wanted == "expert":
            texts, videos = ids if self.kind == "text_video" else ids[::-1]
            inputs = [self._frames(texts, videos)]
        elif self.run is not None:
            inputs = [self._pair_scores(self.run, ids)]
        return getattr(rescoring, method)(*rows, *inputs, request, **options)

    def _bank(self, store: Store, queries: list[str]) -> list[str]:
        """Ids of the bank's queries, of the same side as the protocol's."""
        split = self.options["bank"]
        if self.kind == "text_video":
            wanted = split_texts(self.corpus, split, QUERIES)["text_id"].to_list()
        else:
            wanted = pooled_ids(self.corpus, split)
        shared = set(wanted) & set(queries)
        if shared:
            raise ValueError(f"rescore.bank {split!r} holds {len(shared)} of the queries that are searched for")
        found = store.present(wanted, single=True)
        if not found:
            raise ValueError(f"rescore.bank {split!r}: none of its {len(wanted)} queries has an embedding")
        log.info("a bank of %d queries", len(found))
        return found

    def _pair_scores(self, run: Path, ids: Sequence[list[str]]) -> rescoring.PairScores:
        from videomatch.stages._trained import PairScorer  # transformers take seconds to import

        of_text = dict(tables.read("texts", self.corpus).select("text_id", "text").iter_rows())
        swapped = self.kind == "video_text"
        texts, videos = reversed(ids) if swapped else ids
        scorer = PairScorer(run, self.corpus, self.features)
        return scorer.of_pairs([of_text[i] for i in texts], videos, swapped=swapped)

    def _texts(self, ids: list[str]) -> np.ndarray:
        root = self.embeddings / "texts"
        if not self.embeddings.is_dir():  # another system, whose members have other names
            root = min(self.embeddings.parent.glob("*/texts"), default=root)
        store = Store(root)
        absent = sorted(set(ids).difference(store.present(ids, single=True)))
        if absent:
            raise ValueError(f"{store.roots[0]}: {absent[0]!r} has no embedding")
        return store.gather(ids)[0].reshape(len(ids), -1)

    def _frames(self, texts: list[str], ids: list[str]) -> rescoring.Frames:
        store = expert_store(self.features, self.options["expert"])
        at = store.index(ids)
        lengths = store.lengths[at]
        if (lengths < 1).any():
            raise ValueError(f"{store.roots[0]}: {ids[int((lengths < 1).argmax())]!r} has an embedding but no frame")

        def read(first: int, last: int) -> np.ndarray:
            rows, _ = store.gather(at[first:last])
            return rows.reshape(len(rows), -1)

        return rescoring.Frames(self._texts(texts), lengths, read)


def _search(
    folder: Path,
    output: Path,
    protocol: Protocol,
    kind: str,
    top: int,
    given: Rescoring | None,
    groups: tuple[Path, Sequence[str]],
    lists: tuple[int, Path] | None,
) -> None:
    """One member's result; ``groups`` are factors and the corpus that tells of them, ``lists`` beyond how many
    references they are looked up, and the folder of the inverted lists."""
    query_store, reference_store = (Store(folder / name) for name in KINDS[kind])
    queries = query_store.present(protocol.queries, single=True)
    references = reference_store.present(protocol.references, single=True)
    if not queries or not references:
        counted = f"{len(queries)} queries and {len(references)} references"
        raise ValueError(f"split {protocol.name!r}: {counted} have an embedding")
    judged, lost = _judged(protocol, queries, references, kind)
    right = judged.filter(pl.col("grade") > 0)
    of_groups = [facts.group_members(groups[0], factor, right, references) for factor in groups[1]]
    ranked = pl.concat([judged, *of_groups], how="diagonal").unique(["query_id", "reference_id"], keep="first")
    ranked = ranked.sort("query_id", "reference_id")
    rows, columns = ({name: n for n, name in enumerate(ids)} for ids in (queries, references))
    pairs = [(rows[q], columns[r]) for q, r in ranked.select("query_id", "reference_id").iter_rows()]
    own = np.array([columns.get(q, -1) for q in queries]) if kind == "video_video" else None
    request = Request(np.array(pairs, np.int64).reshape(-1, 2), top, own)
    file = folder / "embed.json"
    score = json.loads(file.read_text(encoding="utf-8")).get("score", "cosine") if file.exists() else "cosine"
    if score not in ("cosine", "dot"):
        raise ValueError(f"{file}: score {score!r}, expected cosine or dot")
    is_cosine = score == "cosine"
    embedded = _Embeddings(query_store, queries, is_cosine), _Embeddings(reference_store, references, is_cosine)
    free = np.setdiff1d(np.arange(len(queries)), request.pairs[:, 0])
    approximate: dict[str, Any] = {}
    if given is not None:
        found = given.search(query_store, [queries, references], [x[:] for x in embedded], is_cosine, request)
    elif lists is None or len(references) <= lists[0] or not len(free):
        found = exact.search(*embedded, request)
    else:
        from videomatch.retrieval.index import Index  # with faiss, which only this needs

        index = Index(reference_store.roots[0], lists[1], cosine=is_cosine, exact=0, ids=references)
        candidates = functools.partial(index.candidates, kind="rows" if kind == "video_video" else "texts")
        found = exact.search(*embedded, request, candidates=candidates)
        approximate = {"queries": len(free)} | _recall(*embedded, request, free, found)
    tables.write("rankings", _rankings(ranked, found, queries, references), output)
    missing = sorted(set(protocol.queries).difference(queries) | set(protocol.references).difference(references))
    if missing:
        log.warning("%s: %d items have no embedding, %d judged pairs are left out", protocol.name, len(missing), lost)
    counts = {"queries": len(queries), "references": len(references), "pairs": len(judged), "pairs left out": lost}
    about: dict[str, Any] = {
        "split": protocol.name,
        "kind": kind,
        "top": top,
        "counts": counts,
        "own": [] if own is None else [q for q, at in zip(queries, own.tolist(), strict=True) if at >= 0],
        "missing": missing,
    }
    if approximate:
        about["approximate"] = approximate
    if given is not None:
        is_transductive = given.options["method"] in rescoring.TRANSDUCTIVE
        about["rescore"] = {**given.options, "transductive": is_transductive}
    files.write_json(output / "search.json", about)


class _Embeddings:
    """The embeddings of some ids, as :class:`videomatch.retrieval.exact.Rows`; of unit length ``if is_cosine``."""

    def __init__(self, store: Store, ids: list[str], is_cosine: bool) -> None:
        self._store, self._at, self._is_cosine = store, store.index(ids), is_cosine
        self.shape = (len(ids), math.prod(store.shape))

    def __getitem__(self, at: slice | np.ndarray) -> np.ndarray:
        at = self._at[at]
        rows = self._store.gather(at)[0].reshape(len(at), -1)
        finite = np.isfinite(rows).all(axis=1)
        if not finite.all():
            odd = self._store.ids[int(at[finite.argmin()])]
            raise ValueError(f"{self._store.roots[0]}: the embedding of {odd!r} is not finite")
        return unit_rows(rows, out=rows) if self._is_cosine else rows


def _recall(
    queries: _Embeddings, references: _Embeddings, request: Request, free: np.ndarray, found: SearchResult
) -> dict[str, Any]:
    """The share of the true nearest of some queries that was ``found``, and of how many queries."""
    sample = free[np.linspace(0, len(free) - 1, min(SAMPLE, len(free))).astype(np.int64)]
    exclude = None if request.exclude is None else request.exclude[sample]
    true = exact.search(queries[sample], references, Request(top=request.top, exclude=exclude)).top
    hits = (true[:, :, None] == found.top[sample, None]) & (true >= 0)[:, :, None]
    return {"sample": len(sample), "top": request.top, "recall": round(hits.sum() / max(1, (true >= 0).sum()), 4)}


def _judged(protocol: Protocol, queries: list[str], references: list[str], kind: str) -> tuple[pl.DataFrame, int]:
    """The judged pairs of the protocol that can be scored, and how many cannot."""
    listed = protocol.relevance.filter(
        pl.col("query_id").is_in(protocol.queries) & pl.col("reference_id").is_in(protocol.references)
    )
    listed = listed.group_by("query_id", "reference_id").agg(pl.col("grade").mean())  # a pair may be judged twice
    if kind == "video_video":
        listed = listed.filter(pl.col("query_id") != pl.col("reference_id"))
    judged = listed.filter(pl.col("query_id").is_in(queries) & pl.col("reference_id").is_in(references))
    return judged.sort("query_id", "reference_id"), len(listed) - len(judged)


def _rankings(ranked: pl.DataFrame, found: SearchResult, queries: list[str], references: list[str]) -> pl.DataFrame:
    """The pairs that were ``ranked``, judged or of a group, and the nearest references that are not among them."""
    pairs = ranked.with_columns(
        pl.Series("score", found.scores), pl.Series("better", found.better), pl.Series("equal", found.equal)
    )
    row, place = np.nonzero(found.top >= 0)
    nearest = pl.DataFrame(
        {
            "query_id": pl.Series(queries)[row],
            "reference_id": pl.Series(references)[found.top[row, place]],
            "score": found.top_scores[row, place],
            "better": found.top_better[row, place],
            "equal": found.top_equal[row, place],
        }
    )
    nearest = nearest.join(ranked, on=["query_id", "reference_id"], how="anti")
    return pl.concat([pairs, nearest], how="diagonal").sort("query_id", "better", "reference_id")
