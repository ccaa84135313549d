"""AIAC 2021, track 1: the archive of embeddings ``result.zip``, written, and checked by the competition's rules."""

import json
import logging
import zipfile
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from videomatch.data.corpus import pooled_ids
from videomatch.data.store import Store

log = logging.getLogger(__name__)

#: numbers of an embedding
LARGEST_DIM = 256
#: name of the only file in an archive
MEMBER = "result.json"
#: bytes of that file for each video, at most: four times what the longest numbers of float16 take
LARGEST_ENTRY = 1 << 15


def submit(corpus: Path, output: Path, split: str, embeddings: Path, missing: str) -> dict[str, Any]:
    """Write and check the archive of the references of a split, sorted by id; returns what it holds."""
    ids = pooled_ids(corpus, split)
    store = Store(embeddings / "videos")
    is_there = store.rows(ids) > 0
    absent = [i for i, there in zip(ids, is_there, strict=True) if not there]
    if absent and missing == "error":
        raise ValueError(
            f"{len(absent)} of the {len(ids)} videos of split {split!r} have no embedding, first {absent[0]!r}; "
            f"`missing: zeros` submits zeros for them"
        )
    rows = np.zeros((len(ids), *store.shape), store.dtype)
    rows[is_there] = store.gather([i for i, there in zip(ids, is_there, strict=True) if there])[0]
    archive = write(output, zip(ids, rows, strict=True))
    check(archive, ids)
    if absent:
        log.warning("%d videos have no embedding and are submitted as zeros", len(absent))
    return {"file": archive.name, "videos": len(ids), "dim": store.shape[0], "zeros": absent}


def write(folder: Path, rows: Iterable[tuple[str, np.ndarray]]) -> Path:
    """Write ``result.zip``: one deflated file ``result.json``, ``{video id: [numbers]}``. Values are rounded to
    float16, as the organisers' baseline does, and written with all digits that this leaves."""
    entry = zipfile.ZipInfo(MEMBER, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # the same bytes on every system
    entry.external_attr = 0o644 << 16
    archive = folder / "result.zip"
    with zipfile.ZipFile(archive, "w") as opened, opened.open(entry, "w") as file:
        before = "{"
        for video_id, row in rows:
            with np.errstate(over="ignore"):
                small = np.asarray(row).astype(np.float16)
            if not np.isfinite(small).all():
                raise ValueError(f"the embedding of {video_id!r} holds {np.asarray(row)[~np.isfinite(small)][0]}")
            file.write(f"{before}{json.dumps(video_id)}: {json.dumps(small.tolist())}".encode())
            before = ",\n"
        file.write(b"{}" if before == "{" else b"}")
    return archive


def check(archive: Path, ids: Collection[str]) -> None:
    """Check a ``result.zip`` by the competition's rules: one deflated file ``result.json``, an object that holds each
    of ``ids`` exactly once, with as many numbers of float16 as the others."""
    limit = LARGEST_ENTRY * (len(ids) + 1)
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            if names != [MEMBER]:
                raise ValueError(f"{archive} holds {names}, expected only {MEMBER!r}")
            if opened.getinfo(MEMBER).compress_type != zipfile.ZIP_DEFLATED:
                raise ValueError(f"{archive}: {MEMBER} is not deflated")
            with opened.open(MEMBER) as file:
                content = file.read(limit + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is not a whole zip archive ({error})") from error
    if len(content) > limit:
        raise ValueError(f"{archive}: {MEMBER} is larger than {limit} bytes, too large for {len(ids)} videos")
    try:
        entries = json.loads(content.decode("utf-8"), object_pairs_hook=tuple)  # repeated keys included
        if not isinstance(entries, tuple):
            raise ValueError(f"it is a {type(entries).__name__}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{archive}: {MEMBER} is not a JSON object of ids and lists ({error})") from error
    wanted, seen, dim = set(ids), set[str](), None
    for video_id, numbers in entries:
        where = f"{archive}: {video_id!r}"
        if video_id in seen:
            raise ValueError(f"{where} occurs twice")
        if video_id not in wanted:
            raise ValueError(f"{where} is not among the {len(wanted)} videos to embed")
        seen.add(video_id)
        if not isinstance(numbers, list) or not 1 <= len(numbers) <= LARGEST_DIM:
            found = f"{len(numbers)} values" if isinstance(numbers, list) else repr(numbers)
            raise ValueError(f"{where} has {found}, expected a list of 1 to {LARGEST_DIM}")
        dim = dim or len(numbers)
        if len(numbers) != dim:
            raise ValueError(f"{where} has {len(numbers)} values, those before it {dim}")
        if not set(map(type, numbers)) <= {int, float}:  # True would pass for 1
            odd = next(n for n in numbers if type(n) not in (int, float))
            raise ValueError(f"{where} holds {odd!r}, which is not a number")
        try:
            values = np.array(numbers, np.float64)
        except OverflowError:
            raise ValueError(f"{where} holds a number too large for float16") from None
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        bad = ~np.isfinite(rounded) | (rounded != values)
        if bad.any():
            raise ValueError(f"{where} holds {values[bad][0]}, expected finite numbers rounded to float16")
    absent = sorted(wanted - seen)
    if absent:
        raise ValueError(f"{archive}: {len(absent)} of {len(wanted)} videos are missing, first {absent[0]!r}")
