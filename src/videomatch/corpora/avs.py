"""TRECVID ad-hoc video search: shots of many films, topics of the editions 2016 to 2021, and NIST's sampled judgements.

The films are those of IACC.3 (editions 2016 to 2018) or V3C1 (2019 to 2021, and the progress topics), licensed by NIST;
each is a data set of its own. Files, below ``raw``::

    msb/NNNNN.tsv                V3C: a heading, then start frame, start time, end frame, end time between tabs; or
    msb/NNNNN.msb                IACC: start and end frame on a line; lines without a number are skipped
    *.avs.txt *topics*.txt       topics: number, blanks, query
    avs.qrels.*                  judgements: 1<topic> 0 shot stratum judgement
    V3C1.dropped.shots.list      shots that must not be returned
    videos/                      a file per shot, shot00008_16.<ending>, if the films were cut

Instead of the master shot reference, a list of shots (separated by blanks: the ``id.txt`` of a BigFile serves), or
NIST's table of valid shots (``film last-shot`` a line) says what there is. The n-th line of a film's reference is its
shot n. Start and end are known for V3C, and unknown for IACC, whose lines count frames. Nothing cuts the films here:
without a file per shot, features come from elsewhere.

Protocols: ``captions_tv16`` … ``captions_tv21`` and ``captions_progress``, by the topics' numbers, each with all shots
as references; ``shots`` lists these. The whole pool, with the strata and what was not judged, is the table ``strata``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from videomatch.common.files import text_of
from videomatch.corpora import _files
from videomatch.data.tables import SCHEMAS, frame, read_cells, videos

#: edition -> its first and last topic
EDITIONS = {
    "tv16": (501, 530),
    "tv17": (531, 560),
    "tv18": (561, 590),
    "progress": (591, 610),
    "tv19": (611, 640),
    "tv20": (641, 660),
    "tv21": (661, 680),
}
SHOT = re.compile(r"shot\d+_[1-9]\d*")
TOPIC = re.compile(r"[0-9]{1,6}")
#: shots of a film and of a collection; the longest film of the collections has some thousand, the largest 1.4 million
MOST_OF_FILM, MOST = 99_999, 2_000_000
_FILM = re.compile(r"(\d+)\D*")
_PREFIX = re.compile(r"find shots of\s+", re.IGNORECASE)


def read(*, raw: Path, shots: str = "msb", media: str | None = None, partial: bool = False) -> dict[str, pl.DataFrame]:
    """The tables of one collection. ``shots`` is the folder of the master shot reference, a list of shots, or the table
    of valid shots; ``partial`` takes editions whose topics are not all there."""
    raw = Path(raw)
    listed = _shots(raw, shots)
    lost = {shot for path in sorted(raw.glob("*.dropped.shots.list")) for shot in _shots_of(path)}
    topics = _files.find_all(raw, ("*.avs.txt", "*topics*.txt"), "topics are")
    queries = _topics(topics)
    files = _files.media_files(raw, media)
    kept = listed.filter(~pl.col("video_id").is_in(list(lost)))
    if kept.is_empty():
        raise ValueError(f"{raw / shots}: no shot left")
    path = pl.col("video_id").replace_strict(files, default=None, return_dtype=pl.String)
    qrels = sorted(raw.glob("avs.qrels.*"))
    strata = _judgements(qrels, queries)
    rows = [(number, None, "query", "en", None, None, words) for number, words in queries.items()]
    gone = [(shot, "", "on the list of dropped shots") for shot in sorted(lost.intersection(listed["video_id"]))]
    tables = {
        "videos": videos(kept.select("video_id", path.alias("path"))),
        "texts": frame("texts", rows),
        "splits": _splits(topics, queries, kept["video_id"], partial),
        "relevance": strata.filter(pl.col("judgement") >= 0).select(
            "query_id", "reference_id", pl.col("judgement").cast(pl.Float64).alias("grade")
        ),
        "rejected": frame("rejected", gone),
        "sources": kept,
    }
    if qrels:
        tables["strata"] = strata
    return tables


def _shots(raw: Path, name: str) -> pl.DataFrame:
    """video_id, source (the film), start and end in seconds, in the order of films and shots."""
    path = raw / Path(name).expanduser()
    if path.is_dir():
        rows = [row for file in sorted(path.iterdir()) if file.suffix in (".tsv", ".msb") for row in _film(file)]
        if not rows:
            raise ValueError(f"{path}: no master shot reference; looked for *.tsv and *.msb")
    elif path.is_file():
        rows = _listed(path)
    else:
        raise ValueError(f"{raw}: no list of shots; looked for the folder or file {path}")
    shots = frame("sources", rows)
    twice = shots.filter(pl.col("video_id").is_duplicated())
    if len(twice):
        raise ValueError(f"{path}: shot {twice['video_id'][0][:60]!r} stands twice")
    return shots


def _film(path: Path) -> list[tuple[str, str, float | None, float | None]]:
    """The shots of one film."""
    film = _FILM.fullmatch(path.stem)
    if film is None:
        raise ValueError(f"{path}: its name, {path.stem!r}, is no film's number")
    tabbed = path.suffix == ".tsv"
    wanted = 4 if tabbed else 2
    rows = []
    for number, line in enumerate(text_of(path, "utf-8" if tabbed else "iso-8859-1").splitlines(), start=1):
        if (number == 1 or not line.strip()) if tabbed else not line.strip()[:1].isdigit():
            continue
        cells = line.split("\t") if tabbed else line.split()
        try:
            values = [float(cell) for cell in cells[:wanted]]
        except ValueError:
            values = []
        sound = len(values) == wanted and all(0 <= value < math.inf for value in values)
        if not sound or any(values[n] > values[n + wanted // 2] for n in range(wanted // 2)):
            raise ValueError(
                f"{path}, line {number}: {line[:60]!r}, expected {wanted} numbers from 0 up, the end not before"
            )
        start, end = (values[1], values[3]) if wanted == 4 else (None, None)
        rows.append((f"shot{film[1]}_{len(rows) + 1}", film[1], start, end))
    if not rows:
        raise ValueError(f"{path}: no shot in it")
    return rows


def _listed(path: Path) -> list[tuple[str, str, None, None]]:
    """The shots of a list, or of a table of films and their last shots."""
    words = text_of(path).split()
    if not words:
        raise ValueError(f"{path}: no shot in it")
    if words[0].startswith("shot"):
        return [(shot, shot[4:].partition("_")[0], None, None) for shot in _shots_of(path)]
    if len(words) % 2 or not all(word.isascii() and word.isdigit() for word in words):
        raise ValueError(f"{path}: expected shots, or lines of a film and its last shot, found {str(words[:2])[:100]}")
    last = [(film, number.lstrip("0") or "0") for film, number in zip(words[::2], words[1::2], strict=True)]
    long = next(((film, number) for film, number in last if len(number) > len(str(MOST_OF_FILM))), None)
    if long is not None:
        raise ValueError(
            f"{path}: film {long[0][:60]} with last shot {long[1][:60]}, expected at most {MOST_OF_FILM:,}"
        )
    if (total := sum(int(number) for _, number in last)) > MOST:
        raise ValueError(f"{path}: {total:,} shots in all, expected at most {MOST:,}")
    return [
        (f"shot{film.zfill(5)}_{n}", film.zfill(5), None, None)
        for film, number in last
        for n in range(1, int(number) + 1)
    ]


def _shots_of(path: Path) -> list[str]:
    """The words of a file, all of which must be shots."""
    words = text_of(path).split()
    odd = next((word for word in words if not SHOT.fullmatch(word)), None)
    if odd is not None:
        raise ValueError(f"{path}: {odd[:60]!r} is no shot, expected shot<film>_<number>")
    return words


def _topics(paths: Sequence[Path]) -> dict[str, str]:
    """Number -> query, ordered."""
    found: dict[str, tuple[str, Path]] = {}
    for path in paths:
        for number, line in _files.lines(path):
            topic, _, words = line.strip().partition(" ")
            words = _PREFIX.sub("", " ".join(words.split()), count=1)
            if not TOPIC.fullmatch(topic) or not words:
                raise ValueError(f"{path}, line {number}: {line[:60]!r}, expected a topic's number, a blank, its query")
            if topic in found and found[topic][0] != words:
                raise ValueError(
                    f"{path}, line {number}: topic {topic} reads {words[:60]!r}, in {found[topic][1]} otherwise"
                )
            found.setdefault(topic, (words, path))
    return {topic: found[topic][0] for topic in sorted(found, key=int)}


def _splits(paths: Sequence[Path], asked: Mapping[str, str], shots: pl.Series, partial: bool) -> pl.DataFrame:
    files = ", ".join(map(str, paths))
    named: dict[str, list[str]] = {}
    for name, (first, last) in EDITIONS.items():
        there = [t for t in asked if first <= int(t) <= last]
        if 0 < len(there) < last - first + 1 and not partial:
            missing = next(str(n) for n in range(first, last + 1) if str(n) not in asked)
            raise ValueError(
                f"{files}: edition {name!r}: {len(there)} of the topics {first} to {last}, {missing} is missing "
                f"(`partial: true` takes what is there)"
            )
        if there:
            named[f"captions_{name}"] = there
    left = [t for t in asked if not any(t in ids for ids in named.values())]
    if left:
        known = ", ".join(f"{name} {first}-{last}" for name, (first, last) in EDITIONS.items())
        raise ValueError(f"{files}: topic {left[0]} belongs to no edition, expected one of {known}")
    rows = [("shots", "reference", shots)]
    for name, ids in named.items():
        rows += [(name, "query", pl.Series("id", ids)), (name, "reference", shots)]
    return pl.concat(pl.DataFrame({"split": split, "role": role, "id": listed}) for split, role, listed in rows)


def _judgements(paths: Sequence[Path], asked: Mapping[str, str]) -> pl.DataFrame:
    """The pools of all files, as the table ``strata``."""
    frames = [pl.DataFrame(schema=SCHEMAS["strata"])]
    for path in paths:
        rows = read_cells(path, ["query_id", "zero", "reference_id", "stratum", "judgement"], " ")
        odd = rows.filter(
            ~pl.col("query_id").str.contains(r"^1\d+$")
            | ~pl.col("reference_id").str.contains(r"^shot\d+_[1-9]\d*$")
            | ~pl.col("judgement").is_in(["-1", "0", "1"])
        )
        if len(odd):
            raise ValueError(f"{path}: {' '.join(odd.row(0))[:100]!r}, expected 1<topic> 0 shot stratum -1, 0 or 1")
        rows = rows.select(
            pl.col("query_id").str.slice(1), "reference_id", "stratum", pl.col("judgement").cast(pl.Int64)
        )
        unknown = rows.filter(~pl.col("query_id").is_in(list(asked)))
        if len(unknown):
            raise ValueError(f"{path}: judges topic {unknown['query_id'][0][:60]}, which no file of topics has")
        frames.append(rows)
    whole = pl.concat(frames)
    twice = whole.filter(pl.struct("query_id", "reference_id").is_duplicated())
    if len(twice):
        names = ", ".join(map(str, paths))
        raise ValueError(f"{names}: shot {twice['reference_id'][0]} of topic {twice['query_id'][0]} stands twice")
    return whole
