"""Parts of videos for other programs (``--csv``, ``--edl`` and ``--cut`` of `copies` and `find`), and `shots`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from videomatch.app.copies import Copies, Segment
from videomatch.common import files
from videomatch.common.messages import count
from videomatch.media import shots
from videomatch.media.container import Unreadable, frame_rate
from videomatch.media.cut import cut
from videomatch.reports.edl import Event, edl
from videomatch.reports.pages import clock

#: seconds by which both sides of a segment may differ in length without another speed: two frames of a descriptor
SLACK = 0.5
#: seconds that a cut may be off without a note
OFF = 0.05
#: columns of tables
SHOTS = ("number", "start", "end", "seconds")
HITS = ("asked", "id", "path", "title", "start", "end", "duration", "score", "by")
#: a cell that begins with one of these may be a formula to a spreadsheet, unless there is an apostrophe before it
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "'")
#: what a name of a cut has no room for
NOT_PLAIN = re.compile(r"[^\w-]+")


@dataclass(frozen=True)
class Part:
    """A part of a file (s), and where it is on the timeline of an edit decision list (None: it is cut alone)."""

    path: Path
    name: str
    start: float
    end: float
    score: float | None = None
    at: float | None = None
    until: float = 0.0

    def shares(self, other: Part) -> bool:
        """Whether two parts overlap on the timeline."""
        return self.at is not None and other.at is not None and self.at < other.until and other.at < self.until


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The columns of some rows as CSV. Text that a spreadsheet might take for a formula has an apostrophe before it."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\r\n")  # so that both characters in a cell are quoted
    writer.writeheader()
    for row in rows:
        cells = {name: row.get(name) for name in columns}
        guarded = {name: f"'{cell}" for name, cell in cells.items() if isinstance(cell, str) and cell[:1] in FORMULA}
        writer.writerow(cells | guarded)
    return text.getvalue()


def csv_cell(text: str) -> str:
    """What a cell of :func:`csv_text` was before."""
    return text[1:] if text[:1] == "'" and text[1:2] in FORMULA else text


def of_copies(options: argparse.Namespace, answer: Copies) -> list[str]:
    """Export the segments of an answer: in a list the parts that come from the library on the query's timeline, and cut
    both sides of each. Returns what is to be said."""
    query, parts = Path(answer.asked), list[Part]()
    for s in answer.segments:
        parts.append(Part(query, query.name, s.query_start, s.query_end))
        if s.path:
            times = s.reference_start, s.reference_end, s.score, s.query_start, s.query_end
            parts.append(Part(Path(s.path), s.reference, *times))
    rows = [asdict(segment) for segment in answer.segments]
    return _export(options, [field.name for field in fields(Segment)], rows, parts, query.name, query)


def of_hits(options: argparse.Namespace, replies: Sequence[Mapping[str, Any]]) -> list[str]:
    """Export the moments of some replies of ``find``, one after the other. Returns what is to be said."""
    hits = [hit | {"asked": reply["asked"]} for reply in replies for hit in reply["hits"]]
    moments, notes = [], list[str]()
    for hit in hits:
        length = hit["duration"] or 0.0
        start, end = (0.0, length) if hit["start"] is None else (hit["start"], hit["end"])
        if length and end > length + SLACK:  # of subtitles that belong to another cut of the film
            said = "left out" if start >= length else "cut there"
            notes.append(f"{hit['id']}: {clock(start)}-{clock(end)} ends after the video, at {clock(length)}: {said}")
        end = min(end, length or end)
        moments += [(Path(hit["path"]), hit["id"], start, end, hit["score"])] if hit["path"] and start < end else []
    rows = [hit | {"by": ", ".join(hit.get("by", ()))} for hit in hits]
    return notes + _export(options, HITS, rows, _in_a_row(moments), "; ".join(reply["asked"] for reply in replies))


def show_shots(options: argparse.Namespace) -> int:
    """Print the shots of a video, and export them."""
    path = Path(options.video).expanduser()
    try:
        found = shots.detect(path)
    except Unreadable as error:
        raise ValueError(f"{path}: {error}") from error
    rows: list[dict[str, Any]] = [
        dict(zip(SHOTS, (n, start, end, end - start), strict=True)) for n, (start, end) in enumerate(found, 1)
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        for number, start, end, seconds in map(dict.values, rows):
            print(f"{number:4d}  {clock(start)}-{clock(end)}  {seconds:.2f} s")
    parts = _in_a_row((path, path.name, *shot, None) for shot in found)
    for note in _export(options, SHOTS, rows, parts, path.name, path):
        print(note, file=sys.stderr)
    return 0


def _in_a_row(moments: Iterable[tuple[Path, str, float, float, float | None]]) -> list[Part]:
    """Parts (file, name, start, end, score) one after the other on a timeline."""
    parts, at = list[Part](), 0.0
    for path, name, start, end, score in moments:
        parts.append(Part(path, name, start, end, score, at, at + end - start))
        at += end - start
    return parts


def _export(
    options: argparse.Namespace,
    columns: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    parts: Sequence[Part],
    title: str,
    timeline: Path | None = None,
) -> list[str]:
    """Write what the options name; ``timeline`` is the file whose frames a list counts (None: the first part's)."""
    notes = list[str]()
    if options.csv:
        files.write_text(options.csv, csv_text(columns, rows))
        notes.append(f"{options.csv}: {count(len(rows), 'row')}")
    if options.edl:
        notes += _write_edl(options.edl, parts, title, timeline)
    if options.cut:
        notes += _write_cuts(options.cut, parts)
    return notes


def _write_edl(file: Path, parts: Sequence[Part], title: str, timeline: Path | None) -> list[str]:
    rates: dict[Path, Fraction] = {}

    def rate(path: Path) -> Fraction:
        if path not in rates:
            try:
                rates[path] = frame_rate(path) or Fraction(25)
            except Unreadable as error:
                raise ValueError(f"{path}: {error}") from error
        return rates[path]

    chosen, left = list[Part](), list[Part]()
    for part in sorted((part for part in parts if part.at is not None), key=lambda part: -(part.score or 0.0)):
        (left if any(map(part.shares, chosen)) else chosen).append(part)
    events = []
    for part in chosen:
        score = [] if part.score is None else [f"SCORE: {part.score:.3f}"]
        notes = [f"SOURCE FILE: {part.path}", *score]
        events.append(Event(part.name, part.start, part.end, part.at or 0.0, part.until, rate(part.path), notes))
    timeline = timeline or (parts[0].path if parts else None)
    files.write_text(file, edl(title, events, rate(timeline) if timeline else Fraction(25), SLACK))
    said = f"{file}: {count(len(events), 'event')}"
    return [f"{said}; {count(len(left), 'part')} left out that overlap better ones on its one track" if left else said]


def _write_cuts(folder: Path, parts: Sequence[Part]) -> list[str]:
    """Cut parts into a new folder, as ``001-name.mp4`` in their order."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not empty: expected a new folder for the cuts")
    notes = list[str]()
    of_file: dict[Path, list[tuple[int, Part]]] = {}
    for number, part in enumerate(parts, 1):
        of_file.setdefault(part.path, []).append((number, part))
    with files.replacing(folder) as new:
        new.mkdir(parents=True)
        written = 0
        for path, own in of_file.items():
            stems = [new / f"{number:03d}-{NOT_PLAIN.sub('-', Path(part.name).stem)[:60]}" for number, part in own]
            try:
                found = cut(path, [(part.start, part.end) for _, part in own], stems)
            except Unreadable as error:
                notes.append(f"{path}: {error}")
                continue
            written += len(found)
            for each in found:
                off = {"begins {:.2f} s early": each.early, "ends {:.2f} s late": each.late}
                said = [words.format(seconds) for words, seconds in off.items() if seconds > OFF]
                notes += [f"{each.path.name} {' and '.join(said)}"] if said else []
    return [f"{folder}: {count(written, 'cut')}", *notes]
