"""DiDeMo (Hendricks et al., ICCV 2017), as paragraph retrieval: all descriptions of a video are one query.

Files, below ``raw``; those that are there are read::

    train_data.json val_data.json test_data.json   [{"video": name, "description": str, …}], several a video

Retrieval papers' own files, ``[{"video": name, "caption": str or [str]}]``, are read as well. A copy of the test file
with one sentence a video goes round; it makes another, harder protocol, so it is refused unless ``partial`` is set.
"""

from pathlib import Path

from pydantic import AliasChoices, BaseModel, Field

from videomatch.corpora import _files
from videomatch.corpora._captions import Collected, Tables, paragraph

FILES = {"train": "train_data.json", "val": "val_data.json", "test": "test_data.json"}
#: fewer videos than this may all have one sentence by chance
FEW = 20


class _Entry(BaseModel):
    video: str
    words: list[str] | str = Field(validation_alias=AliasChoices("description", "caption"))


def read(*, raw: Path, media: str | None = None, partial: bool = False) -> Tables:
    """The tables of DiDeMo."""
    out = Collected(raw, partial)
    for split, path in out.present(FILES).items():
        described = _descriptions(path)
        out.apart(path, described, split)
        single = all(len(s) == 1 and s[0].count(".") < 2 for s in described.values())
        if single and len(described) > FEW and not out.partial:
            raise ValueError(
                f"{path}: one sentence for each of {len(described):,} videos, expected several, which make the "
                f"paragraph (`partial: true` takes them, and is no longer the published protocol)"
            )
        for video_id, sentences in described.items():
            out.video(video_id, source=(f"flickr:{video_id}", None, None))
            out.text(f"{video_id}:paragraph", video_id, paragraph(sentences))
        out.split(split, described)
    return out.tables(media)


def _descriptions(path: Path) -> dict[str, list[str]]:
    """Video id -> sentences, in the order of the file."""
    described: dict[str, list[str]] = {}
    for entry in _files.read_json(path, list[_Entry], '[{"video", "description"}] or [{"video", "caption"}]'):
        sentences = [entry.words] if isinstance(entry.words, str) else entry.words
        described.setdefault(_files.video_name(entry.video), []).extend(sentences)
    if not described:
        raise ValueError(f"{path}: no video in it")
    return described
