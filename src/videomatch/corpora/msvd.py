"""MSVD (Chen and Dolan, ACL 2011): 1,970 short clips with about 41 captions each, cut 1,200 / 100 / 670.

Files, below ``raw``::

    captions_msvd.json                   {video id: [sentence]}, or msvd{train,val,test}.caption.txt: `id#k sentence`
    train_list.txt val_list.txt test_list.txt   one id a line

Ids are ``<YouTube id>_<start>_<end>`` in seconds; some begin with ``-``. Published copies differ in a few captions:
48,774 / 4,290 / 27,763 in the JSON, 48,779 / 4,291 / 27,767 in the text files.
"""

from collections.abc import Iterator
from pathlib import Path

from videomatch.corpora import _files
from videomatch.corpora._captions import Collected, Tables

SIZES = {"train": 1200, "val": 100, "test": 670}
CAPTIONS = ("captions_msvd.json", *(f"msvd{split}.caption.txt" for split in SIZES))


def read(*, raw: Path, media: str | None = None, partial: bool = False) -> Tables:
    """The tables of MSVD."""
    out = Collected(raw, partial)
    files = _files.find_all(out.raw, CAPTIONS, "the captions are")
    files = files[:1] if files[0].name == CAPTIONS[0] else files
    captioned: dict[str, list[str]] = {}
    for path in files:
        if path.suffix == ".json":
            for video_id, sentences in _files.read_json(path, dict[str, list[str]], "{video id: [sentence]}").items():
                captioned.setdefault(video_id, []).extend(sentences)
        else:
            for video_id, sentence in caption_lines(path):
                captioned.setdefault(video_id, []).append(sentence)
    for split, wanted in SIZES.items():
        path = out.raw / f"{split}_list.txt"
        ids = out.listed(path, wanted, captioned, " and ".join(path.name for path in files))
        out.apart(path, ids, split)
        for video_id in ids:
            out.clip(video_id)
            for n, sentence in enumerate(captioned[video_id]):
                out.text(f"{video_id}:{n}", video_id, sentence)
        out.split(split, ids)
    return out.tables(media)


def caption_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Video id and sentence of a ``*.caption.txt`` file: lines ``video#k sentence``. The id ends at the first ``#``
    (``video#enc#k`` exists), and a trailing ``.mp4`` or ``.jpg`` is not part of it."""
    for number, line in _files.lines(path):
        word, _, sentence = line.strip().partition(" ")
        if "#" not in word or not sentence.strip():
            raise ValueError(f"{path}, line {number}: {line[:60]!r}, expected `video#number sentence`")
        yield word.partition("#")[0].removesuffix(".mp4").removesuffix(".jpg"), sentence.strip()
