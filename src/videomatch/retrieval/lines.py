"""The words of an indexed folder, searched by SQLite: one line per title, file name, description, utterance and text on
the screen.

A line is scored by how much of a question it holds: the inverse document frequencies of the question's words that are
in it, as a share of those of all its words. Common English words do not count; other words are compared by their stem
(Porter's), and scripts without spaces, as Chinese, by pairs of characters.
"""

from __future__ import annotations

import math
import re
import shutil
import sqlite3
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from videomatch.common import files

#: what a line is: written about a video, said in it, or written in its frames
TITLES, SPEECH, OCR = "titles", "speech", "ocr"
#: Thai, Lao, Burmese, Khmer, Chinese, Japanese and Korean
UNSPACED = r"\u0e01-\u0e3a\u0e40-\u0ed9\u1000-\u109f\u1780-\u17d3぀-ヿ㐀-䶿一-鿿豈-﫿가-힯"
#: vowel signs, accents and points, without which half of the world's scripts have no words
MARKS = "".join(c for c in map(chr, range(0x300, 0xFE00)) if unicodedata.category(c) in ("Mn", "Mc"))
WORD = re.compile(rf"[{UNSPACED}]+|[^\W_{UNSPACED}](?:[^\W_{UNSPACED}]|[{MARKS}])*")
TOKENS = "tokenize=\"porter unicode61 categories 'L* N* Co Mn Mc'\""
COLUMNS = 'words, video UNINDEXED, channel UNINDEXED, start UNINDEXED, "end" UNINDEXED, text UNINDEXED'


@dataclass(frozen=True)
class Line:
    """A text of a video, and from when to when it is said or shown (s)."""

    video: str
    channel: str
    text: str
    start: float | None = None
    end: float | None = None


def words(text: str, *, asked: bool = False) -> list[str]:
    """The words of a text in lower case and Unicode's form NFKC; of unspaced scripts pairs of characters, and in a text
    that is not ``asked`` also each character."""
    found: list[str] = []
    for word in WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if not re.match(f"[{UNSPACED}]", word):
            found.append(word)
            continue
        pairs = [word[n : n + 2] for n in range(len(word) - 1)]
        found += pairs if asked and pairs else [*word, *pairs]
    return found


def write(path: Path, rows: Iterable[Line]) -> None:
    """Write the lines of all videos, whole or not at all."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS  # here: a second of import, which questions save

    with files.replacing(path) as new, closing(sqlite3.connect(new)) as database, database:
        database.execute(f"CREATE VIRTUAL TABLE lines USING fts5({COLUMNS}, {TOKENS})")
        database.execute("CREATE TABLE common (word TEXT PRIMARY KEY)")
        database.executemany("INSERT INTO common VALUES (?)", [(word,) for word in sorted(ENGLISH_STOP_WORDS)])
        for row in rows:
            counted = " ".join(word for word in words(row.text) if word not in ENGLISH_STOP_WORDS)
            if counted:
                values = (counted, row.video, row.channel, row.start, row.end, row.text)
                database.execute("INSERT INTO lines VALUES (?, ?, ?, ?, ?, ?)", values)


def remove(path: Path, videos: Iterable[str]) -> None:
    """Write the lines again without those of some videos."""
    with files.replacing(path) as new:
        shutil.copyfile(path, new)
        with closing(sqlite3.connect(new)) as database, database:
            database.executemany("DELETE FROM lines WHERE video = ?", [(video,) for video in videos])


def search(path: Path, question: str, channels: Sequence[str]) -> list[tuple[float, Line]]:
    """The best line of every video and channel that holds a word of a question, with its share, best first."""
    if not path.is_file():
        return []
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
        common = {word for (word,) in database.execute("SELECT word FROM common")}
        total = database.execute("SELECT count(*) FROM lines").fetchone()[0]
        shares: dict[int, float] = {}
        whole = 0.0
        for word in set(words(question, asked=True)) - common:
            rows = database.execute("SELECT rowid FROM lines WHERE lines MATCH ?", (f'words:"{word}"',)).fetchall()
            weight = math.log(1 + total / (1 + len(rows)))
            whole += weight
            for (row,) in rows:
                shares[row] = shares.get(row, 0.0) + weight
        best: dict[tuple[str, str], tuple[float, Line]] = {}
        columns = 'video, channel, text, start, "end"'
        for row, share in sorted(shares.items(), key=lambda item: (-item[1], item[0])):
            line = Line(*database.execute(f"SELECT {columns} FROM lines WHERE rowid = ?", (row,)).fetchone())
            if line.channel in channels:
                best.setdefault((line.video, line.channel), (share / whole, line))
    return list(best.values())
