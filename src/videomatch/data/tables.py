"""The tables that stages exchange: parquet files with fixed schemas, checked where they are written.

Seconds are floats, ids are strings (AIAC ids have up to 19 digits: never a number), ranks count from 1. A table is a
file of a result folder, ``<name>.parquet``.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from videomatch.common.files import text_of

S, F, I, B = pl.String, pl.Float64, pl.Int64, pl.Boolean  # noqa: E741

#: seconds that no film and no clock has
LONGEST = 1e9
_PAIR = {"query_id": S, "reference_id": S}
#: column -> dtype of every table
SCHEMAS: dict[str, dict[str, Any]] = {
    # of a video that is a part of the file at `path`, `start` and `end` there, in seconds; parts of a file are apart
    "videos": {
        "video_id": S,
        "path": S,
        "start": F,
        "end": F,
        "duration": F,
        "fps": F,
        "width": I,
        "height": I,
        "has_audio": B,
        "sha256": S,
        "category": S,
        "tags": pl.List(S),
        "shard": I,
    },
    "rejected": {"video_id": S, "path": S, "reason": S},
    # the confidence in [0, 1] is that of the machine that read a text in the video
    "texts": {
        "text_id": S,
        "video_id": S,
        "kind": S,
        "language": S,
        "start": F,
        "end": F,
        "text": S,
        "confidence": F,
    },
    "splits": {"split": S, "role": S, "id": S},
    "relevance": {**_PAIR, "grade": F},
    "segments": {**_PAIR, "query_start": F, "query_end": F, "reference_start": F, "reference_end": F, "score": F},
    "rankings": {**_PAIR, "score": F, "grade": F, "better": I, "equal": I},
    # what was done to the footage of a true segment; segments without an edit are absent
    "edits": {**_PAIR, "query_start": F, "edit": S, "kind": S},
    # which part of which film or upload a video was cut from, in seconds
    "sources": {"video_id": S, "source": S, "start": F, "end": F},
    # a pool that was judged in part: 1 relevant, 0 not, -1 pooled and not judged (TRECVID's sampled judgements)
    "strata": {**_PAIR, "stratum": S, "judgement": I},
    # what is true of a video from `start` to `end` in seconds (null: all of it), and what a text names of a video
    "facts": {"id": S, "factor": S, "value": S, "start": F, "end": F},
    # how well a text fits its video: the cosine of its best frames; less the mean of texts as long, in deviations
    "scores": {"text_id": S, "video_id": S, "cosine": F, "score": F},
    # what metrics are computed from (metrics/bootstrap.py): numbers of the videos, or queries, that a value is of
    "statistics": {"statistic": S, "first": I, "second": I, "value": F, "other": F},
}

#: tables that most corpora have none of: they are written where a reader gives them
OPTIONAL = ("edits", "sources", "strata", "facts", "scores")

#: columns that may be null; everywhere else a null is an error
NULLABLE: dict[str, set[str]] = {
    # tags are null where they are not known, and empty where there are none (of those that a data set lists)
    "videos": {"duration", "fps", "width", "height", "has_audio", "category", "path", "sha256", "start", "end", "tags"},
    "texts": {"video_id", "language", "start", "end", "confidence"},
    "rankings": {"grade", "better", "equal"},
    "segments": {"score"},
    "sources": {"start", "end"},
    "facts": {"start", "end"},
    "statistics": {"second", "other"},
}

#: the only values a column may take
VALUES: dict[tuple[str, str], set[Any]] = {
    ("texts", "kind"): {"title", "asr", "ocr", "caption", "query"},
    ("splits", "role"): {"query", "reference"},
    ("strata", "judgement"): {-1, 0, 1},
}

#: columns (together) that identify a row
KEYS: dict[str, list[str]] = {
    "videos": ["video_id"],
    "texts": ["text_id"],
    "splits": ["split", "role", "id"],
    "rankings": ["query_id", "reference_id"],
    "sources": ["video_id"],
    "scores": ["text_id"],
    "strata": ["query_id", "reference_id"],
    "facts": ["id", "factor", "value", "start"],
}


def frame(table: str, rows: Iterable[Sequence[Any]] = ()) -> pl.DataFrame:
    """Rows, each with the columns of a table in their order, as a frame; only ids are checked. Columns at the end of
    rows that may be null may be left out."""
    rows = list(rows)
    if rows and (absent := list(SCHEMAS[table])[len(rows[0]) :]) and NULLABLE.get(table, set()).issuperset(absent):
        rows = [(*row, *[None] * len(absent)) for row in rows]
    for number, column in enumerate(SCHEMAS[table]):
        _check_ids(table, column, (row[number] for row in rows))
    return pl.DataFrame(rows, schema=SCHEMAS[table], orient="row")


def videos(rows: pl.DataFrame | Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """The table of videos before ``prepare`` has probed them: absent columns are null, the shard is 0."""
    schema = SCHEMAS["videos"]
    if not isinstance(rows, pl.DataFrame):
        rows = list(rows)
        _check_ids("videos", "video_id", (row.get("video_id") for row in rows))
        return pl.DataFrame([{"shard": 0, **row} for row in rows], schema=schema)
    absent = {**dict.fromkeys(schema), "shard": 0}
    columns = {c: pl.col(c) if c in rows.columns else pl.lit(absent[c], dtype=t) for c, t in schema.items()}
    # an id of another type is left to `check`, which refuses it
    return rows.select((v if c == "video_id" else v.cast(schema[c])).alias(c) for c, v in columns.items())


def _check_ids(table: str, column: str, values: Iterable[Any]) -> None:
    """Refuse an id that is no string: a number that became an id is already damaged (floats lose digits)."""
    odd = [v for v in values if v is not None and not isinstance(v, str)] if column.endswith("id") else []
    if odd:
        raise ValueError(f"table {table!r}: {column} {odd[0]!r} is {type(odd[0]).__name__}, expected a string")


def read_csv(
    path: Path, columns: Sequence[str], *, numbers: Sequence[str] = (), optional: Sequence[str] = ()
) -> pl.DataFrame:
    """A published file of comma-separated values, as strings without outer blanks. It must have ``columns``, without
    empty cells, and the finite ``numbers``; ``optional`` are numbers that may be absent or empty."""
    rows = _separated(path).with_columns(pl.all().fill_null("").str.strip_chars())
    absent = [c for c in (*columns, *numbers) if c not in rows.columns]
    if absent:
        raise ValueError(f"{path}: no column {absent[0]!r} among {str(rows.columns)[:200]}")
    for column in columns:
        if (empty := rows[column] == "").any():
            raise ValueError(f"{path}, line {int(empty.arg_max() or 0) + 2}: {column} is empty")
    optional = [c for c in optional if c in rows.columns]
    for column in (*numbers, *optional):
        values = rows[column].cast(pl.Float64, strict=False)
        odd = ~values.is_finite().fill_null(False)
        if column in optional:
            odd &= rows[column] != ""
        if odd.any():
            line = int(odd.arg_max() or 0)
            raise ValueError(
                f"{path}, line {line + 2}: {column} is {rows[column][line][:60]!r}, expected a finite number"
            )
        rows = rows.with_columns(values)
    return rows


def read_cells(path: Path, columns: Sequence[str], separator: str) -> pl.DataFrame:
    """A published file of lines with as many cells as there are ``columns``, as strings; quotes mean nothing."""
    rows = _separated(path, separator=separator, has_header=False, quote_char=None)
    short = rows.select(pl.any_horizontal(pl.all().is_null())).to_series()
    if rows.width != len(columns) or short.any():
        raise ValueError(
            f"{path}, line {(short.arg_max() or 0) + 1}: expected {len(columns)} cells, {', '.join(columns)}"
        )
    return rows.rename(dict(zip(rows.columns, columns, strict=True)))


def _separated(path: Path, **options: Any) -> pl.DataFrame:
    """A file of separated values, as strings."""
    try:
        # as text, it is neither a pattern of names nor an archive, both of which polars would open
        return pl.read_csv(text_of(path).encode(), infer_schema=False, **options)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(f"{path}: cannot be read as separated values ({str(error)[:300]})") from error


def write(table: str, rows: pl.DataFrame, folder: Path) -> None:
    """Write the checked ``rows`` to ``folder/<table>.parquet``."""
    checked = check(table, rows)
    folder.mkdir(parents=True, exist_ok=True)
    checked.write_parquet(folder / f"{table}.parquet", compression="zstd")


def check(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    """``rows`` with the columns and types of ``table``, in order; a ValueError says what is wrong with them."""
    frame = _fitting(table, rows)
    if table in KEYS:
        twice = frame.filter(frame.select(KEYS[table]).is_duplicated())
        if len(twice):
            raise ValueError(f"table {table!r}: {KEYS[table]} = {twice.select(KEYS[table]).row(0)} stands twice")
    return frame


def _fitting(table: str, rows: pl.DataFrame) -> pl.DataFrame:
    schema = SCHEMAS[table]
    missing = [c for c in schema if c not in rows.columns]
    unknown = [c for c in rows.columns if c not in schema]
    if missing or unknown:
        raise ValueError(
            f"table {table!r}: missing columns {missing}, unknown columns {unknown}, expected {list(schema)}"
        )
    for column, dtype in schema.items():
        where, values = f"table {table!r}: column {column!r}", rows[column]
        if dtype == S and values.dtype not in (S, pl.Null, pl.Categorical):
            raise ValueError(f"{where} holds {values.dtype}, as {values.drop_nulls().first()!r}, expected strings")
        if values.null_count() and column not in NULLABLE.get(table, ()):
            raise ValueError(f"{where} has {values.null_count()} empty values")
        allowed = VALUES.get((table, column))
        if allowed and (odd := set(values.unique()) - allowed):
            raise ValueError(f"{where} holds {sorted(odd)[0]!r}, expected one of {sorted(allowed)}")
    return rows.select(*schema).cast(pl.Schema(schema))


def read(table: str, *folders: Path) -> pl.DataFrame:
    """The table from one folder, or from several one below the other. An absent table reads as an empty one."""
    frames = [read_file(table, p) for f in folders if (p := Path(f) / f"{table}.parquet").exists()]
    return pl.concat(frames) if frames else pl.DataFrame(schema=SCHEMAS[table])


def read_file(table: str, path: Path) -> pl.DataFrame:
    """The rows of a table's file, which has the columns and types of the table."""
    rows = read_parquet(path)
    try:
        return _fitting(table, rows)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def read_parquet(path: Path) -> pl.DataFrame:
    """A parquet file."""
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise ValueError(f"{path}: cannot be read as parquet ({error})") from error


def ranked(rankings: pl.DataFrame, most: int, references: int) -> pl.DataFrame:
    """The ``most`` best of the ``references`` that each query was ranked against, none of which may be missing in the
    ``rankings`` of ``search``: query_id, rank (from 1), reference_id, score, ordered by query and rank. Ties are broken
    by id, the later one first, as TRECVID does; of those at the last place the ones that the search kept are taken."""
    wanted = min(most, references)
    # a judged pair may be anywhere in the ranking; what counts is that no one of the best is missing
    best = rankings.filter(pl.col("better") < most)
    short = best.group_by("query_id").len().filter(pl.col("len") < wanted)
    lost = rankings["query_id"].n_unique() - best["query_id"].n_unique()
    if len(short) or lost:
        first = short["query_id"][0] if len(short) else "?"
        raise ValueError(
            f"{len(short) + lost} queries have fewer than {wanted} ranked references, first {first!r}: "
            f"the search kept too few (`top`)"
        )
    return (
        best.sort("query_id", "score", "reference_id", descending=[False, True, True])
        .with_columns(pl.int_range(1, pl.len() + 1).over("query_id").alias("rank"))
        .filter(pl.col("rank") <= wanted)
        .select("query_id", "rank", "reference_id", "score")
    )
