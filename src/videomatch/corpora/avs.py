"""TRECVID ad-hoc video search: shots of many films, topics of the editions 2016 to 2021, and NIST's sampled judgements.

The films are those of IACC.3 (editions 2016 to 2018) or V3C1 (2019 to 2021, and the progress topics), licensed by NIST;
each is a data set of its own. Files, below ``raw``::

    msb/NNNNN.tsv                V3C: a heading, then start frame, start time, end frame, end time between tabs; or
    msb/NNNNN.msb                IACC: start and end frame on a line; lines without a number are skipped
                                 (frames count from 0, and the end frame is the last one of the shot)
    *.avs.txt *topics*.txt       topics: number, blanks, query
    avs.qrels.*                  judgements: 1<topic> 0 shot stratum judgement
    V3C1.dropped.shots.list      shots that must not be returned
    videos/                      the films, NNNNN.<ending>, or a file per shot, shot00008_16.<ending>

The n-th line of a film's reference is its shot n. A shot without a file of its own is a part of its film, from its
first frame to the end of its last (for IACC by the film's frame rate); no film is cut. Instead of the master shot
reference, a list of shots (separated by blanks: the ``id.txt`` of a BigFile serves), or NIST's table of valid shots
(``film last-shot`` a line) says what there is; these have no times, and without a file per shot, features come from
elsewhere. ``shots: detect`` finds the shots of all films instead (:mod:`videomatch.media.shots`).

Protocols: ``captions_tv16`` … ``captions_tv21`` and ``captions_progress``, by the topics' numbers, each with all shots
as references; ``shots`` lists these. The whole pool, with the strata and what was not judged, is the table ``strata``.
"""

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from videomatch.common.files import text_of
from videomatch.common.progress import track
from videomatch.corpora import _files
from videomatch.data.tables import SCHEMAS, F, S, frame, read_cells, videos
from videomatch.media.container import Unreadable, frame_rate
from videomatch.media.shots import detect

#: edition -> its topics
EDITIONS = {
    "tv16": "501-530",
    "tv17": "531-560",
    "tv18": "561-590",
    "progress": "591-610",
    "tv19": "611-640",
    "tv20": "641-660",
    "tv21": "661-680",
}
SHOT = re.compile(r"shot\d+_[1-9]\d*")
TOPIC = re.compile(r"[0-9]{1,6}")
#: shots of a film and of a collection; the longest film of the collections has some thousand, the largest 1.4 million
MOST_OF_FILM, MOST = 99_999, 2_000_000
_FILM = re.compile(r"(\d+)\D*")
#: shot, film, start and end in seconds, first and last frame
Shot = tuple[str, str, float | None, float | None, float | None, float | None]
SHOTS = {**SCHEMAS["sources"], "first": F, "last": F}
#: instead of a list of shots
DETECT = "detect"
_PREFIX = re.compile(r"find shots of\s+", re.IGNORECASE)


def read(
    *,
    raw: Path,
    shots: str = "msb",
    media: str | None = None,
    partial: bool = False,
    editions: Mapping[str, str] | None = None,
) -> dict[str, pl.DataFrame]:
    """The tables of one collection.

    Args:
        shots: the folder of the master shot reference, a list of shots, the table of valid shots, or ``detect``.
        media: folder of the films or shots.
        partial: takes editions whose topics are not all there.
        editions: further editions, or other topics of a known one: ``{tv22: 701-730, progress_10: "591, 594-602"}``
            gives the protocols ``captions_tv22`` and ``captions_progress_10``; a topic may be in several.
    """
    raw = Path(raw)
    found = _files.media_files(raw, media)
    listed = _detected(raw, found) if shots == DETECT else _shots(raw, shots)
    lost = {shot for path in sorted(raw.glob("*.dropped.shots.list")) for shot in _shots_of(path)}
    topics = _files.find_all(raw, ("*.avs.txt", "*topics*.txt"), "topics are")
    queries = _topics(topics)
    kept = _timed(listed.filter(~pl.col("video_id").is_in(list(lost))), found)
    if kept.is_empty():
        raise ValueError(f"{raw / shots}: no shot left")
    qrels = sorted(raw.glob("avs.qrels.*"))
    strata = _judgements(qrels, queries)
    rows = [(number, None, "query", "en", None, None, words) for number, words in queries.items()]
    gone = [(shot, "", "on the list of dropped shots") for shot in sorted(lost.intersection(listed["video_id"]))]
    tables = {
        "videos": _videos(kept, found),
        "texts": frame("texts", rows),
        "splits": _splits(topics, queries, kept["video_id"], partial, {**EDITIONS, **(editions or {})}),
        "relevance": strata.filter(pl.col("judgement") >= 0).select(
            "query_id", "reference_id", pl.col("judgement").cast(pl.Float64).alias("grade")
        ),
        "rejected": frame("rejected", gone),
        "sources": kept.select(*SCHEMAS["sources"]),
    }
    if qrels:
        tables["strata"] = strata
    return tables


def _timed(shots: pl.DataFrame, files: Mapping[str, str]) -> pl.DataFrame:
    """Shots with the times of those of which the reference has frames alone, by the frame rate of their films."""
    films = shots.filter(pl.col("start").is_null() & pl.col("first").is_not_null())["source"].unique().sort()
    rates: dict[str, float] = {}
    for film in filter(files.__contains__, films):
        with contextlib.suppress(Unreadable):  # `prepare` says why
            rate = frame_rate(Path(files[film]))
            if rate is None:
                raise ValueError(f"{files[film]}: no frame rate in its header, by which frames of shots become times")
            rates[film] = float(rate)
    rate = pl.col("source").replace_strict(rates, default=None, return_dtype=F)
    times = {"start": pl.col("first") / rate, "end": (pl.col("last") + 1) / rate}
    return shots.with_columns(pl.coalesce(name, time).alias(name) for name, time in times.items())


def _videos(shots: pl.DataFrame, files: Mapping[str, str]) -> pl.DataFrame:
    """Shots with their files, or as parts of their films."""
    own, film = (pl.col(c).replace_strict(files, default=None, return_dtype=S) for c in ("video_id", "source"))
    # shots of a film that cannot be read have no times; with its path they are rejected
    film = pl.when(pl.col("first").is_not_null()).then(film)
    is_part = own.is_null() & film.is_not_null()
    times = (pl.when(is_part).then(name).alias(name) for name in ("start", "end"))
    return videos(shots.select("video_id", pl.coalesce(own, film).alias("path"), *times))


def _detected(raw: Path, films: Mapping[str, str]) -> pl.DataFrame:
    """The shots of all films, as :func:`_shots` has those of the reference."""
    rows: list[Shot] = []
    for film, path in track(films.items(), total=len(films), label="shots"):
        try:
            spans: list[tuple[float | None, float | None]] = [*detect(Path(path))]
        except Unreadable:
            spans = [(None, None)]  # `prepare` says why
        rows += [(f"shot{film}_{n}", film, start, end, 0.0, 0.0) for n, (start, end) in enumerate(spans, start=1)]
    if not rows:
        raise ValueError(f"{raw}: no film whose shots could be detected")
    return pl.DataFrame(rows, SHOTS, orient="row")


def _shots(raw: Path, name: str) -> pl.DataFrame:
    """video_id, source (the film), start and end in seconds, first and last frame, in the order of films and shots."""
    path = raw / Path(name).expanduser()
    if path.is_dir():
        rows = [row for file in sorted(path.iterdir()) if file.suffix in (".tsv", ".msb") for row in _film(file)]
        if not rows:
            raise ValueError(f"{path}: no master shot reference; looked for *.tsv and *.msb")
    elif path.is_file():
        rows = _listed(path)
    else:
        raise ValueError(f"{raw}: no list of shots; looked for the folder or file {path}")
    shots = pl.DataFrame(rows, SHOTS, orient="row")
    twice = shots.filter(pl.col("video_id").is_duplicated())
    if len(twice):
        raise ValueError(f"{path}: shot {twice['video_id'][0][:60]!r} stands twice")
    return shots


def _film(path: Path) -> list[Shot]:
    """The shots of one film."""
    film = _FILM.fullmatch(path.stem)
    if film is None:
        raise ValueError(f"{path}: its name, {path.stem!r}, is no film's number")
    tabbed = path.suffix == ".tsv"
    wanted = 4 if tabbed else 2
    rows: list[list[float]] = []
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
        rows.append(values)
    if not rows:
        raise ValueError(f"{path}: no shot in it")
    shots = [f"shot{film[1]}_{number}" for number in range(1, len(rows) + 1)]
    if not tabbed:
        return [(shot, film[1], None, None, first, last) for shot, (first, last) in zip(shots, rows, strict=True)]
    found: list[Shot] = []
    for shot, (first, start, last, end), (following, at, *_) in zip(shots, rows, [*rows[1:], [-1.0, 0.0]], strict=True):
        # the end is when the last frame begins: it lasts up to the next shot, or as long as a frame of this one
        ends = at if following == last + 1 else end + (end - start) / max(1.0, last - first)
        found.append((shot, film[1], start, ends, first, last))
    return found


def _listed(path: Path) -> list[Shot]:
    """The shots of a list, or of a table of films and their last shots."""
    words = text_of(path).split()
    if not words:
        raise ValueError(f"{path}: no shot in it")
    if words[0].startswith("shot"):
        return [(shot, shot[4:].partition("_")[0], None, None, None, None) for shot in _shots_of(path)]
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
        (f"shot{film.zfill(5)}_{n}", film.zfill(5), None, None, None, None)
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


def _splits(
    paths: Sequence[Path], asked: Mapping[str, str], shots: pl.Series, partial: bool, editions: Mapping[str, str]
) -> pl.DataFrame:
    files = ", ".join(map(str, paths))
    named: dict[str, list[str]] = {}
    for name, given in editions.items():
        wanted = _numbers(name, given)
        there = [t for t in asked if int(t) in wanted]
        if 0 < len(there) < len(wanted) and not partial:
            missing = next(n for n in wanted if str(n) not in asked)
            raise ValueError(
                f"{files}: edition {name!r}: {len(there)} of the topics {wanted[0]} to {wanted[-1]}, {missing} is "
                f"missing (`partial: true` takes what is there)"
            )
        if there:
            named[f"captions_{name}"] = there
    left = [t for t in asked if not any(t in ids for ids in named.values())]
    if left:
        known = ", ".join(f"{name} {given}" for name, given in editions.items())
        raise ValueError(f"{files}: topic {left[0]} belongs to no edition, expected one of {known}")
    rows = [("shots", "reference", shots)]
    for name, ids in named.items():
        rows += [(name, "query", pl.Series("id", ids)), (name, "reference", shots)]
    return pl.concat(pl.DataFrame({"split": split, "role": role, "id": listed}) for split, role, listed in rows)


def _numbers(edition: str, given: object) -> list[int]:
    """The topics of an edition, as ``591, 594-602``."""
    found: list[int] = []
    for part in str(given).split(","):
        first, _, last = part.strip().partition("-")
        if not TOPIC.fullmatch(first) or not TOPIC.fullmatch(last or first) or int(last or first) < int(first):
            raise ValueError(f"editions: {edition}: {part.strip()[:60]!r}, expected topics as 591 or 591-610")
        found += range(int(first), int(last or first) + 1)
    return sorted(set(found))


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
