"""The files that challenges ask for: a function that writes a format, and one that checks a file by the challenge's
rules without knowing who wrote it.

``format: aiac`` in the parameters names :func:`aiac` and :func:`check_aiac`. Videos come and go one at a time.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

#: of an AIAC 2021 embedding
LARGEST_DIM = 256
#: name of the only file in an AIAC archive
MEMBER = "result.json"
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
