"""What ``submit`` writes for the Video Similarity Challenge 2022, out of segments or out of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from videomatch.data import tables
from videomatch.data.corpus import split_ids, videos
from videomatch.localisation.maps import frames_of
from videomatch.reports import submissions_vsc2022 as files

TRACKS = ("vsc2022_matching", "vsc2022_descriptors")
ROLES = ("query", "reference")


def matching(corpus: Path, split: str, segments: Path, output: Path) -> dict[str, Any]:
    """Write and check ``matches.csv`` of the segments that a system found; what it holds.

    Raises:
        ValueError: a segment without a score, or a file that breaks the challenge's rules.
    """
    durations = _durations(corpus, split)
    found = tables.read("segments", segments)
    for role in ROLES:
        found = found.filter(pl.col(f"{role}_id").is_in(list(durations[role])))
    if found["score"].null_count():
        raise ValueError(f"{segments}: {found['score'].null_count()} segments have no score, and the challenge ranks")
    file = files.vsc2022_matching(output, found.iter_rows())
    files.check_vsc2022_matching(file, durations["query"], durations["reference"])
    pairs = found.select("query_id", "reference_id").n_unique()
    return {"file": file.name, "segments": len(found), "pairs": pairs}


def descriptors(
    corpus: Path, split: str, features: list[Path], expert: str, noise: dict[str, Any] | None, output: Path
) -> dict[str, Any]:
    """Write and check ``query_descriptors.npz`` and ``reference_descriptors.npz``, at most one row a second; what they
    hold.

    Raises:
        ValueError: features without times, or files that break the challenge's rules.
    """
    durations = _durations(corpus, split)
    frames = frames_of(features, expert, "cosine", 0.0, noise, corpus)
    there, scores = set(frames.store.ids), frames.normalisation
    about: dict[str, Any] = {"files": [], "rows": {}, "missing": {}}
    for role in ROLES:
        rows = []
        for video_id in sorted(durations[role].keys() & there):
            values, times = frames.frames(video_id)
            values, times = files.one_a_second(values, times, durations[role][video_id])
            if scores is None:
                values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
            else:
                values = scores.queries(values) if role == "query" else scores.references(values)
            rows.append((video_id, values, times))
        file = files.vsc2022_descriptors(output, role, rows)
        files.check_vsc2022_descriptors(file, durations[role])
        about["files"].append(file.name)
        about["rows"][role] = sum(len(values) for _, values, _ in rows)
        about["missing"][role] = sorted(durations[role].keys() - there)
    return about


def _durations(corpus: Path, split: str) -> dict[str, dict[str, float]]:
    """Role -> id -> seconds of the protocol's videos."""
    lengths = dict(videos(corpus).select("video_id", "duration").iter_rows())
    splits = tables.read("splits", corpus)
    listed = {role: split_ids(splits, split, role) for role in ROLES}
    unknown = [i for ids in listed.values() for i in ids if lengths.get(i) is None]
    if unknown:
        raise ValueError(
            f"{corpus}: nobody knows how long {unknown[0]!r} lasts, and the challenge asks for times within"
        )
    return {role: {i: float(lengths[i]) for i in ids} for role, ids in listed.items()}
