"""The files that challenges ask for: a function that writes a format, and one that checks a file by the challenge's
rules without knowing who wrote it.

``format: aiac`` in the parameters names :func:`aiac` and :func:`check_aiac`. Videos come and go one at a time. A format
whose function takes ``topics`` is written from rankings, another one from embeddings.
"""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any
from xml.sax.saxutils import quoteattr

import numpy as np

#: of an AIAC 2021 embedding
LARGEST_DIM = 256
#: name of the only file in an AIAC archive
MEMBER = "result.json"
#: shots that an AVS run may name for a topic
MOST_SHOTS = 1000
#: where the DTD of the AVS runs of 2021 lies, and the values that an attribute of a run may take
DTD = "https://www-nlpir.nist.gov/projects/tv2021/dtds/videoAdhocSearchResults.dtd"
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "trType": ("A", "D", "E", "F"),
    "class": ("F", "M", "R"),
    "task": ("M", "P"),
    "novelty": ("N", "C"),
    "priority": tuple(str(n) for n in range(1, 11)),
    "pid": (),
    "desc": (),
}
#: characters of a file that are read at once, and of the longest value that is waited for
CHUNK, LONGEST = 1 << 20, 1 << 24


class JsonError(ValueError):
    """Text that is not what a submission is made of."""


def aiac(path: Path, rows: Iterable[tuple[str, np.ndarray]]) -> Path:
    """Write ``result.zip`` of AIAC 2021 track 1: one deflated file ``result.json``, ``{video id: [numbers]}``.

    Values are rounded to float16, as the organisers' baseline does, and written with all digits that this leaves. The
    same rows give the same bytes.

    Args:
        path: folder to write into.
        rows: id and embedding ``(D,)`` of each video.

    Returns:
        the archive.

    Raises:
        ValueError: a value is not finite, or too large for float16.
    """
    words = [repr(float(number)) for number in np.arange(1 << 16, dtype=np.uint16).view(np.float16)]
    entry = zipfile.ZipInfo(MEMBER, date_time=(1980, 1, 1, 0, 0, 0))
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # the same bytes on every system
    entry.external_attr = 0o644 << 16
    archive = path / "result.zip"
    with zipfile.ZipFile(archive, "w") as opened, opened.open(entry, "w") as file:
        before = "{"
        for video_id, row in rows:
            with np.errstate(over="ignore"):
                small = np.asarray(row).astype(np.float16)
            if not np.isfinite(small).all():
                raise ValueError(f"the embedding of {video_id!r} holds {np.asarray(row)[~np.isfinite(small)][0]}")
            numbers = ", ".join([words[bits] for bits in small.view(np.uint16).tolist()])
            file.write(f"{before}{json.dumps(video_id)}: [{numbers}]".encode())
            before = ",\n"
        file.write(b"{}" if before == "{" else b"}")
    return archive


def check_aiac(archive: Path, ids: Collection[str]) -> None:
    """Check a ``result.zip`` of AIAC 2021 track 1 by the competition's rules.

    Args:
        archive: the file.
        ids: the videos that it must hold, each exactly once.

    Raises:
        ValueError: it is no zip with the one deflated file ``result.json``, that file is no object of lists, an id is
            missing, unknown or repeated, or a list does not hold 1 to 256 finite numbers of float16, as many as the
            others do.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
            if names != [MEMBER]:
                raise ValueError(f"{archive} holds {names}, expected only {MEMBER!r}")
            if opened.getinfo(MEMBER).compress_type != zipfile.ZIP_DEFLATED:
                raise ValueError(f"{archive}: {MEMBER} is not deflated")
            with opened.open(MEMBER) as file:
                _check_rows(archive, file, set(ids))
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{archive} is no whole zip archive ({error})") from error


def avs(path: Path, topics: Mapping[str, list[str]], attributes: Mapping[str, Any], elapsed: int = 1) -> Path:
    """Write ``run.xml``, a run of TRECVID's ad-hoc video search as of 2021.

    Args:
        path: folder to write into.
        topics: number -> its shots, best first.
        attributes: ``trType`` (A only the collection's own training data, D any other, E and F without annotation),
            ``class`` (F fully automatic, M manually assisted, R relevance feedback), ``task`` (M main, P progress),
            ``novelty`` (N novel, C common), ``pid`` (the team's, as registered), ``priority`` (1 to 10) and ``desc``.
        elapsed: whole seconds that each topic took.

    Returns:
        the file.

    Raises:
        ValueError: an attribute is missing, unknown, or of another value.
    """
    problem = _attributes_problem({name: str(value) for name, value in attributes.items()})
    if problem:
        raise ValueError(f"run attributes: {problem}")
    said = " ".join(f"{name}={quoteattr(str(attributes[name]))}" for name in ATTRIBUTES)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<!DOCTYPE videoAdhocSearchResults SYSTEM "{DTD}">']
    lines += ["<videoAdhocSearchResults>", f"<videoAdhocSearchRunResult {said}>"]
    for topic, shots in topics.items():
        lines.append(f'<videoAdhocSearchTopicResult tNum={quoteattr(topic)} elapsedTime="{elapsed}">')
        lines += [f'<item seqNum="{n}" shotId={quoteattr(shot)} />' for n, shot in enumerate(shots, start=1)]
        lines.append("</videoAdhocSearchTopicResult>")
    lines += ["</videoAdhocSearchRunResult>", "</videoAdhocSearchResults>", ""]
    file = path / "run.xml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def check_avs(file: Path, topics: Collection[str], shots: Collection[str]) -> None:
    """Check an AVS run by what NIST's own program checks, and by the DTD's attributes.

    Args:
        file: the run.
        topics: the topics that it must answer, each exactly once.
        shots: the shots that there are.

    Raises:
        ValueError: it is no such XML, holds a topic twice, one too many or too few, more than 1,000 shots of a topic,
            one of them twice, one that does not exist, or a number that is none.
    """
    text = file.read_bytes()
    if b"<!ENTITY" in text:  # an entity could grow without end while it is read
        raise ValueError(f"{file}: declares an entity, which a run has no use for")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is no XML ({error})") from error
    runs = list(root)
    if root.tag != "videoAdhocSearchResults" or not runs or {r.tag for r in runs} != {"videoAdhocSearchRunResult"}:
        raise ValueError(f"{file}: {root.tag} of {sorted({r.tag for r in runs})}, expected videoAdhocSearchRunResult")
    wanted, there = set(topics), set(shots)
    for run in runs:
        problem = _attributes_problem(run.attrib)
        if problem:
            raise ValueError(f"{file}: {problem}")
        seen: set[str] = set()
        for answer in run:
            topic = answer.get("tNum", "")
            where = f"{file}, topic {topic!r}"
            if answer.tag != "videoAdhocSearchTopicResult" or topic not in wanted:
                raise ValueError(f"{where}: {answer.tag}, expected one of the {len(wanted)} topics")
            if topic in seen:
                raise ValueError(f"{where} stands twice")
            seen.add(topic)
            _check_answer(where, answer, there)
        missing = sorted(wanted - seen)
        if missing:
            raise ValueError(f"{file}: {len(missing)} of {len(wanted)} topics are missing, first {missing[0]!r}")


def _check_answer(where: str, answer: ElementTree.Element, there: Collection[str]) -> None:
    elapsed = answer.get("elapsedTime", "")
    if not _is_whole(elapsed):
        raise ValueError(f"{where}: elapsedTime {elapsed!r}, expected a whole number of seconds")
    if len(answer) > MOST_SHOTS:
        raise ValueError(f"{where} names {len(answer)} shots, expected at most {MOST_SHOTS}")
    places: set[int] = set()
    shots: set[str] = set()
    for item in answer:
        place, shot = item.get("seqNum", ""), item.get("shotId", "")
        if item.tag != "item" or not _is_whole(place) or not 1 <= int(place) <= MOST_SHOTS:
            raise ValueError(f"{where}: {item.tag} with seqNum {place!r}, expected 1 to {MOST_SHOTS}")
        if int(place) in places:
            raise ValueError(f"{where}: seqNum {place} stands twice")
        if shot not in there:
            raise ValueError(f"{where}, seqNum {place}: there is no shot {shot!r}")
        if shot in shots:
            raise ValueError(f"{where}: shot {shot} stands twice")
        places.add(int(place))
        shots.add(shot)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 1 << 31


def _attributes_problem(given: Mapping[str, str]) -> str | None:
    """What is wrong with the attributes of a run."""
    for name in [*ATTRIBUTES, *given]:
        if name not in ATTRIBUTES:
            return f"unknown attribute {name!r}, there are {', '.join(ATTRIBUTES)}"
        if not given.get(name, "").strip():
            return f"attribute {name!r} is missing"
        if ATTRIBUTES[name] and given[name] not in ATTRIBUTES[name]:
            return f"{name} {given[name]!r}, expected one of {', '.join(ATTRIBUTES[name])}"
    return None


def _check_rows(archive: Path, file: IO[bytes], wanted: set[str]) -> None:
    seen: set[str] = set()
    dim = None
    for video_id, numbers in _entries(archive, file):
        where = f"{archive}: {video_id!r}"
        if video_id in seen:
            raise ValueError(f"{where} stands twice")
        if video_id not in wanted:
            raise ValueError(f"{where} is none of the {len(wanted)} videos to embed")
        seen.add(video_id)
        if not isinstance(numbers, list) or not 1 <= len(numbers) <= LARGEST_DIM:
            found = f"{len(numbers)} values" if isinstance(numbers, list) else repr(numbers)
            raise ValueError(f"{where} has {found}, expected a list of 1 to {LARGEST_DIM}")
        dim = dim or len(numbers)
        if len(numbers) != dim:
            raise ValueError(f"{where} has {len(numbers)} values, those before it {dim}")
        problem = _problem(numbers)
        if problem:
            raise ValueError(f"{where} {problem}")
    missing = sorted(wanted - seen)
    if missing:
        raise ValueError(f"{archive}: {len(missing)} of {len(wanted)} videos are missing, first {missing[0]!r}")


def _problem(numbers: list[Any]) -> str | None:
    """What is wrong with the values of one embedding."""
    if not set(map(type, numbers)) <= {int, float}:  # True would pass for 1
        odd = next(n for n in numbers if type(n) not in (int, float))
        return f"holds {odd!r}, which is no number"
    try:
        values = np.array(numbers, np.float64)
    except OverflowError:
        return "holds a number too large for float16"
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16)
    bad = ~np.isfinite(rounded) | (rounded != values)
    return f"holds {values[bad][0]}, expected finite numbers rounded to float16" if bad.any() else None


def _entries(archive: Path, file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    """Keys and values of one large JSON object, repeated keys too; one value at a time is in memory.

    Raises:
        ValueError: this is no object, or not a whole one.
    """
    text = _Text(file)
    try:
        if text.take() != "{":
            raise JsonError("no object")
        mark = text.take() if text.peek() == "}" else ","
        while mark == ",":
            key = text.value()
            if not isinstance(key, str) or text.take() != ":":
                raise JsonError(f"{key!r} where an id and a colon were expected")
            yield key, text.value()
            mark = text.take()
        if mark != "}" or text.take():
            raise JsonError(f"it does not end with the object, but with {mark!r}")
    except JsonError as error:
        raise ValueError(f"{archive}: {MEMBER} is no JSON object of ids and lists ({error})") from error


class _Text:
    """A large JSON text, read piece by piece."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = io.TextIOWrapper(file, encoding="utf-8")
        self.text, self.at = "", 0
        self.decoder = json.JSONDecoder()

    def _more(self) -> bool:
        try:
            read = self.file.read(CHUNK)
        except UnicodeDecodeError as error:
            raise JsonError(str(error)) from error
        self.text, self.at = self.text[self.at :] + read, 0
        return bool(read)

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in " \t\r\n":
                    return self.text[self.at]
                self.at += 1
            if not self._more():
                return ""

    def take(self) -> str:
        """The same, and go past it."""
        character = self.peek()
        self.at += len(character)
        return character

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, self.at = self.decoder.raw_decode(self.text, self.at)
                return value
            except (ValueError, RecursionError) as error:
                if len(self.text) - self.at > LONGEST or not self._more():
                    raise JsonError(str(error)) from error
