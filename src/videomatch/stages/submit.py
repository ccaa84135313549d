"""Submit: a challenge's own file of one system's results of one split, checked by its rules."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.ranked import ranked
from videomatch.data.store import Store
from videomatch.reports import submissions
from videomatch.reports import vsc2022 as _vsc2022

log = logging.getLogger(__name__)

#: videos that are read at once
ROWS = 1024


def submit(
    *,
    corpus: Path,
    member: str,
    output: Path,
    split: str,
    embeddings: list[Path] | None = None,
    rankings: Path | None = None,
    segments: Path | None = None,
    features: list[Path] | None = None,
    expert: str | None = None,
    noise: dict[str, Any] | None = None,
    format: str = "aiac",
    missing: str = "error",
    run: dict[str, Any] | None = None,
    elapsed: int = 1,
) -> None:
    """Write the file of a challenge, and ``submission.json`` (what it holds).

    Args:
        corpus: folder of ``prepare``.
        member: whose results to submit.
        output: empty folder.
        split: what to submit: the embeddings of its references, sorted by id, or the rankings of its queries.
        embeddings: folders of a system, each with a folder a member; several are one, with disjoint ids.
        rankings: result of ``search`` over the split, for a format that is written from rankings.
        segments: result of ``align``, for format ``vsc2022_matching``.
        features: results of ``extract`` with the frames of ``expert``, for format ``vsc2022_descriptors``.
        noise: ``{split, beta, drop}``: those frames are normalised by the references of that split.
        format: a function of :mod:`videomatch.reports.submissions`, or one of the two tracks of VSC 2022.
        missing: what becomes of a video that has no embedding (nothing of it could be read): ``error``, or ``zeros``,
            since a challenge wants every id. The cosine of zeros is 0 with anything, or refused by the challenge.
        run: what a challenge wants to know of a run: see the format.
        elapsed: seconds that a query took, where a challenge asks.

    Raises:
        ValueError: an unknown format, videos without an embedding, or a file that breaks the challenge's rules.
    """
    formats = sorted(name.removeprefix("check_") for name in vars(submissions) if name.startswith("check_"))
    formats += _vsc2022.TRACKS
    if format not in formats:
        raise ValueError(f"no format named {format!r}; there are {', '.join(formats)}")
    if missing not in ("error", "zeros"):
        raise ValueError(f"missing {missing!r}, expected error or zeros")
    if format == "vsc2022_matching":
        if segments is None:
            raise ValueError(f"format {format!r} is written from segments, and none are given")
        about = _vsc2022.matching(corpus, split, segments, output)
    elif format == "vsc2022_descriptors":
        if features is None or expert is None:
            raise ValueError(f"format {format!r} is written from frames, and none are given")
        about = _vsc2022.descriptors(corpus, split, features, expert, noise, output)
    elif "topics" in inspect.signature(getattr(submissions, format)).parameters:
        if rankings is None:
            raise ValueError(f"format {format!r} is written from rankings, and none are given")
        about = _of_rankings(corpus, rankings / member, output, split, format, run or {}, elapsed)
    elif embeddings is None:
        raise ValueError(f"format {format!r} is written from embeddings, and none are given")
    else:
        about = _of_embeddings(corpus, [folder / member for folder in embeddings], output, split, format, missing)
    about = {"format": format, "split": split, "member": member} | about
    (output / "submission.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _of_embeddings(
    corpus: Path, folders: list[Path], output: Path, split: str, format: str, missing: str
) -> dict[str, Any]:
    """Write and check a file of embeddings; what it holds."""
    ids = corpora.split_ids(tables.read("splits", corpus), split, "reference")
    store = Store.open(*(folder / "videos" for folder in folders))
    at = {video_id: n for n, (video_id, length) in enumerate(zip(store.ids, store.lengths, strict=True)) if length}
    absent = [i for i in ids if i not in at]
    if absent and missing == "error":
        raise ValueError(
            f"{len(absent)} of the {len(ids)} videos of split {split!r} have no embedding, first {absent[0]!r}; "
            f"`missing: zeros` submits zeros for them"
        )
    file = getattr(submissions, format)(output, _rows(store, ids, at))
    getattr(submissions, f"check_{format}")(file, ids)
    if absent:
        log.warning("%d videos have no embedding and are submitted as zeros", len(absent))
    log.info("%s: %d videos, %d of them zeros, %d bytes", file.name, len(ids), len(absent), file.stat().st_size)
    return {"file": file.name, "videos": len(ids), "dim": int(np.prod(store.shape)), "zeros": absent}


def _of_rankings(
    corpus: Path, rankings: Path, output: Path, split: str, format: str, run: dict[str, Any], elapsed: int
) -> dict[str, Any]:
    """Write and check a file of rankings; what it holds."""
    searched = json.loads((rankings / "search.json").read_text(encoding="utf-8"))
    if searched["split"] != split:
        raise ValueError(f"{rankings}: ranks split {searched['split']!r}, to submit is {split!r}")
    splits = tables.read("splits", corpus)
    queries, shots = (corpora.split_ids(splits, split, role) for role in ("query", "reference"))
    best = ranked(tables.read("rankings", rankings), submissions.MOST_SHOTS, searched["counts"]["references"])
    found = {
        str(topic): rows["reference_id"].to_list() for (topic,), rows in best.group_by("query_id", maintain_order=True)
    }
    absent = [topic for topic in queries if topic not in found]
    if absent:
        raise ValueError(f"{rankings}: {len(absent)} of {len(queries)} topics have no ranking, first {absent[0]!r}")
    file = getattr(submissions, format)(output, {topic: found[topic] for topic in queries}, run, elapsed)
    getattr(submissions, f"check_{format}")(file, queries, shots)
    log.info("%s: %d topics, %d shots, %d bytes", file.name, len(queries), len(best), file.stat().st_size)
    return {"file": file.name, "topics": len(queries), "shots": len(best), "run": run}


def _rows(store: Store, ids: list[str], at: dict[str, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Id and embedding of every video, zeros for one that has none."""
    width = int(np.prod(store.shape))
    for start in range(0, len(ids), ROWS):
        some = ids[start : start + ROWS]
        rows = np.zeros((len(some), width), store.dtype)
        there = [n for n, video_id in enumerate(some) if video_id in at]
        rows[there] = store.gather(np.array([at[some[n]] for n in there], np.int64))[0].reshape(len(there), width)
        yield from zip(some, rows, strict=True)
