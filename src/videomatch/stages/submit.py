"""Submit: a challenge's own file of one system's embeddings of one split, checked by the challenge's rules."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from videomatch import submissions
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store

log = logging.getLogger(__name__)

#: videos that are read at once
ROWS = 1024


def submit(
    *,
    corpus: Path,
    embeddings: list[Path],
    member: str,
    output: Path,
    split: str,
    format: str = "aiac",
    missing: str = "error",
) -> None:
    """Write the file of a challenge, and ``submission.json`` (what it holds).

    Args:
        corpus: folder of ``prepare``.
        embeddings: folders of a system, each with a folder a member; several are one, with disjoint ids.
        member: whose ``videos/`` to submit.
        output: empty folder.
        split: the videos to submit: its references, sorted by id.
        format: a function of :mod:`videomatch.submissions`.
        missing: what becomes of a video that has no embedding (nothing of it could be read): ``error``, or ``zeros``,
            since a challenge wants every id. The cosine of zeros is 0 with anything, or refused by the challenge.

    Raises:
        ValueError: an unknown format, videos without an embedding, or a file that breaks the challenge's rules.
    """
    formats = sorted(name.removeprefix("check_") for name in vars(submissions) if name.startswith("check_"))
    if format not in formats:
        raise ValueError(f"no format named {format!r}; there are {', '.join(formats)}")
    if missing not in ("error", "zeros"):
        raise ValueError(f"missing {missing!r}, expected error or zeros")
    ids = corpora.split_ids(tables.read("splits", corpus), split, "reference")
    store = Store.open(*(folder / member / "videos" for folder in embeddings))
    at = {video_id: n for n, (video_id, length) in enumerate(zip(store.ids, store.lengths, strict=True)) if length}
    absent = [i for i in ids if i not in at]
    if absent and missing == "error":
        raise ValueError(
            f"{len(absent)} of the {len(ids)} videos of split {split!r} have no embedding, first {absent[0]!r}; "
            f"`missing: zeros` submits zeros for them"
        )
    file = getattr(submissions, format)(output, _rows(store, ids, at))
    getattr(submissions, f"check_{format}")(file, ids)
    about = {
        "file": file.name,
        "format": format,
        "split": split,
        "member": member,
        "videos": len(ids),
        "dim": int(np.prod(store.shape)),
        "zeros": absent,
    }
    (output / "submission.json").write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if absent:
        log.warning("%d videos have no embedding and are submitted as zeros", len(absent))
    log.info("%s: %d videos, %d of them zeros, %d bytes", file.name, len(ids), len(absent), file.stat().st_size)


def _rows(store: Store, ids: list[str], at: dict[str, int]) -> Iterator[tuple[str, np.ndarray]]:
    """Id and embedding of every video, zeros for one that has none."""
    width = int(np.prod(store.shape))
    for start in range(0, len(ids), ROWS):
        some = ids[start : start + ROWS]
        rows = np.zeros((len(some), width), store.dtype)
        there = [n for n, video_id in enumerate(some) if video_id in at]
        rows[there] = store.gather(np.array([at[some[n]] for n in there], np.int64))[0].reshape(len(there), width)
        yield from zip(some, rows, strict=True)
