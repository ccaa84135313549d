"""``prepare``: a data set as the tables that every later stage reads, with the probed properties of its media.

A reader (``corpora/<corpus>.py``) gives the tables; this stage opens every file, moves what cannot be read to
``rejected`` together with all rows that refer to it, and counts.
"""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.common import files, named
from videomatch.common.progress import track_calls
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.media import card
from videomatch.media.container import Unreadable, probe

log = logging.getLogger(__name__)

#: files that a process probes before it reports
BATCH = 8
#: characters of an id, which is shown in tables, pages and logs
MAX_ID_LENGTH = 512


def prepare(
    *,
    output: Path,
    dataset: str,
    corpus: str,
    shards: int,
    seed: int,
    options: dict[str, Any],
    raw: str = "",
    renders: list[Path] | None = None,
    threads: int = 1,
) -> None:
    """Write the corpus folder: ``videos-*.parquet`` (one per shard), the other tables, ``corpus.json`` (counts),
    ``card.md`` and ``contact_sheet.jpg``.

    Args:
        corpus, options: file in ``corpora/`` that reads it, and its options.
        seed, renders: of a corpus that is generated, and its rendered shards.
        raw: folder of the downloaded files, of every other corpus.
    """
    module = named.module("corpora", corpus)
    if renders:
        read = module.read(renders=renders, seed=seed, shards=shards, **options)
    else:
        read = module.read(raw=Path(raw).expanduser(), **options)
    unknown = sorted(set(read) - set(tables.SCHEMAS))
    if unknown:
        raise ValueError(f"corpus {corpus!r} gives tables {unknown}, expected some of {sorted(tables.SCHEMAS)}")
    read["videos"] = tables.videos(read.get("videos", []))
    names = [n for n in tables.SCHEMAS if n in read or n not in ("rankings", *tables.OPTIONAL)]
    found = {name: tables.check(name, read.get(name, tables.frame(name))) for name in names}
    _check_ids(found)
    videos, bad = probed(found["videos"], shards, threads)
    if videos.is_empty():
        first = f"; the first: {bad['path'][0]}: {bad['reason'][0]}" if len(bad) else ""
        raise ValueError(f"dataset {dataset!r}: none of its {len(bad)} videos can be used{first}")
    rejected = pl.concat([found["rejected"], bad])
    found, dropped = _consistent({**found, "videos": videos, "rejected": rejected})
    for name, rows in found.items():
        if name != "videos":
            tables.write(name, rows, output)
    corpora.write_videos(videos, output, shards)
    counts = {"dataset": dataset, "corpus": corpus, "shards": shards, **_counts(found)}
    counts["rows dropped with rejected videos"] = dropped
    files.write_json(output / "corpus.json", counts)
    more = module.card(seed=seed, options=options) if hasattr(module, "card") else {}
    card.write(output, dataset, counts | more, videos)
    log.info("%s: %d videos, %d rejected", dataset, len(videos), len(rejected))


def probed(videos: pl.DataFrame, shards: int, threads: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The usable videos with their probed columns and their shard, and the ``rejected`` rows of the others. Videos
    without a path (released features only) are not probed."""
    rows = videos.sort("video_id").to_dicts()
    bad: list[tuple[str, str, str]] = []
    good: list[dict[str, Any]] = []
    results = track_calls(_probe, [row["path"] for row in rows], processes=threads, chunk=BATCH, label="probe")
    for row, result in zip(rows, results, strict=True):
        reason = id_problem(row["video_id"]) or result.get("reason")
        if reason is None:
            good.append({**row, **result, "shard": corpora.shard_of(row["video_id"], shards)})
        else:
            bad.append((row["video_id"], row["path"] or "", reason))
    return pl.DataFrame(good, schema=tables.SCHEMAS["videos"]), tables.frame("rejected", bad)


def id_problem(video_id: str) -> str | None:
    """Why an id cannot be shown in a line of text, if so. Ids are never file names: slashes and dots do no harm."""
    if not video_id.strip():
        return "its id is empty"
    if len(video_id) > MAX_ID_LENGTH:
        return f"its id has {len(video_id)} characters, expected at most {MAX_ID_LENGTH}"
    control = next((c for c in video_id if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    return None if control is None else f"its id holds the control character {control!r}"


def _probe(path: str | None) -> dict[str, Any]:
    """The probed columns of a video (none without a file), or ``{"reason": …}``."""
    if path is None:
        return {}
    try:
        timeline = probe(Path(path))
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (Unreadable, OSError) as error:
        return {"reason": str(error)}
    for warning in timeline.warnings:
        log.warning("%s: %s", path, warning)
    names = ("duration", "fps", "width", "height", "has_audio")
    return {**{name: getattr(timeline, name) for name in names}, "sha256": digest}


def _check_ids(found: dict[str, pl.DataFrame]) -> None:
    """Refuse rows about a video that the reader lists neither as a video nor as rejected."""
    videos = pl.concat(found[name]["video_id"] for name in ("videos", "rejected"))
    known = {"texts": videos, **dict.fromkeys(("splits", "segments"), pl.concat([videos, found["texts"]["text_id"]]))}
    for name, ids in known.items():
        for column in found[name].columns:
            if column in ("id", "video_id", "query_id", "reference_id"):
                odd = found[name].filter(~pl.col(column).is_in(ids.implode()))[column]
                if len(odd):
                    raise ValueError(f"{name}: {column} {odd[0]!r} is no video of the corpus")


def _consistent(found: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
    """The tables without rows that refer to absent videos or texts, and the number of rows dropped."""
    of_video = pl.col("video_id").is_in(found["videos"]["video_id"].implode())
    texts = found["texts"].filter(pl.col("video_id").is_null() | of_video)
    known = pl.concat([found["videos"]["video_id"], texts["text_id"]]).unique().implode()
    of_query = pl.col("query_id").is_in(known)
    of_pair = of_query & pl.col("reference_id").is_in(known)
    kept = {"splits": pl.col("id").is_in(known), "relevance": of_pair, "segments": of_pair, "sources": of_video}
    kept["strata"] = of_query  # a pool stays whole: what is estimated from it counts shots that cannot be read, too
    kept = {"texts": texts, **{name: found[name].filter(rows) for name, rows in kept.items() if name in found}}
    dropped = {name: len(found[name]) - len(kept[name]) for name in ("texts", "splits", "relevance", "segments")}
    return {**found, **kept}, dropped


def _counts(found: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """The counts of ``corpus.json``."""
    videos, splits = found["videos"], found["splits"]
    kinds = found["texts"].group_by("kind").len().sort("kind")
    members = splits.group_by("split", "role").len().sort("split", "role")
    names = members["split"].unique(maintain_order=True)
    return {
        "videos": len(videos),
        "videos with media": int(videos["path"].is_not_null().sum()),
        "videos with sound": int(videos["has_audio"].fill_null(False).sum()),
        "hours": round(float(videos["duration"].sum() or 0.0) / 3600, 4),
        "relevant pairs": len(found["relevance"]),
        "segments": len(found["segments"]),
        "rejected": len(found["rejected"]),
        "texts": dict(zip(kinds["kind"], kinds["len"], strict=True)),
        "splits": {name: {role: n for split, role, n in members.iter_rows() if split == name} for name in names},
    }
