"""What a result was made from, and whether it is current: content decides, never time.

A **result** is a folder with a ``manifest.json``, written last: the settings of the stage, digests of the code that it
reaches, of every input and of every output file. It is *current* when its manifest equals the request of now and its
files are intact. Modification times and Snakemake's own records tell of the last run in this folder, not of a file that
a checkout has replaced since.

The manifest is copied with the data (git, DVC). Local, below ``.scratch/``, are file digests, settings files that jobs
read, the last manifest of each result, and the state of interrupted jobs.
"""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from videomatch.common.digests import SCRATCH, cached, digest, dumps, file_digest
from videomatch.common.files import write_json, write_text
from videomatch.specs import listed

MANIFEST = "manifest.json"
#: where jobs keep unfinished work, a folder for each, by the digest of its request
WORK = SCRATCH / "jobs"
#: seconds between the time of a result and that of its settings, by which Snakemake knows whether it is fresh: more
#: than the times of any file system are rounded by
STEP = 1
_WILD = re.compile(r"[*?[]")


class Damaged(Exception):
    """A result folder does not hold what its manifest says."""


def load(manifest: Path) -> dict[str, Any] | None:
    """The manifest's content; None where there is none, or one of another shape (cut short, or changed by hand)."""
    try:
        record = json.loads(manifest.read_text(encoding="utf-8"))
        inputs = [entry for entries in record["inputs"].values() for entry in entries]
        texts = [entry[name] for entry in inputs for name in ("path", "digest")]
        texts += [entry["sha256"] for entry in record["outputs"].values()]
        sizes = [entry["size"] for entry in record["outputs"].values()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    whole = all(type(text) is str for text in texts) and all(type(size) is int for size in sizes)
    return record if whole else None


def damage(folder: Path, record: Mapping[str, Any]) -> str | None:
    """What is wrong with the files of a result (the first thing found), or None if they are as recorded."""
    for name, entry in record["outputs"].items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if path.stat().st_size != entry["size"] or file_digest(path) != entry["sha256"]:
            return f"{path} is not the file that was made"
    return None


def standing(manifest: Path) -> dict[str, Any] | None:
    """The manifest of a result; the last one where it is gone and the files are those of that one: Snakemake removes it
    before it starts the result's job, and jobs that a killed workflow left at work elsewhere may read the result."""
    last = load(_memory(manifest)) if not manifest.exists() else None
    return load(manifest) if last is None or damage(manifest.parent, last) else last


def outputs(path: str) -> dict[str, str]:
    """File -> sha256 of a result; ``Damaged`` where that is not there or not whole."""
    record = standing(Path(path))
    if record is None:
        raise Damaged(f"{path} is missing or not whole")
    return {name: entry["sha256"] for name, entry in record["outputs"].items()}


def input_digest(
    path: str, reads: Sequence[str] | None = None, files_of: Callable[[str], dict[str, str]] = outputs
) -> tuple[dict[str, str], frozenset[str]]:
    """``{path, digest}`` of a result that a job reads: of all files, or of those whose names match one of the patterns
    ``reads``; and the patterns that some name matches."""
    files, seen = files_of(path), frozenset[str]()
    if reads is not None:
        # a corpus has a file for each shard, and each shard's job reads its own: names are not compared with all
        matching = {p: [p] if p in files else fnmatch.filter(files, p) if _WILD.search(p) else [] for p in reads}
        seen = frozenset(pattern for pattern, names in matching.items() if names)
        files = {name: files[name] for names in matching.values() for name in names}
        if reads and not files:
            raise Damaged(f"{Path(path).parent} holds no {' and no '.join(reads)}")
    return {"path": path, "digest": digest(files)}, seen


#: what :func:`input_digest` gives
Look = Callable[[str, tuple[str, ...] | None], tuple[dict[str, str], frozenset[str]]]


def input_digests(
    manifests: Sequence[str], reads: Sequence[str] | None = None, look: Look = input_digest
) -> list[dict[str, str]]:
    """:func:`input_digest` (``look``) of the results that a job reads as one input. ``Damaged`` where a pattern matches
    no file of any: what a job reads by another name would change unseen."""
    patterns = None if reads is None else tuple(reads)
    found = [look(path, patterns) for path in manifests]
    absent = set(patterns or ()).difference(*(seen for _, seen in found)) if manifests else ()
    for pattern in patterns or ():
        if pattern in absent:
            raise Damaged(f"{', '.join(str(Path(p).parent) for p in manifests)} hold no {pattern}")
    return [entry for entry, _ in found]


def request(job: Mapping[str, Any], look: Look = input_digest) -> dict[str, Any]:
    """The content of a manifest of a job (a settings file's content) that would be current now."""
    reads = job.get("reads", {})
    return {
        "stage": job["stage"],
        "settings": job["settings"],
        "code": job["code"],
        "inputs": {name: input_digests(listed(paths), reads.get(name), look) for name, paths in job["inputs"].items()},
        "files": job.get("files", {}),
    }


def why(manifest: Path, job: Mapping[str, Any], look: Look = input_digest) -> str | None:
    """Why the result at ``manifest`` is not what ``job`` would make now, in words; None where it is."""
    record = load(manifest)
    if record is None:
        return "its manifest is damaged" if manifest.exists() else "not made yet"
    try:
        return _difference(record, request(job, look)) or damage(manifest.parent, record)
    except Damaged as error:
        return str(error)


def _difference(record: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """What was changed since a record was written; None if nothing."""
    found = []
    for name, value in wanted.items():
        before = record.get(name)
        if before == value:
            continue
        if name == "settings":
            found.append(f"settings changed ({', '.join(_changed(before, value))})")
        elif name == "inputs":
            known = [entry for entries in before.values() for entry in entries] if isinstance(before, Mapping) else []
            new = [e["path"] for entries in value.values() for e in entries if e not in known]
            found.append(
                f"inputs changed ({', '.join(str(Path(path).parent) for path in new) or 'fewer, or their order'})"
            )
        elif name == "files":
            found.append(f"files changed ({', '.join(_changed(before, value))})")
        else:
            found.append(f"{name} changed")
    return "; ".join(found) or None


def _changed(before: Any, after: Any, place: str = "") -> list[str]:
    """The dotted keys under which two values differ."""
    if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
        return [] if before == after else [place or "all"]
    dot = f"{place}." if place else ""
    keys = [*after, *(key for key in before if key not in after)]
    return [c for key in keys for c in _changed(before.get(key), after.get(key), f"{dot}{key}")]


def seal(folder: Path, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Write the manifest of a finished folder and return it. Its versions are recorded, and decide nothing."""
    environment = {"python": platform.python_version(), "machine": platform.machine()}
    # remembered, as to look for them takes half as long as to start a job; a package comes and goes in these folders
    places = [(str(place), place.stat().st_mtime_ns) for place in map(Path, sys.path) if place.is_dir()]
    environment |= cached("versions", dumps(places), _versions)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    outputs = {p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": file_digest(p)} for p in files}
    record = {**wanted, "outputs": outputs, "environment": environment}
    write_json(folder / MANIFEST, record, sort_keys=True)
    return record


def _versions() -> dict[str, str]:
    """The versions of the packages that results depend on most."""
    from importlib import metadata  # here: it costs every job's start

    return {p: metadata.version(p) for p in ("torch", "transformers", "av", "numpy", "scipy", "polars")}


def _memory(manifest: Path) -> Path:
    return SCRATCH / "manifests" / manifest


def remember(manifest: Path, written: Path) -> None:
    """Keep a copy of a result's manifest (``written`` where it is still to be put into place) beside the caches, for
    :func:`restore` and :func:`standing`."""
    _write_changed(_memory(manifest), written.read_text(encoding="utf-8"))


def _write_changed(file: Path, text: str) -> None:
    if not file.exists() or file.read_text(encoding="utf-8") != text:
        write_text(file, text)


def restore(manifest: Path, wanted: Mapping[str, Any]) -> bool:
    """Put a result's manifest back if its files are exactly what is wanted; True if so.

    Snakemake decides what to run before anything has run: inputs, once made again, may turn out to be the same.
    """
    for candidate in (manifest, _memory(manifest)):
        record = load(candidate)
        if record and not (_difference(record, wanted) or damage(manifest.parent, record)):
            write_text(manifest, candidate.read_text(encoding="utf-8"))
            return True
    return False


def settings_file(manifest: Path) -> Path:
    """The file that the job of a result reads."""
    return SCRATCH / "settings" / manifest


def mark(manifest: Path, job: Mapping[str, Any], look: Look = input_digest) -> str | None:
    """Write the settings file of a result's job, and mark the result as fresh or stale by its content, for Snakemake,
    which compares times: the settings file is older than a fresh result and newer than a stale one. Returns why it is
    stale (:func:`why`).

    Called for every job before anything runs. No content of a result is touched, since this may be a dry run.
    """
    text = dumps(job)
    _write_changed(settings_file(manifest), text)
    reason = why(manifest, json.loads(text), look)  # as the job will read it: keys are strings there
    _unshare(manifest)
    if reason is None:
        remember(manifest, manifest)
        _set_time(manifest, -STEP)
    else:
        outdate(manifest)
    return reason


def outdate(manifest: Path) -> None:
    """Mark a result as stale: a job makes it, or others together with it, again. Where it was made within the last
    second, waits until that is over: what is made at once would be older than its settings, too."""
    _set_time(manifest, STEP)
    left = settings_file(manifest).stat().st_mtime - time.time()
    if 0 < left <= STEP:  # more: the clock of a file system is ahead, for which waiting at each result does nothing
        time.sleep(left)


def is_made(manifest: Path) -> bool:
    """Whether a result was fresh when it was marked, or has been made since."""
    return manifest.exists() and manifest.stat().st_mtime > settings_file(manifest).stat().st_mtime


def _set_time(manifest: Path, seconds: int) -> None:
    """Set the time of a result's settings file to some seconds after that of the result."""
    settings = settings_file(manifest)
    when = (manifest.stat().st_mtime_ns if manifest.exists() else 0) + seconds * 10**9
    if settings.stat().st_mtime_ns != when:
        os.utime(settings, ns=(when, when))


def _unshare(path: Path) -> None:
    """Replace a small file that a cache has linked or locked by a copy, so that the cache's own stays as it is."""
    if path.is_symlink() or (path.exists() and (path.stat().st_nlink > 1 or not os.access(path, os.W_OK))):
        write_text(path, path.read_text(encoding="utf-8"))
