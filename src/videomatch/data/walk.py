"""Which files of a folder are videos: one walk for libraries, the folder reader and the readers of data sets."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from videomatch.common.messages import count

#: endings of videos, in any case
EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".f4v", ".mkv", ".webm", ".avi", ".flv", ".wmv", ".asf", ".mpg", ".mpeg", ".vob"),
    *(".ts", ".mts", ".m2ts", ".m2t", ".m2v", ".mxf", ".3gp", ".3g2", ".ogv", ".ogm", ".rm", ".rmvb", ".divx", ".dv"),
    *(".qt", ".gif"),
)
#: why a file cannot be used whose name is no valid UTF-8
NOT_TEXT = "file name is not valid UTF-8, which tables cannot hold"
#: why a pipe, socket or device is not opened: reading it could wait without end
NO_FILE = "is a pipe, socket or device, expected a file"
#: of no width, yet parts of words (Persian, Indian scripts) and of emoji
JOINERS = "\u200c\u200d"


def files_below(folder: Path, reject: Callable[[Path, str], None]) -> Iterator[Path]:
    """Every visible file below a folder, ordered. Links are followed, each real folder once. ``reject`` is called with
    path and reason for broken links, pipes, unreadable folders and names that are not text."""
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        here = pending.pop()
        try:
            stat = here.stat()
            if (stat.st_dev, stat.st_ino) in seen:
                continue
            seen.add((stat.st_dev, stat.st_ino))
            entries = sorted(here.iterdir())
        except OSError as error:
            reject(here, f"folder cannot be opened ({error.strerror})")
            continue
        below = []
        for path in entries:
            if path.name.startswith("."):
                continue
            if not is_text(path.name):
                reject(path, NOT_TEXT)
            elif path.is_dir():
                below.append(path)
            elif path.is_file():
                yield path
            else:
                reject(path, NO_FILE if path.exists() else "link to nothing")
        pending.extend(reversed(below))


def videos_below(folder: Path, reject: Callable[[Path, str], None]) -> tuple[list[Path], list[Path]]:
    """The videos below a folder by their endings, and its other files, as :func:`files_below`."""
    found: tuple[list[Path], list[Path]] = [], []
    for path in files_below(folder, reject):
        found[path.suffix.lower() not in EXTENSIONS].append(path)
    return found


def passed_over(paths: Iterable[Path]) -> str:
    """How many files were passed over, by ending."""
    endings = Counter(printable(path.suffix.lower()) or "no ending" for path in paths)
    shown = ", ".join(f"{number} {ending}" for ending, number in endings.most_common())
    return f"{count(endings.total(), 'file')} passed over by ending: {shown}"


def printable(text: str) -> str:
    """A text that can be shown in a line: what is not printable is written as ``%0A`` or ``\\udcff``."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() or c in JOINERS else f"%{ord(c):02X}" for c in text)


def is_text(name: str) -> bool:
    """Whether a file name is text in the encoding of the file system."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
