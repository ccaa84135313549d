"""Shortlist: which references may share something with a query, by the votes of its frames in an index of frames.

The result has the form of a search's rankings, so that ``align`` takes it in place of the judged pairs: only the
references on it are compared frame by frame.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

import faiss
import numpy as np

from videomatch.common import files
from videomatch.common.progress import track
from videomatch.data import tables
from videomatch.data.corpus import pooled_ids
from videomatch.data.store import StoreWriter, expert_store
from videomatch.localisation.maps import LIBRARY
from videomatch.retrieval import ann
from videomatch.retrieval.frame_index import NEIGHBOURS, FrameIndex, compared, probes

log = logging.getLogger(__name__)

#: of references, for which the time of a search is told
HOURS = 1000
#: query frames that are searched again in so many times as many lists, which tells what a comparison takes
SAMPLE, WIDER = 1000, 4


def shortlist(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    split: str,
    expert: str,
    query_expert: str | None = None,
    top: int = 10,
    min_votes: float = 0.0,
    nprobe: int | None = None,
    codec: str = "SQ8",
    dim: int | None = None,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Write ``rankings.parquet`` (query, reference, votes), ``library/`` (the index of the references' frames),
    ``shortlist.json`` (how large it is, and what was left out) and ``measured.json``, which differs from run to run:
    seconds of CPU to look up the frames of an hour of queries, and an estimate for :data:`HOURS` of references like the
    ones at hand, ``CPU s/h``.

    The references of the split are indexed, its queries are looked up by the features of ``query_expert`` (that of the
    references by default). On the list of a query are the ``top`` with more than ``min_votes``; ``nprobe`` is as of
    :class:`FrameIndex`, ``codec``, ``dim`` (all by default) and ``seed`` as of :meth:`FrameIndex.create`.
    """
    store = expert_store(features, expert)
    asked = expert_store(features, query_expert or expert)
    sides = {role: pooled_ids(corpus, split, [role]) for role in ("query", "reference")}
    queries, references = asked.present(sides["query"]), store.present(sides["reference"])
    for (role, listed), ids in zip(sides.items(), (queries, references), strict=True):
        if not ids:
            raise ValueError(f"split {split!r}: none of its {len(listed)} in role {role} has a frame of {expert!r}")
    faiss.omp_set_num_threads(threads)
    folder, frames, seconds = output / LIBRARY, output / "references", 0.0
    with StoreWriter(frames, shape=store.shape, dtype=store.dtype.name, times=True) as writer:
        for video_id in references:
            times = store.times(video_id)
            writer.add(video_id, store[video_id], times=times)
            seconds += float(times[-1, 1])
    hours = seconds / 3600
    FrameIndex.create(folder, [frames], dim=min(dim or store.shape[0], store.shape[0]), codec=codec, seed=seed)
    FrameIndex.add(folder, frames)
    shutil.rmtree(frames)
    index = FrameIndex(folder, nprobe=nprobe)
    rows, duration, cpu, looked_up = [], 0.0, 0.0, [np.zeros((0, *store.shape))]
    for query in track(queries, label="shortlist"):
        frames_of, times, started = asked[query], asked.times(query), time.process_time()
        found = index.search(frames_of, times, top, min_votes=min_votes, exclude=(query,))
        cpu += time.process_time() - started
        duration += float(times[-1, 1])
        looked_up.append(frames_of)
        rows += [(query, reference, score, None, place, 0) for place, (reference, score) in enumerate(found)]
    measured = {"CPU s/h here": 3600 * cpu / duration if duration else 0.0, "CPU s/h": 0.0}
    if duration and hours:
        asked_frames = np.concatenate(looked_up)
        more = _more(index, round(index.frames * HOURS / hours), nprobe, asked_frames[:SAMPLE])
        measured["CPU s/h"] = measured["CPU s/h here"] + 3600 * len(asked_frames) * more / duration
    files.write_json(output / "measured.json", measured)
    tables.write("rankings", tables.frame("rankings", rows), output)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    about = {
        "split": split,
        "expert": expert,
        "top": top,
        "queries": len(queries),
        "references": len(references),
        "frames": index.frames,
        "hours": hours,
        "query hours": duration / 3600,
        "bytes an hour": round(size / hours) if hours else None,
        "missing": sorted({*sides["query"], *sides["reference"]}.difference(queries, references)),
    }
    files.write_json(output / "shortlist.json", about)
    log.info("%d of %d references for %d queries", len(rows), len(references), len(queries))


def _more(index: FrameIndex, frames: int, nprobe: int | None, sample: np.ndarray) -> float:
    """By how many seconds of CPU a query frame would take longer in an index of so many frames: what a comparison
    takes is seen where the same frames are compared with :data:`WIDER` times as many lists."""
    wider = FrameIndex(index.folder, nprobe=WIDER * index.nprobe)
    spent, looked_at = [], []
    for opened in (index, wider):
        started = time.process_time()
        opened.neighbours(sample, NEIGHBOURS)
        spent.append((time.process_time() - started) / len(sample))
        looked_at.append(compared(index.frames, index.lists, opened.nprobe))
    lists = ann.lists_for(frames)
    farther = compared(frames, lists, nprobe or probes(lists)) - looked_at[0]
    each = (spent[1] - spent[0]) / max(looked_at[1] - looked_at[0], 1)
    return max(0.0, each * farther)
