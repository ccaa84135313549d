"""ActivityNet Captions (Krishna et al., ICCV 2017), as paragraph retrieval: all sentences of a video are one query.

Files, below ``raw``; ``train.json`` or one of the others may be absent::

    train.json val_1.json val_2.json   {"v_ID": {"duration": s, "timestamps": [[start, end]], "sentences": [str]}}
    videos/                            the videos, <ID>.<ending> or v_<ID>.<ending>

10,009 / 4,917 / 4,885 videos; those of ``val_2`` are among those of ``val_1``, described by other people. The official
lists of ids are longer (10,024 and 4,926) and not needed: the rest has no captions. The usual test ("val1") is
``captions_val1``; there is no other held-out set, so choose on a part of the training videos.

Texts of ``val_2`` are of kind ``query``, so that a video has one paragraph of kind ``caption``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from videomatch.corpora import _files
from videomatch.corpora._captions import Collected, Tables, paragraph

FILES = {"train": "train.json", "val1": "val_1.json", "val2": "val_2.json"}
SIZES = {"train": 10009, "val1": 4917, "val2": 4885}
#: a sentence may end this much (seconds) after its video: 36 do by about 0.01
SLACK = 0.5


def read(
    *, raw: Path, unit: Literal["paragraph", "sentence"] = "paragraph", media: str | None = None, partial: bool = False
) -> Tables:
    """The tables of ActivityNet Captions. ``unit: sentence`` makes each sentence a text with its times (no published
    protocol)."""
    out = Collected(raw, partial)
    for split, path in out.present(FILES).items():
        content = _files.read_json(path, dict, '{"v_ID": {"duration", "timestamps", "sentences"}}')
        out.expect(path, len(content), SIZES[split], "videos")
        queries = []
        for video_id, entry in content.items():
            duration = _files.seconds(
                path, f"{video_id}: duration", _files.field(path, video_id, entry, "duration", (int, float))
            )
            name = video_id.removeprefix("v_")
            out.video(video_id, source=(f"youtube:{name}", 0.0, duration), file=name)
            kind = "query" if split == "val2" else "caption"
            for text_id, words, start, end in _texts(path, split, video_id, entry, duration, unit):
                queries += out.text(text_id, video_id, words, kind=kind, start=start, end=end)
        out.split(split, content, queries)
    return out.tables(media)


def _texts(
    path: Path, split: str, video_id: str, entry: dict[str, Any], duration: float, unit: str
) -> list[tuple[str, str, float | None, float | None]]:
    """Id, words, start and end of a video's texts."""
    sentences = _files.strings(path, video_id, _files.field(path, video_id, entry, "sentences", list))
    times = _files.field(path, video_id, entry, "timestamps", list)
    if len(times) != len(sentences) or not sentences:
        raise ValueError(
            f"{path}, {video_id[:60]}: {len(sentences)} sentences and {len(times)} times, expected as many"
        )
    if unit == "paragraph":
        return [(f"{video_id}:{split}", paragraph(sentences), None, None)]
    rows = []
    for number, (sentence, pair) in enumerate(zip(sentences, times, strict=True)):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError(f"{path}, {video_id[:60]}: times {_files.shown(pair)}, expected [start, end] in seconds")
        start, end = sorted(_files.seconds(path, f"{video_id}: times", time) for time in pair)
        if end > duration + SLACK:
            raise ValueError(f"{path}, {video_id[:60]}: times {pair} in a video of {duration} s")
        rows.append((f"{video_id}:{split}:{number}", sentence, min(start, duration), min(end, duration)))
    return rows
