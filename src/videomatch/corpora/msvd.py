"""MSVD (Chen and Dolan, ACL 2011): 1,970 short clips with about 41 captions each, cut 1,200 / 100 / 670.

Files, below ``raw``::

    captions_msvd.json                   {video id: [sentence]}, or msvd{train,val,test}.caption.txt: `id#k sentence`
    train_list.txt val_list.txt test_list.txt   one id a line
    videos/                              the clips, <video id>.<ending>

Ids are ``<YouTube id>_<start>_<end>`` in seconds (``sources`` holds the three apart); some begin with ``-``. Published
copies differ in a few captions: 48,774 / 4,290 / 27,763 in the JSON, 48,779 / 4,291 / 27,767 in the text files.

Protocols: ``captions_train``, ``captions_val``, ``captions_test`` (every caption of a video a query), and ``train``,
``val``, ``test``, the videos alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from videomatch.corpora import _captions as captions
from videomatch.corpora._captions import Collected
from videomatch.data import text

SIZES = {"train": 1200, "val": 100, "test": 670}
CAPTIONS = ("captions_msvd.json",)
_TIMED = re.compile(r"(.+)_(\d+)_(\d+)")


def read(
    *,
    raw: Path,
    annotations: str | Sequence[str] | None = None,
    train: str = "train_list.txt",
    val: str = "val_list.txt",
    test: str = "test_list.txt",
    media: str | None = None,
    partial: bool = False,
    cleaned: bool = False,
    emoji: text.Emoji = "name",
) -> dict[str, pl.DataFrame]:
    """The tables of MSVD.

    Args:
        raw: the folder described above.
        annotations: files with the captions, ``.json`` or ``.caption.txt``.
        train: list of the training videos.
        val: list of the validation videos.
        test: list of the test videos.
        media: folder of the clips, ``videos`` by default.
        partial: take lists that are not whole, or whose videos have no captions.
        cleaned: clean captions (:mod:`videomatch.data.text`).
        emoji: what cleaning does with emoji.

    Raises:
        ValueError: a file is missing, foreign or cut short: its name, what was found, what was expected.
    """
    raw = Path(raw)
    files = [annotations] if isinstance(annotations, str) else annotations
    if files is None:
        texts = [f"msvd{split}.caption.txt" for split in SIZES]
        files = texts if not (raw / CAPTIONS[0]).is_file() and (raw / texts[0]).is_file() else CAPTIONS
    said: dict[str, list[str]] = {}
    for name in files:
        path = captions.find(raw, name, "the captions")
        if path.suffix == ".json":
            for video_id, sentences in captions.read_json(path, dict, "{video id: [sentence]}").items():
                said.setdefault(video_id, []).extend(captions.strings(path, video_id, sentences))
        else:
            for video_id, sentence in captions.caption_lines(path):
                said.setdefault(video_id, []).append(sentence)
    listed = {
        s: captions.find(raw, file, f"the list of {s} videos")
        for s, file in zip(SIZES, (train, val, test), strict=True)
    }
    out = Collected()
    seen: dict[str, str] = {}
    for split, path in listed.items():
        ids = captions.id_list(path)
        captions.expect(path, len(ids), SIZES[split], "videos", partial)
        ids = captions.known(path, ids, said, " and ".join(files), partial)
        captions.apart(path, ids, split, seen)
        queries = []
        for video_id in ids:
            out.clip(video_id, _TIMED)
            queries += [out.text(f"{video_id}:{n}", video_id, sentence) for n, sentence in enumerate(said[video_id])]
        out.split(split, ids, [q for q in queries if q])
    return out.tables(raw, media, cleaned, emoji)
