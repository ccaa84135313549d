"""Shortlist: which references may share something with a query, by the votes of its frames in a library of frames.

What comes out has the form of a search's rankings, so that ``align`` takes it in place of the judged pairs: only the
references on it are compared frame by frame.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import faiss

from videomatch.common.progress import track
from videomatch.data import tables
from videomatch.data.corpus import split_ids
from videomatch.data.store import Store, StoreWriter
from videomatch.retrieval.library import Library

log = logging.getLogger(__name__)


def shortlist(
    *,
    corpus: Path,
    features: list[Path],
    output: Path,
    split: str,
    expert: str,
    top: int = 10,
    codec: str = "SQ8",
    dim: int = 256,
    seed: int = 0,
    threads: int = 1,
) -> None:
    """Write ``rankings.parquet`` (query, reference, votes), ``library/`` (the references' frames, to be searched again)
    and ``shortlist.json`` (how large it is, and what was left out).

    Args:
        corpus: result of ``prepare``.
        features: results of ``extract`` or ``select_key_frames``.
        output: empty folder.
        split: the protocol: its references make up the library, its queries are looked up.
        expert: whose frames.
        top: references of a query at most.
        codec: how the library keeps a frame, one of :data:`videomatch.retrieval.library.CODECS`.
        dim: numbers of a frame that the library keeps.
        seed: of the frames that the library learns its codes from.
        threads: of the search.

    Raises:
        ValueError: the expert is in none of the folders, or no query or no reference has a frame.
    """
    roots = [folder / expert for folder in features if (folder / expert).is_dir()]
    if not roots:
        raise ValueError(f"expert {expert!r} is in none of {[str(f) for f in features]}")
    store, splits = Store.open(*roots), tables.read("splits", corpus)
    sides = {role: split_ids(splits, split, role) for role in ("query", "reference")}
    there = {role: [i for i, n in zip(ids, store.rows(ids).tolist(), strict=True) if n] for role, ids in sides.items()}
    for role, ids in there.items():
        if not ids:
            raise ValueError(
                f"split {split!r}: none of its {len(sides[role])} in role {role} has a frame of {expert!r}"
            )
    faiss.omp_set_num_threads(threads)
    folder, hours = output / "library", _referenced(store, there["reference"], output / "references")
    Library.create(folder, [output / "references"], dim=min(dim, store.shape[0]), codec=codec, seed=seed)
    Library.add(folder, output / "references")
    shutil.rmtree(output / "references")
    library = Library(folder)
    rows: list[dict[str, Any]] = []
    for query in track(there["query"], label="shortlist"):
        for place, found in enumerate(library.search(store[query], top, exclude=(query,))):
            about = {"query_id": query, "reference_id": found.reference, "score": found.score}
            rows.append({**about, "grade": None, "better": place, "equal": 0})
    tables.write("rankings", rows, output)
    size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    about = {
        "split": split,
        "expert": expert,
        "top": top,
        "queries": len(there["query"]),
        "references": len(there["reference"]),
        "frames": library.frames,
        "hours": hours,
        "bytes an hour": round(size / hours) if hours else None,
        "missing": sorted({i for role in sides for i in sides[role]} - {i for role in there for i in there[role]}),
    }
    (output / "shortlist.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    log.info("%d of %d references for %d queries", len(rows), len(there["reference"]), len(there["query"]))


def _referenced(store: Store, ids: list[str], folder: Path) -> float:
    """Write the store of the references alone; how many hours they last."""
    seconds = 0.0
    with StoreWriter(folder, shape=store.shape, dtype=store.dtype.name, times=True) as writer:
        for video_id in ids:
            times = store.times(video_id)
            if times is None:
                raise ValueError(f"{store.roots[0]} has no times: nobody can say where a segment begins")
            writer.add(video_id, store[video_id], times=times)
            seconds += float(times[-1, 1])
    return seconds / 3600
