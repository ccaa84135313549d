"""The files and folders that are given to a library, and what becomes of them."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from videomatch.data.walk import NO_FILE, NOT_TEXT, is_text, passed_over, printable, videos_below


@dataclass
class Added:
    """What :meth:`VideoLibrary.add` did; ``known`` files are in the library already, or were given twice. ``notes`` say
    what was mended, moved, replaced or passed over."""

    videos: list[str] = field(default_factory=list)
    known: int = 0
    frames: int = 0
    rejected: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def reject(self, path: Path, reason: str) -> None:
        """Note a file that cannot be used."""
        self.rejected.append({"path": printable(str(path)), "reason": printable(reason)})


def check_given(paths: Iterable[Path]) -> None:
    """A ValueError names a file or folder that does not exist."""
    for path in paths:
        if not path.exists():
            raise ValueError(f"{printable(str(path))} does not exist: expected a video or a folder of videos")


def videos_given(paths: Sequence[Path], added: Added, texts: Collection[str]) -> Iterator[tuple[Path, Path]]:
    """Every video, with its absolute path, and the folder that its id is relative to. Files beside it are passed over,
    but for those with the endings ``texts``."""
    for given in (Path(os.path.abspath(path)) for path in paths):  # noqa: PTH100 (a link keeps its own name)
        if not is_text(str(given)):
            added.reject(given, NOT_TEXT)
        elif given.is_dir():
            videos, others = videos_below(given, added.reject)
            if others := [path for path in others if path.suffix.lower() not in texts]:
                added.notes.append(f"{printable(str(given))}: {passed_over(others)}")
            yield from ((path, given) for path in videos)
        elif given.is_file():
            yield given, given.parent
        else:
            added.reject(given, NO_FILE)


def new_id(path: Path, below: Path, taken: set[str]) -> str:
    """The id of a file: its path below a folder, with as many of that folder's own names as make it unique."""
    parts = [printable(part) for part in path.parts]
    for length in range(len(path.relative_to(below).parts), len(parts)):
        video_id = "/".join(parts[-length:])
        if video_id not in taken:
            return video_id
    numbered = (f"{'/'.join(parts)} ({number})" for number in range(2, len(taken) + 3))
    return next(video_id for video_id in numbered if video_id not in taken)
