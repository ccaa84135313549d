"""``prepare``: a data set as the tables that every later stage reads, its media probed.

A reader (``corpora/<corpus>.py``) says what there is; this stage opens every file, moves what cannot be read to
``rejected`` together with all that refers to it, and counts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.common import named, workers
from videomatch.common.progress import track
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.media import card
from videomatch.media.container import Unreadable, probe

log = logging.getLogger(__name__)

PROBED = ("duration", "fps", "width", "height", "has_audio", "sha256")
#: files that a process probes before it reports
BATCH = 8
#: longest id: they stand in tables, pages and logs
LONGEST_ID = 512


def prepare(
    *,
    output: Path,
    dataset: str,
    corpus: str,
    shards: int,
    seed: int,
    options: dict[str, Any],
    raw: str | None = None,
    renders: list[Path] | None = None,
    threads: int = 1,
) -> None:
    """Write the corpus folder: ``videos-*.parquet`` (one a shard), the other tables, ``corpus.json`` (counts),
    ``card.md`` and ``contact_sheet.jpg``.

    Args:
        output: empty folder.
        dataset: its name, for the card.
        corpus: file in ``corpora/`` that reads it.
        shards: how many parts the videos are divided into.
        seed: of the generated corpus.
        options: of the reader.
        raw: folder of the downloaded files; None for the generated corpus.
        renders: rendered shards of the generated corpus.
        threads: processes that probe.

    Raises:
        ValueError: the reader gives a table that is none, or no video can be used.
    """
    if shards < 1:
        raise ValueError(f"dataset {dataset!r}: shards = {shards}, expected at least 1")
    module = named.module("corpora", corpus)
    if corpus == "generated":
        read = module.read(renders=renders or [], seed=seed, shards=shards, **options)
    elif raw is None:
        raise ValueError(f"dataset {dataset!r}: corpus {corpus!r} needs `raw:`, the folder of its files")
    else:
        read = module.read(raw=Path(raw).expanduser(), **options)
    unknown = sorted(set(read) - set(tables.SCHEMAS))
    if unknown:
        raise ValueError(f"corpus {corpus!r} gives tables {unknown}, expected some of {sorted(tables.SCHEMAS)}")
    schemas = {n: s for n, s in tables.SCHEMAS.items() if n != "rankings" and (n not in tables.OPTIONAL or n in read)}
    found = {n: _complete(read.get(n, pl.DataFrame(schema=s)), s) for n, s in schemas.items()}
    videos, bad = probed(found["videos"], shards, threads)
    if videos.is_empty():
        first = f"; the first: {bad['path'][0]}: {bad['reason'][0]}" if len(bad) else ""
        raise ValueError(f"dataset {dataset!r}: none of its {len(bad)} videos can be used{first}")
    found["videos"] = videos
    found["rejected"] = pl.concat([tables.check("rejected", found["rejected"]), bad])
    found, dropped = consistent(found)
    for name, rows in found.items():
        if name != "videos":
            tables.write(name, rows, output)
    corpora.write_videos(tables.check("videos", videos), output, shards)
    counts = counted(dataset, corpus, shards, found, dropped)
    text = json.dumps(counts, indent=1, ensure_ascii=False) + "\n"
    (output / "corpus.json").write_text(text, encoding="utf-8")
    if hasattr(module, "card"):
        module.card(output=output, tables=found, seed=seed, options=options)
    else:
        card.write(output, dataset, counts, videos)
    log.info("%s: %d videos, %d rejected", dataset, len(videos), len(found["rejected"]))


def probed(videos: pl.DataFrame, shards: int, threads: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The videos with what their files say and their shard, and the ``rejected`` rows of those that cannot be used.
    Videos without a path (released features only) pass as they are."""
    rows = videos.sort("video_id").to_dicts()
    bad: list[dict[str, str]] = []
    good: list[dict[str, Any]] = []
    files = [row["path"] for row in rows if row["path"] is not None]
    answers = _answers(files, threads)
    for row in track(rows, label="probe"):
        answer = next(answers) if row["path"] is not None else {}
        reason = odd_id(row["video_id"]) or answer.get("reason")
        if reason is not None:
            bad.append({"video_id": row["video_id"], "path": row["path"] or "", "reason": reason})
            continue
        good.append({**row, **answer, "shard": corpora.shard_of(row["video_id"], shards)})
    schema = tables.SCHEMAS["videos"]
    return pl.DataFrame(good, schema=schema), tables.check("rejected", bad)


def odd_id(video_id: str) -> str | None:
    """Why an id cannot be used; None if it can. Ids are never file names, so slashes and dots do no harm; what cannot
    be shown in a line of text does."""
    if not video_id.strip():
        return "its id is empty"
    if len(video_id) > LONGEST_ID:
        return f"its id has {len(video_id)} characters, expected at most {LONGEST_ID}"
    odd = [c for c in video_id if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    return f"its id holds the control character {odd[0]!r}" if odd else None


def examine(path: str) -> dict[str, Any]:
    """The probed columns of one file, or ``{"reason": …}``."""
    try:
        facts = probe(Path(path))
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (Unreadable, OSError) as error:
        return {"reason": str(error)}
    for warning in facts.warnings:
        log.warning("%s: %s", path, warning)
    return {
        "duration": facts.duration,
        "fps": facts.fps,
        "width": facts.width,
        "height": facts.height,
        "has_audio": facts.has_audio,
        "sha256": digest,
    }


def _answers(files: list[str], threads: int) -> Iterator[dict[str, Any]]:
    """What :func:`examine` says of each file, in order."""
    if threads < 2 or len(files) <= BATCH:
        yield from map(examine, files)
        return
    with workers.pool(threads) as pool:
        yield from pool.map(examine, files, chunksize=BATCH)


def _complete(rows: pl.DataFrame, schema: dict[str, Any]) -> pl.DataFrame:
    """``rows`` with the columns that only probing fills added as nulls, and no tags as an empty list."""
    missing = [c for c in (*PROBED, "shard", "category", "tags", "path") if c in schema and c not in rows.columns]
    rows = rows.with_columns([pl.lit(None, schema[c]).alias(c) for c in missing])
    if "tags" in schema:
        rows = rows.with_columns(pl.col("tags").cast(schema["tags"]).fill_null(pl.lit([], schema["tags"])))
    return rows


def consistent(found: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
    """The tables without rows that refer to videos or texts that are not there (any more), and how many went."""
    before = {name: len(rows) for name, rows in found.items()}
    videos = found["videos"]["video_id"]
    found = dict(found)
    texts = found["texts"] = found["texts"].filter(
        pl.col("video_id").is_null() | pl.col("video_id").is_in(videos.implode())
    )
    known = pl.concat([videos, texts["text_id"]]).unique().implode()
    found["splits"] = found["splits"].filter(pl.col("id").is_in(known))
    for name in ("relevance", "segments"):
        found[name] = found[name].filter(pl.col("query_id").is_in(known) & pl.col("reference_id").is_in(known))
    if "sources" in found:
        found["sources"] = found["sources"].filter(pl.col("video_id").is_in(videos.implode()))
    if "strata" in found:  # a pool stays whole: what is estimated from it counts shots that cannot be read, too
        found["strata"] = found["strata"].filter(pl.col("query_id").is_in(known))
    return found, {n: before[n] - len(found[n]) for n in ("texts", "splits", "relevance", "segments")}


def counted(
    dataset: str, corpus: str, shards: int, found: dict[str, pl.DataFrame], dropped: dict[str, int]
) -> dict[str, Any]:
    """What ``corpus.json`` says."""
    videos, splits = found["videos"], found["splits"]
    kinds = found["texts"].group_by("kind").len().sort("kind")
    members = splits.group_by("split", "role").len().sort("split", "role")
    names = members["split"].unique(maintain_order=True)
    return {
        "dataset": dataset,
        "corpus": corpus,
        "shards": shards,
        "videos": len(videos),
        "videos with media": int(videos["path"].is_not_null().sum()),
        "videos with sound": int(videos["has_audio"].fill_null(False).sum()),
        "hours": round(float(videos["duration"].sum() or 0.0) / 3600, 4),
        "relevant pairs": len(found["relevance"]),
        "segments": len(found["segments"]),
        "rejected": len(found["rejected"]),
        "texts": dict(zip(kinds["kind"], kinds["len"], strict=True)),
        "splits": {name: {role: n for split, role, n in members.iter_rows() if split == name} for name in names},
        "rows dropped with rejected videos": dropped,
    }
