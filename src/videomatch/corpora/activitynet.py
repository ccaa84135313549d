"""ActivityNet Captions (Krishna et al., ICCV 2017), as paragraph retrieval: all sentences of a video are one query.

Files, below ``raw``; ``train.json`` or one of the others may be absent::

    train.json val_1.json val_2.json   {"v_ID": {"duration": s, "timestamps": [[start, end]], "sentences": [str]}}
    videos/                            the videos, <ID>.<ending> or v_<ID>.<ending>

10,009 / 4,917 / 4,885 videos; those of ``val_2`` are among those of ``val_1``, described by other people. The official
lists of ids are longer (10,024 and 4,926) and not needed: the rest has no captions. The usual test ("val1") is
``captions_val1``; there is no other held-out set, so choose on a part of the training videos.

Texts of ``val_2`` are of kind ``query``, so that a video has one paragraph of kind ``caption``.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field

from videomatch.corpora import _files
from videomatch.corpora._captions import Collected, Tables, paragraph

FILES = {"train": "train.json", "val1": "val_1.json", "val2": "val_2.json"}
SIZES = {"train": 10009, "val1": 4917, "val2": 4885}


class _Entry(BaseModel):
    duration: _files.Seconds
    sentences: Annotated[list[str], Field(min_length=1)]


def read(*, raw: Path, media: str | None = None, partial: bool = False) -> Tables:
    """The tables of ActivityNet Captions."""
    out = Collected(raw, partial)
    for split, path in out.present(FILES).items():
        content = _files.read_json(path, dict[str, _Entry], '{"v_ID": {"duration", "sentences"}}')
        out.expect(path, len(content), SIZES[split], "videos")
        queries = []
        for video_id, entry in content.items():
            name, kind = video_id.removeprefix("v_"), "query" if split == "val2" else "caption"
            out.video(video_id, source=(f"youtube:{name}", 0.0, entry.duration), file=name)
            queries += out.text(f"{video_id}:{split}", video_id, paragraph(entry.sentences), kind=kind)
        out.split(split, content, queries)
    return out.tables(media)
