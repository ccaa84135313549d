"""``extract``: features of the videos of one shard, one store an expert.

Each video is decoded once for all experts. Decoding threads run ahead of the networks, which read batches across videos
(PyAV and torch both let other Python threads run). On a CPU every batch is computed by one torch thread and ``threads``
batches at a time: nobody waits at a barrier, and the features do not depend on the number of threads. Batches are
cut from the frames in the order of the video ids, so timing changes nothing; another set of videos shifts them, which
changes features by rounding only.

Features that the data set brings itself (``experts/released.py``) are copied from its files and need no media.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import polars as pl
import torch

from videomatch.common import named
from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.released import Features
from videomatch.data.store import Store, StoreWriter
from videomatch.experts._batches import Batches
from videomatch.experts._expert import Extractor
from videomatch.experts._jobs import Job, ahead
from videomatch.experts._reading import Found, Reader
from videomatch.experts.released import Expert as Released
from videomatch.media.allocator import keep_memory

log = logging.getLogger(__name__)


def extract(
    *,
    corpus: Path,
    shard: int,
    experts: dict[str, dict[str, Any]],
    backbones: dict[str, str],
    output: Path,
    features: list[Path] | None = None,
    runs: list[Path] | None = None,
    released: dict[str, Any] | None = None,
    threads: int = 1,
) -> None:
    """Write ``output/<expert>/`` (a store; ids ``video_id``, sorted; times in seconds), ``rejected.parquet`` (videos
    that could not be read, which are in no store) and ``warnings.json`` (``video_id`` -> what was wrong with videos
    that could). Released features stand in the order of the data set's files. What an expert read (words on the
    picture, speech) stands beside its store as ``output/<expert>/texts.parquet``.

    Args:
        corpus: result of ``prepare``.
        shard: which part of its videos.
        experts: name -> ``{"extractor": file in experts/, "source": expert whose frames are read instead of the media,
            options…}``.
        backbones: name of a backbone -> folder or hub id.
        features: results of earlier passes, for ``reads``.
        runs: results of training that ``backbones`` points into; an error if one of them is not there.
        released: ``{"corpus": reader in corpora/, "raw": folder of the data set's files}``, for released features.
        output: empty folder.
        threads: decoding threads, and as many for the networks.
    """
    absent = [str(run) for run in runs or [] if not run.is_dir()]
    if absent:
        raise ValueError(f"trained backbones are missing: {', '.join(absent)}")
    keep_memory()
    torch.set_num_threads(1)
    loaded = {name: _expert(name, options, backbones) for name, options in experts.items()}
    made = {name: expert for name, expert in loaded.items() if not isinstance(expert, Released)}
    sources = {
        name: _source(name, options["source"], features or [])
        for name, options in experts.items()
        if "source" in options
    }
    videos = list(corpora.videos(corpus, shard).sort("video_id").iter_rows(named=True))
    rejected: list[dict[str, str]] = []
    warnings: dict[str, list[str]] = {}
    for name, expert in loaded.items():
        if isinstance(expert, Released):
            rejected += _copy(expert, output / name, [row["video_id"] for row in videos], released, experts[name])
    words: dict[str, list[dict[str, Any]]] = {}
    for name, expert in made.items():
        if isinstance(expert, Reader):
            if expert.reads is not None:
                expert.give(tables.read("texts", corpus).filter(pl.col("kind") == expert.reads))
            if expert.texts is not None:
                words[name] = []
    with ExitStack() as stack:
        networks = stack.enter_context(ThreadPoolExecutor(1 if torch.cuda.is_available() else threads, "network"))
        batches: dict[str, Batches] = {}
        for name, expert in made.items():
            writer = StoreWriter(
                output / name,
                shape=expert.shape,
                dtype=expert.dtype,
                made_by={**experts[name], **expert.about},
                times=True,
            )
            stack.enter_context(writer)
            batches[name] = Batches(expert, networks, 2 * threads, _adder(writer))
        jobs = (Job(row["video_id"], row["path"], made, sources) for row in (videos if made else []))
        for job in track(ahead(jobs, threads), total=len(videos) if made else 0, label="extract"):
            for batch in batches.values():
                batch.begin(job.video_id)
            for piece in job.pieces():
                batches[piece.expert].add(piece.rows)
            for name, batch in batches.items():
                batch.end(job.times.get(name) if job.failure is None else None)
            if job.failure is not None:
                rejected.append({"video_id": job.video_id, "path": job.path or "", "reason": job.failure})
            else:
                for name, rows in words.items():
                    rows += _texts(job.video_id, name, cast(Reader, made[name]).texts, job.found[name])
            if job.warnings:
                warnings[job.video_id] = job.warnings
        for batch in batches.values():
            batch.finish()
    for name, rows in words.items():
        tables.write("texts", rows, output / name)
    tables.write("rejected", rejected, output)
    text = json.dumps(warnings, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    (output / "warnings.json").write_text(text, encoding="utf-8")
    log.info("%d videos, %d of them rejected, %d with warnings", len(videos), len(rejected), len(warnings))


def _copy(
    expert: Released, root: Path, ids: list[str], released: dict[str, Any] | None, options: dict[str, Any]
) -> list[dict[str, str]]:
    """Write the store of released features of some videos; rows of ``rejected`` for those that have none."""
    unseen, rejected = dict.fromkeys(ids), []
    made_by = {**options, **expert.about} | ({"corpus": released["corpus"]} if released else {})
    with StoreWriter(root, shape=expert.shape, dtype=expert.dtype, made_by=made_by, times=True) as writer:
        for video_id, values, times in track(_found(expert, root.name, ids, released), total=len(ids), label=root.name):
            del unseen[video_id]
            if np.isfinite(values).all():
                writer.add(video_id, values, times=times)
            else:
                reason = f"its released {root.name!r} features hold a number that is not finite"
                rejected.append({"video_id": video_id, "path": "", "reason": reason})
    reason = f"the data set has no released {root.name!r} features of it"
    return rejected + [{"video_id": video_id, "path": "", "reason": reason} for video_id in unseen]


def _found(expert: Released, name: str, ids: list[str], released: dict[str, Any] | None) -> Features:
    """The released features of some videos: in files of their own, or among those of the data set."""
    if expert.format is not None:
        return expert.features(ids)
    if released is None or released.get("raw") is None:
        raise ValueError(f"{name!r} reads released features, but the data set has no `raw:` folder to find them in")
    corpus = named.module("corpora", released["corpus"])
    if not hasattr(corpus, "frame_features"):
        raise ValueError(f"{name!r} reads released features, but corpora/{released['corpus']}.py has none")
    return corpus.frame_features(Path(released["raw"]).expanduser(), frozenset(ids))


def _expert(name: str, options: dict[str, Any], backbones: dict[str, str]) -> Extractor | Reader | Released:
    given = {k: v for k, v in options.items() if k not in ("extractor", "source")}
    if "backbone" in given:
        if given["backbone"] not in backbones:
            raise ValueError(f"expert {name!r}: no backbone {given['backbone']!r}; there are {sorted(backbones)}")
        given["backbone"] = backbones[given["backbone"]]
    if "encoder" in given:  # of words: a backbone's name, or a folder or hub id itself
        given["encoder"] = backbones.get(given["encoder"], given["encoder"])
    return cast(Extractor | Reader | Released, named.module("experts", options["extractor"]).Expert(**given))


def _source(name: str, reads: str, features: list[Path]) -> Store:
    """The frames that an expert reads instead of the media."""
    roots = [folder / reads for folder in features if (folder / reads).is_dir()]
    if not roots:
        raise ValueError(f"expert {name!r} reads {reads!r}, which is in none of {[str(f) for f in features]}")
    store = Store.open(*roots)
    if store.dtype != np.uint8 or len(store.shape) != 3 or store.shape[-1] != 3:
        raise ValueError(
            f"expert {name!r} reads {reads!r}: rows of {store.dtype} {store.shape}, expected frames (height, width, 3)"
        )
    return store


def _texts(video_id: str, name: str, kind: str | None, found: Found) -> list[dict[str, Any]]:
    """What an expert read in a video, as rows of ``texts``."""
    spans = zip(found.texts, found.times.tolist(), strict=True)
    return [
        {
            "text_id": f"{video_id}-{name}{number}",
            "video_id": video_id,
            "kind": kind,
            "language": None,
            "start": start if start >= 0 else None,  # -1: nobody knows when
            "end": end if start >= 0 else None,
            "text": text,
        }
        for number, (text, (start, end)) in enumerate(spans)
    ]


def _adder(writer: StoreWriter):
    def add(video_id: str, rows: np.ndarray, times: np.ndarray) -> None:
        writer.add(video_id, rows, times=times)

    return add
