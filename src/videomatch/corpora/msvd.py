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
from collections.abc import Iterator, Sequence
from pathlib import Path

from videomatch.corpora import _captions as captions
from videomatch.corpora._captions import Collected

SIZES = {"train": 1200, "val": 100, "test": 670}
CAPTIONS = ("captions_msvd.json",)
_TIMED = re.compile(r"(.+)_(\d+)_(\d+)")


@captions.reader
def read(
    out: Collected,
    *,
    annotations: str | Sequence[str] | None = None,
    train: str = "train_list.txt",
    val: str = "val_list.txt",
    test: str = "test_list.txt",
) -> None:
    """The tables of MSVD.

    Args:
        annotations: files with the captions, ``.json`` or ``.caption.txt``.
        train: list of the training videos.
        val: list of the validation videos.
        test: list of the test videos.
    """
    files = [annotations] if isinstance(annotations, str) else annotations
    if files is None:
        texts = [f"msvd{split}.caption.txt" for split in SIZES]
        files = texts if not (out.raw / CAPTIONS[0]).is_file() and (out.raw / texts[0]).is_file() else CAPTIONS
    captioned: dict[str, list[str]] = {}
    for name in files:
        path = captions.find(out.raw, name, "the captions")
        if path.suffix == ".json":
            for video_id, sentences in captions.read_json(path, dict, "{video id: [sentence]}").items():
                captioned.setdefault(video_id, []).extend(captions.strings(path, video_id, sentences))
        else:
            for video_id, sentence in caption_lines(path):
                captioned.setdefault(video_id, []).append(sentence)
    listed = {
        s: captions.find(out.raw, file, f"the list of {s} videos")
        for s, file in zip(SIZES, (train, val, test), strict=True)
    }
    for split, path in listed.items():
        ids = captions.id_list(path)
        out.expect(path, len(ids), SIZES[split], "videos")
        ids = out.known(path, ids, captioned, " and ".join(files))
        out.apart(path, ids, split)
        queries = []
        for video_id in ids:
            out.clip(video_id, _TIMED)
            for n, sentence in enumerate(captioned[video_id]):
                queries += out.text(f"{video_id}:{n}", video_id, sentence)
        out.split(split, ids, queries)


def caption_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Video id and sentence of a ``*.caption.txt`` file: lines ``video#k sentence``.

    The id ends at the first ``#`` (``video#enc#k`` exists), and a trailing ``.mp4`` or ``.jpg`` is not part of it.

    Raises:
        ValueError: a line has no ``#`` in its first word, or no sentence.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        word, _, sentence = line.strip().partition(" ")
        if "#" not in word or not sentence.strip():
            raise ValueError(f"{path}, line {number}: {line[:60]!r}, expected `video#number sentence`")
        yield word.partition("#")[0].removesuffix(".mp4").removesuffix(".jpg"), sentence.strip()
