"""``prepare``: a data set as the tables that every later stage reads, with the probed properties of its media.

A reader (``corpora/<corpus>.py``) gives the tables; this stage opens every file, moves what cannot be read to
``rejected`` together with all rows that refer to it, and counts.
"""

from __future__ import annotations

import functools
import logging
import unicodedata
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.common import files, named
from videomatch.common.digests import cached, digest, file_digest
from videomatch.common.progress import track_calls
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.media import card
from videomatch.media.container import Unreadable, probe

log = logging.getLogger(__name__)

#: files that a process probes before it reports
BATCH = 8
#: seconds by which the end of a part may lie beyond that of its file: tables of shots round, and count from the header
BEYOND = 0.5
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
    """Write the corpus folder: ``videos-*.parquet`` and ``transcripts-*.parquet`` (one per shard), the other tables,
    ``corpus.json`` (counts), ``card.md`` and ``contact_sheet.jpg``.

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
    corpora.write_transcripts(found["texts"], videos, output, shards)
    counts = {"dataset": dataset, "corpus": corpus, "shards": shards, **_counts(found)}
    counts["rows dropped with rejected videos"] = dropped
    files.write_json(output / "corpus.json", counts)
    more = module.card(seed=seed, options=options) if hasattr(module, "card") else {}
    card.write(output, dataset, counts | more, videos)
    log.info("%s: %d videos, %d rejected", dataset, len(videos), len(rejected))


def probed(videos: pl.DataFrame, shards: int, threads: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The usable videos with their probed columns and their shard, and the ``rejected`` rows of the others. A file is
    read once for all of its parts, and videos without one (released features only) are not probed. A ValueError names a
    part that does not lie in its file, or overlaps another."""
    parts = pl.struct("video_id", "start", "end").filter(pl.col("start").is_not_null())
    files = (
        videos.filter(pl.col("path").is_not_null()).sort("start", "video_id").group_by("path").agg(parts).sort("path")
    )
    results = list(track_calls(_probe, files.rows(), processes=threads, chunk=BATCH, label="probe"))
    lengths = [part for result in results for part in result.pop("parts", ())]
    schema = tables.SCHEMAS["videos"]
    found = {name: schema[name] for name in ("duration", "fps", "width", "height", "has_audio", "sha256")}
    of_file = pl.DataFrame(results, schema={"of_file": pl.String, **found}).with_columns(files["path"])
    of_part = pl.DataFrame(lengths, {"video_id": pl.String, "length": pl.Float64, "of_part": pl.String}, orient="row")
    rows = videos.join(of_file, on="path", how="left", suffix="_found").join(of_part, on="video_id", how="left")
    rows = rows.with_columns(pl.coalesce(f"{name}_found", name).alias(name) for name in found)
    file_name = pl.col("path").str.split("/").list.last()
    sharded_by = rows.select(pl.when(pl.col("start").is_null()).then("video_id").otherwise(file_name)).to_series()
    rows = rows.with_columns(
        pl.coalesce("length", "duration").alias("duration"),
        pl.Series("shard", [corpora.shard_of(name, shards) for name in sharded_by], pl.Int64),
        pl.Series("of_id", [id_problem(video_id) for video_id in rows["video_id"]], pl.String),
    )
    rows = rows.sort("video_id").with_columns(pl.coalesce("of_id", "of_file", "of_part").alias("reason"))
    good, bad = (rows.filter(kept) for kept in (pl.col("reason").is_null(), pl.col("reason").is_not_null()))
    return good.select(*schema), bad.select("video_id", pl.col("path").fill_null(""), "reason")


def id_problem(video_id: str) -> str | None:
    """Why an id cannot be shown in a line of text, if so. Ids are never file names: slashes and dots do no harm."""
    if not video_id.strip():
        return "its id is empty"
    if len(video_id) > MAX_ID_LENGTH:
        return f"its id has {len(video_id)} characters, expected at most {MAX_ID_LENGTH}"
    control = next((c for c in video_id if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")), None)
    return None if control is None else f"its id holds the control character {control!r}"


def _probe(file: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The probed columns of a file, or why it cannot be read, as ``of_file``; ``parts`` has the id of each part, the
    seconds that its frames last, and why there are none of a file that was cut short. Remembered by the content."""
    path, parts = Path(file[0]), file[1]
    try:
        content = file_digest(path) if path.is_file() else ""
        found = cached(f"probe of {path}", digest([content, parts, _code()]), lambda: _read(path, parts))
    except OSError as error:
        return {"of_file": str(error)}
    for warning in found.pop("warnings"):
        log.warning("%s: %s", path, warning)
    return found | ({} if found["of_file"] else {"sha256": content})


@functools.cache
def _code() -> str:
    """What a probe follows from beside the file: the code that reads it, and its library's version."""
    read_by = [Path(__file__), *sorted((named.PACKAGE / "media").glob("*.py"))]
    return digest([metadata.version("av"), *map(file_digest, read_by)])


def _read(path: Path, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What :func:`_probe` tells of a file, with its ``warnings``."""
    try:
        timeline = probe(path)
    except Unreadable as error:
        return {"of_file": str(error), "warnings": []}
    found: list[tuple[str, float | None, str | None]] = []
    ticks = timeline.parts([(part["start"], part["end"]) for part in parts]) if parts else []
    for number, (part, (first, end)) in enumerate(zip(parts, ticks, strict=True)):
        where = f"part {part['video_id']!r}, {part['start']:g} to {part['end']:g} s"
        if part["end"] <= part["start"]:
            raise ValueError(f"{path}: {where}: expected an end after the start")
        if number and part["start"] < parts[number - 1]["end"]:
            raise ValueError(f"{path}: {where}, overlaps {parts[number - 1]['video_id']!r}")
        if part["start"] >= timeline.duration or part["end"] > timeline.duration + BEYOND:
            if timeline.truncated is None:
                raise ValueError(f"{path}: {where}, is outside of it: it lasts {timeline.duration:.2f} s")
            found.append((part["video_id"], None, f"the file is {timeline.truncated}"))
        else:
            found.append((part["video_id"], float((end - first) * timeline.time_base), None))
    names = ("duration", "fps", "width", "height", "has_audio")
    columns = {name: getattr(timeline, name) for name in names}
    return columns | {"of_file": None, "parts": found, "warnings": list(timeline.warnings)}


def _check_ids(found: dict[str, pl.DataFrame]) -> None:
    """Refuse rows about a video that the reader lists neither as a video nor as rejected."""
    videos = pl.concat(found[name]["video_id"] for name in ("videos", "rejected"))
    items = pl.concat([videos, found["texts"]["text_id"]])
    known = {"texts": videos, **{name: items for name in ("splits", "segments", "facts") if name in found}}
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
    of_item = pl.col("id").is_in(known)
    kept = {"splits": of_item, "facts": of_item, "relevance": of_pair, "segments": of_pair, "sources": of_video}
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
