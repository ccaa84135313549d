"""Subtitle files and recogniser output as cues: start, end (s) and text."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pysubs2
from pysubs2.exceptions import Pysubs2Error

from videomatch.common.files import parse_json
from videomatch.data.encodings import read_text
from videomatch.data.tables import LONGEST

#: subtitle formats in order of preference where one video has the same speech in several (a recogniser writes them all)
SUBTITLES = (".srt", ".vtt", ".ass", ".ssa")
#: characters of the longest cue: more than anybody can read, or say without a pause
MAX_CUE = 10_000
#: cues of the longest file: a word each for half a day of speech
MAX_CUES = 100_000
_TIME = r"-?(?:(\d{1,6})\s?:\s?)?(\d{1,2})\s?:\s?(\d{1,2})(?:\s?[.,:]\s?(\d{1,9}))?"
_TIMING = re.compile(rf"\s*{_TIME}\s*[-–—]*>\s*{_TIME}(?:\s.*|X.*)?", re.DOTALL)
#: a part of a picture, in the .vtt of a player's previews
_THUMBNAIL = re.compile(r"\S+#xywh=\S+")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|< ?/? ?[A-Za-z] ?>|<[\d:.,]+>|</?>|\{[^{}]*\}")
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9]")
#: where a recogniser's segments are: Whisper's and its descendants', whisper.cpp's, Hugging Face's
_SEGMENTS = ("segments", "transcription", "chunks")


class Cue(NamedTuple):
    """A text from ``start`` to ``end`` (seconds); ``text`` may have several lines."""

    start: float
    end: float
    text: str


def subtitles(path: Path) -> list[Cue]:
    """The cues of a .srt, .vtt, .ass or .ssa file by start time, without tags, comments and drawings.

    The content decides on the format, as endings are often wrong. A file without anything but a heading has no cue:
    recognisers write it for a silent video.
    """
    text = read_text(path).lstrip("\ufeff")
    for end in ("\r\r\n", "\r\n", "\r"):
        text = text.replace(end, "\n")
    lines = text.split("\n")
    found = ((n, match) for n, line in enumerate(lines) if ">" in line and (match := _TIMING.fullmatch(line)))
    timings = list(islice(found, MAX_CUES + 1))
    heading = text.lstrip().startswith("WEBVTT")
    silent = heading or not text.strip() or ("[Events]" in text and "Dialogue:" not in text)
    if silent and "-->" not in text:
        return []
    if heading or (timings and not any(section in text for section in ("[Script Info]", "[V4+ Styles]"))):
        _limit(len(timings), path)
        cues = _sorted(_timed(lines, timings, path, vtt=heading or path.suffix.lower() == ".vtt"))
    else:
        cues = _sorted(_pysubs2(lines, path))
    if not cues:
        raise ValueError(
            f"{path}: no subtitle found, expected {path.suffix[1:].upper()} with at least one line of text"
        )
    return cues


def _sorted(cues: Iterable[Cue]) -> list[Cue]:
    said = (cue for cue in cues if cue.text.strip() and not _THUMBNAIL.fullmatch(cue.text.strip()))
    return sorted(said, key=lambda cue: cue[:2])


def _timed(lines: list[str], timings: list[tuple[int, re.Match[str]]], path: Path, *, vtt: bool) -> Iterator[Cue]:
    """The cues of a SubRip or WebVTT file: a line of two times, then lines of text.

    In WebVTT the text ends at the first empty line; what comes before the next times is an id, a note or a style. In
    SubRip it may have empty lines, and ends before the number of the next cue.
    """
    ends = [n for n, _ in timings[1:]] + [len(lines)]
    for (begin, match), end in zip(timings, ends, strict=False):  # no times have no end
        words = lines[begin + 1 : end]
        if vtt:
            words = words[: words.index("")] if "" in words else words
        elif end == len(lines):
            words = _without_stump(words, lines[begin - 1] if begin else "")
        elif words and words[-1].strip().isdecimal():
            words.pop()
        text = "\n".join(line for line in _TAG.sub("", "\n".join(words)).split("\n") if line.strip())
        yield _cue(_seconds(match.groups()[:4]), _seconds(match.groups()[4:]), text, path, f"line {begin + 1}")


def _without_stump(words: list[str], number: str) -> list[str]:
    """The last cue's text without the number of a cue that was cut away: the next one, below an empty line."""
    filled = [n for n, line in enumerate(words) if line.strip()]
    if len(filled) < 2 or filled[-1] == filled[-2] + 1 or not re.fullmatch(r"\s*[0-9]{1,9}\s*", number):
        return words
    return words[: filled[-1]] if words[filled[-1]].strip() == str(int(number) + 1) else words


def _seconds(groups: Iterable[str | None]) -> float:
    hours, minutes, seconds, fraction = (group or "0" for group in groups)
    return round(int(hours) * 3600 + int(minutes) * 60 + float(f"{seconds}.{fraction}"), 6)


def _limit(cues: int, path: Path) -> None:
    if cues > MAX_CUES:
        raise ValueError(f"{path}: has more than {MAX_CUES:,} cues")


def _cue(start: float, end: float, text: str, path: Path, where: str) -> Cue:
    if len(text) > MAX_CUE:
        raise ValueError(f"{path}, {where}: a cue of {len(text):,} characters, expected at most {MAX_CUE:,}")
    return Cue(max(start, 0.0), max(start, end, 0.0), text)


def _pysubs2(lines: list[str], path: Path) -> Iterator[Cue]:
    """The cues of the other formats, which have at least a line each."""
    _limit(sum(map(bool, lines)), path)
    for number, line in enumerate(lines, start=1):
        if "<!ENTITY" in line:
            raise ValueError(f"{path}, line {number}: defines an entity, expected subtitles without")
        if len(line) > 10 * MAX_CUE and not line.startswith("Dialogue:"):
            raise ValueError(f"{path}, line {number}: has {len(line):,} characters, expected at most {10 * MAX_CUE:,}")
    text = "\n".join(lines)
    try:
        try:
            events = pysubs2.SSAFile.from_string(text)
        except Pysubs2Error:
            events = pysubs2.SSAFile.from_string(text, format_=path.suffix[1:].lower() or "srt")
    except Exception as error:  # its parsers raise whatever a damaged file leads to, such as a ParseError of XML
        raise ValueError(f"{path}: no readable subtitles ({error})") from error
    _limit(len(events), path)
    for number, event in enumerate(events, start=1):
        if not event.is_comment and not _DRAWING.search(event.text):
            words = re.sub(r"\\[Nn]", "\n", _TAG.sub("", event.text)).replace("\\h", " ")
            yield _cue(event.start / 1000, event.end / 1000, words, path, f"cue {number}")


def whisper(path: Path) -> tuple[list[Cue], str | None]:
    """The segments of a recogniser's JSON and its language, where the file has one.

    The form is Whisper's, {"language": …, "segments": [{"start": …, "end": …, "text": …}, …]}, or only the list of
    segments, as its descendants write it; whisper.cpp's, with "transcription" and "offsets" in milliseconds; or Hugging
    Face's, with "chunks" and a "timestamp" of two. Segments without text or a start are dropped; an end that is
    missing is the start of the next one. No segments at all are a silent video; segments of which none can be read are
    an error.
    """
    data: Any = parse_json(read_text(path), str(path))
    about = data if isinstance(data, dict) else {}
    segments = next((about[name] for name in _SEGMENTS if name in about), None) if about or data == {} else data
    if not isinstance(segments, list):
        raise ValueError(
            f"{path}: expected a recogniser's output, a list of segments with 'start', 'end' and 'text', or an object "
            f"that has it as one of {', '.join(map(repr, _SEGMENTS))}"
        )
    _limit(len(segments), path)
    found: list[Cue] = []
    following: float | None = None  # the start of the next segment that has one
    for number in range(len(segments), 0, -1):
        start, end, text = _segment(segments[number - 1])
        if start is not None:
            end = (start if following is None else following) if end is None else end
            following = start
            if text:
                found.append(_cue(start, end, text, path, f"segment {number}"))
    silent = all(isinstance(s, dict) and isinstance(s.get("text"), str) and not s["text"].strip() for s in segments)
    if not found and not silent:
        raise ValueError(f"{path}: none of {len(segments)} segments has both a 'text' and a time that it starts at")
    result = about.get("result")
    language = about.get("language", result.get("language") if isinstance(result, dict) else None)
    return _sorted(reversed(found)), language if isinstance(language, str) else None


def _segment(segment: Any) -> tuple[float | None, float | None, str]:
    """Start, end and text; None or empty where there is none."""
    if not isinstance(segment, dict):
        return None, None, ""
    text = segment.get("text")
    offsets, stamps = segment.get("offsets"), segment.get("timestamp")
    times, unit = (segment.get("start"), segment.get("end")), 1.0
    if isinstance(offsets, dict):
        times, unit = (offsets.get("from"), offsets.get("to")), 0.001
    elif isinstance(stamps, list) and len(stamps) == 2:
        times = (stamps[0], stamps[1])
    start, end = (_finite(time, unit) for time in times)
    return start, end, text.strip() if isinstance(text, str) else ""


def _finite(time: Any, unit: float) -> float | None:
    try:
        seconds = float(time) * unit
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if abs(seconds) < LONGEST else None
