"""The files of a data set: found by name, read, and refused with their name where they are not what is expected."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from videomatch.common.files import parse_json, text_of
from videomatch.data.tables import LONGEST
from videomatch.data.walk import EXTENSIONS, passed_over, printable, videos_below

log = logging.getLogger(__name__)

#: folder of the video files below ``raw`` where no other is named
MEDIA = "videos"


def media_files(raw: Path, media: str | None) -> dict[str, str]:
    """File name without its ending -> path, of all video files below a folder, which must be there if it is named."""
    folder = raw / Path(media or MEDIA).expanduser()
    if not folder.is_dir():
        if media is not None:
            raise ValueError(f"media {media!r}: there is no folder {folder}")
        return {}
    found: dict[str, str] = {}
    videos, others = videos_below(folder, lambda path, reason: log.warning("%s: %s", printable(str(path)), reason))
    for path in sorted(videos, key=lambda path: (path.suffix.lower() == ".gif", path)):  # previews come last
        found.setdefault(path.stem, str(path))
    if others:
        log.warning("%s: %s", folder, passed_over(others))
    return found


def find_all(raw: Path, patterns: Sequence[str], what: str) -> list[Path]:
    """The files of a folder that match some patterns, at least one."""
    found = dict.fromkeys(path for pattern in patterns for path in sorted(raw.glob(pattern)) if path.is_file())
    if not found:
        raise missing(raw, what, patterns)
    return list(found)


def missing(raw: Path, what: str, names: Iterable[str]) -> ValueError:
    """The error where no file has any of the names."""
    return ValueError(f"{raw}: {what} missing; looked for {', '.join(names)}")


#: a time or duration in a JSON file
Seconds = Annotated[float, Field(ge=0, lt=LONGEST)]


def read_json(path: Path, kind: Any, expected: str) -> Any:
    """The content of a JSON file, which must be of a type."""
    return typed(parse_json(text_of(path), str(path)), kind, str(path), expected)


def typed(value: Any, kind: Any, where: str, expected: str) -> Any:
    """A JSON value as a type; keys that a model does not have are passed over. The error says what is wrong, and where
    in it."""
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ", ".join([where, *(str(part)[:60] for part in first["loc"])])
        raise ValueError(f"{place}: {shown(first['input'])}: {first['msg']}; expected {expected}") from error


def shown(value: Any) -> str:
    """The type of a value, and how it begins."""
    return f"{type(value).__name__} {str(value)[:60]!r}"


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line of a file that is not blank."""
    return ((number, line) for number, line in enumerate(text_of(path).split("\n"), start=1) if line.strip())


def id_list(path: Path) -> list[str]:
    """Different ids, one per line, perhaps below a heading ``video_id``."""
    ids: dict[str, int] = {}
    for number, line in lines(path):
        word = line.strip()
        if number == 1 and word == "video_id":
            continue
        if "," in word or len(word.split()) > 1 or word[0] in "{[":
            raise ValueError(f"{path}, line {number}: {line[:60]!r}, expected one id a line")
        if word in ids:
            raise ValueError(f"{path}, line {number}: {word[:60]!r} stands on line {ids[word]} already")
        ids[word] = number
    if not ids:
        raise ValueError(f"{path}: no id in it")
    return list(ids)


def video_name(path: str) -> str:
    """The id of a video by its name, which may have a folder and an ending."""
    pure = PurePosixPath(path)
    return pure.stem if pure.suffix.lower() in EXTENSIONS else pure.name
