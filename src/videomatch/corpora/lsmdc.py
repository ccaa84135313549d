"""LSMDC (Rohrbach et al., IJCV 2017): clips of films with one sentence each. Licence-gated: nothing of it is shipped.

Files, below ``raw``, tables without a heading, six columns between tabs, quotes meaning nothing::

    LSMDC16_annos_training.csv              clip, start_aligned, end_aligned, start_extracted, end_extracted, sentence
    LSMDC16_annos_val.csv
    LSMDC16_challenge_1000_publictect.csv   the 1,000 clips of the retrieval test

A clip is ``<film>_<hh.mm.ss.mmm>-<hh.mm.ss.mmm>``; in the training file (101,079 rows) some stand more than once, each
time with a sentence of its own, and five have none: these are left out.
"""

import re
from pathlib import Path

from videomatch.corpora._captions import Collected, Source, Tables, cut
from videomatch.corpora._files import lines

FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
COLUMNS = 6
#: rows of each file, where publications agree on them
ROWS = {"train": 101_079, "val": None, "test": 1000}
_TIME = r"([0-9]{1,4})\.([0-9]{1,2})\.([0-9]{1,2})\.([0-9]{1,3})"
_CLIP = re.compile(f"(.+)_{_TIME}-{_TIME}")


def read(*, raw: Path, media: str | None = None, partial: bool = False) -> Tables:
    """The tables of LSMDC."""
    out = Collected(raw, partial)
    for split, path in out.present(FILES).items():
        rows = _rows(path)
        out.expect(path, len(rows), ROWS[split], "rows")
        clips: dict[str, int] = {}
        queries = []
        for clip, sentence in rows:
            if sentence.strip():
                out.video(clip, source=_film(clip))
                clips[clip] = clips.get(clip, 0) + 1
            queries += out.text(f"{clip}:{split}:{clips.get(clip, 0) - 1}", clip, sentence)
        if split == "test" and len(clips) < len(queries):
            raise ValueError(f"{path}: {len(clips)} clips and {len(queries)} sentences, expected one a clip")
        out.split(split, clips, queries)
    return out.tables(media)


def _rows(path: Path) -> list[tuple[str, str]]:
    """Clip and sentence of each line."""
    rows = []
    for number, line in lines(path):
        cells = line.rstrip("\r").split("\t")
        if len(cells) != COLUMNS:
            raise ValueError(
                f"{path}, line {number}: {len(cells)} cells, expected {COLUMNS} between tabs (clip, four times, "
                f"sentence)"
            )
        if not cells[0].strip():
            raise ValueError(f"{path}, line {number}: no clip in its first cell")
        rows.append((cells[0].strip(), cells[-1]))
    return rows


def _film(clip: str) -> Source:
    """Film, start and end (seconds) of a clip by its name."""
    match = _CLIP.fullmatch(clip)
    if match is None:
        return clip.rpartition("_")[0] or clip, None, None
    film, *parts = match.groups()
    h0, m0, s0, f0, h1, m1, s1, f1 = map(int, parts)
    return cut(film, 3600 * h0 + 60 * m0 + s0 + f0 / 1000, 3600 * h1 + 60 * m1 + s1 + f1 / 1000)
