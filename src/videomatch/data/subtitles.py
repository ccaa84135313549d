"""Subtitle files and recogniser output, in whatever encoding they were saved, as cues: start, end (s) and text."""

from __future__ import annotations

import codecs
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import pysubs2
from pysubs2.exceptions import Pysubs2Error

#: subtitle formats in order of preference where one video has the same speech in several (a recogniser writes them all)
SUBTITLES = (".srt", ".vtt", ".ass", ".ssa")
_HIGH = re.compile(rb"[\x80-\xff]+")
#: what text mostly consists of: with its bytes swapped, it would not
_PLAIN = re.compile(r"[\s!-~\u3001-\u30ff\u4e00-\u9fff\uff01-\uff5e]")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class Cue(NamedTuple):
    """A text from ``start`` to ``end`` (seconds); ``text`` may have several lines."""

    start: float
    end: float
    text: str


def decode(data: bytes) -> str:
    """Text of a file in UTF-8 or UTF-16 (with or without byte order mark), GB18030, or else Windows-1252.

    GB18030 accepts nearly any bytes, so it must also look like Chinese: characters of two bytes stand in rows, while
    accented letters of a Western code page stand alone.
    """
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    if 0 in data:  # UTF-16 has a zero byte in every Latin letter and line break, the other encodings have none
        either = [data.decode(encoding, errors="replace") for encoding in ("utf-16-le", "utf-16-be")]
        return max(either, key=lambda text: len(_PLAIN.findall(text)))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end >= len(data) - 3 and error.reason == "unexpected end of data":  # only the last character is cut
            return data.decode("utf-8", errors="ignore")
    rows = [len(run) for run in _HIGH.findall(data)]
    if sum(n for n in rows if n >= 4) * 2 > sum(rows) or all(n % 2 == 0 for n in rows):
        try:
            return data.decode("gb18030")
        except UnicodeDecodeError:
            pass
    return data.decode("cp1252", errors="replace")


def read_text(path: Path) -> str:
    """The whole of a small text file, decoded by :func:`decode`."""
    return decode(path.read_bytes())


def subtitles(path: Path) -> list[Cue]:
    """The cues of a .srt, .vtt, .ass or .ssa file, which must hold one, by start time; comments and drawings are left
    out."""
    text = read_text(path).replace("\r\n", "\n")
    wanted = path.suffix[1:].lower() if path.suffix.lower() in SUBTITLES else "srt"
    unreadable = (Pysubs2Error, ValueError, IndexError, KeyError)
    try:
        events = pysubs2.SSAFile.from_string(text)  # the format by the content: endings are often wrong
    except unreadable:
        try:
            events = pysubs2.SSAFile.from_string(text, format_=wanted)
        except unreadable as error:
            raise ValueError(f"{path}: no readable subtitles ({error})") from error
    cues = [
        Cue(event.start / 1000, max(event.start, event.end) / 1000, event.plaintext)
        for event in events
        if not event.is_comment and not event.is_drawing
    ]
    cues = sorted((cue for cue in cues if cue.text.strip()), key=lambda cue: cue[:2])
    if not cues:
        raise ValueError(f"{path}: no subtitle found, expected {wanted.upper()} with at least one line of text")
    return cues


def whisper(path: Path) -> tuple[list[Cue], str | None]:
    """The segments of a recogniser's JSON and its language, where the file has one.

    The form is Whisper's, {"language": …, "segments": [{"start": …, "end": …, "text": …}, …]}, or only the list of
    segments, as its descendants write it. Segments without finite times are dropped.
    """
    try:
        data: Any = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    segments = data.get("segments") if isinstance(data, dict) else data
    if not isinstance(segments, list) or not all(
        isinstance(s, dict) and isinstance(s.get("text"), str) for s in segments
    ):
        raise ValueError(f"{path}: expected a recogniser's output with 'segments' that have 'start', 'end' and 'text'")
    cues = []
    for segment in segments:
        try:
            start, end = float(segment["start"]), float(segment["end"])
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(start) and math.isfinite(end) and segment["text"].strip():
            cues.append(Cue(max(start, 0.0), max(start, end, 0.0), segment["text"].strip()))
    language = data.get("language") if isinstance(data, dict) else None
    return sorted(cues, key=lambda cue: cue[:2]), language if isinstance(language, str) else None
