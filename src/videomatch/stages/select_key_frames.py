"""``select_key_frames``: the key frames of the videos of one shard, out of the features of an expert.

The times of a key frame are the interval that it covers (:func:`localisation.key_frame_selection.assigned_intervals`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videomatch.common import files
from videomatch.common.checkpoint import load_checkpoint
from videomatch.common.precision import reproducible
from videomatch.common.progress import track
from videomatch.data.store import StoreWriter, expert_store
from videomatch.localisation import key_frame_selection as selection

log = logging.getLogger(__name__)


def select_key_frames(
    *,
    features: list[Path],
    output: Path,
    expert: str,
    name: str | None = None,
    method: str | None = None,
    run: Path | None = None,
    share: float = selection.SHARE,
    longest: float = selection.LONGEST,
    pool: bool = False,
    dtype: str = "float16",
    threads: int = 1,
) -> None:
    """Write ``output/<name>/`` (a store: key frames, with the intervals that they cover, s) and
    ``key_frames.json`` (how many of how many frames, and bytes per hour of video).

    Args:
        name: of the key frames as an expert; that of the expert itself by default.
        method: one of :data:`videomatch.localisation.key_frame_selection.METHODS`.
        run: result of ``train`` instead, of a model with ``scores_frames``.
        pool: write the mean of all frames of its interval for each key frame, instead of that frame.
    """
    store = expert_store(features, expert)
    if len(store.shape) != 1:
        raise ValueError(f"{store.roots[0]}: rows of shape {store.shape}, expected vectors")
    how = {"method": method, "share": share, "longest": longest} | ({"pool": True} if pool else {})
    counts = {"videos": len(store), "frames": int(store.lengths.sum()), "key frames": 0}
    seconds, folder = 0.0, output / (name or expert)
    with reproducible(threads), torch.inference_mode():
        scorer = None if run is None else _scorer(run, store.shape[0])
        made_by = {"condensed": store.made_by, **how}
        with StoreWriter(folder, shape=store.shape, dtype=dtype, made_by=made_by, times=True) as writer:
            for video_id in track(store.ids, label="key frames"):
                rows, times = store[video_id], store.times(video_id)
                scores = scorer(rows) if scorer and len(rows) else None
                keys = selection.select(
                    rows, times, method=method or "coverage", scores=scores, share=share, longest=longest
                )
                intervals = selection.assigned_intervals(keys, times, features=rows)
                kept = selection.pooled(rows, times, intervals) if pool else rows[keys]
                writer.add(video_id, kept, times=intervals)
                counts["key frames"] += len(keys)
                seconds += float(times[-1, 1]) if len(times) else 0.0
    size = sum(p.stat().st_size for p in folder.iterdir())
    about: dict[str, Any] = {**how, "dtype": dtype, **counts, "hours": seconds / 3600}
    about["bytes an hour"] = round(size / about["hours"]) if seconds else None
    files.write_json(output / "key_frames.json", about)
    log.info("%d of %d frames selected of %d videos", counts["key frames"], counts["frames"], counts["videos"])


def _scorer(run: Path, dim: int) -> Callable[[np.ndarray], np.ndarray]:
    """The scores ``(L,)`` of the frames ``(L, D)`` of a video, by a trained model."""
    model, system = load_checkpoint(run)
    if not model.scores_frames:
        raise ValueError(f"{run}: model {system['model']['name']!r} scores no frames, expected one like key_frames")
    if model.config.frame_dim != dim:
        raise ValueError(f"{run} scores frames of {model.config.frame_dim} dimensions, these have {dim}")

    def scores(rows: np.ndarray) -> np.ndarray:
        frames = torch.from_numpy(rows.astype(np.float32))[None]
        return model.scorer(frames, torch.ones(frames.shape[:2], dtype=torch.bool))[0].numpy()

    return scores
