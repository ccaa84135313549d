"""The page of duplicates, as one file (``videomatch duplicates --page``) and by the server: groups side by side."""

from collections.abc import Callable, Sequence
from pathlib import Path

from videomatch.app.copies_page import shown_file
from videomatch.common.messages import count
from videomatch.folders.duplicates import Duplicate, Duplicates
from videomatch.reports import pages
from videomatch.reports.pages import Shown, clock

#: groups on a page at most
MAX_GROUPS = 100
#: a file of a group and what is said of it -> how it is shown
Show = Callable[[Duplicate, Sequence[str]], Shown]


def facts(row: Duplicate) -> list[str]:
    """What a file is to the one to keep, its length, size in pixels, bit rate and bytes."""
    about = row.kind
    if row.kind in ("part", "edited"):
        about += f": {row.share:.0%} of it, at {clock(row.start)}-{clock(row.end)} there"
    size = f"{row.width}x{row.height}"
    return [about, clock(row.duration), size, f"{row.bit_rate / 1e6:.2f} Mbit/s", f"{row.bytes / 1e6:.1f} MB"]


def page(answer: Duplicates, show: Show | None = None, links: Sequence[tuple[str, str]] = ()) -> str:
    """The page of an answer. Without ``show`` it is one file with all pictures, which plays the files where they are
    now. ``links`` are texts with addresses of other pages."""
    show = show or _local
    groups = [
        (
            f"Group {number}: {len(group)} files",
            [show(row, [row.suggestion, *filter(None, facts(row))]) for row in group],
        )
        for number, group in enumerate(answer.groups[:MAX_GROUPS], 1)
    ]
    about = [
        f"{count(len(answer.groups), 'group')} of files that hold the same film, of {answer.files} files. The first of "
        "a group is the one to keep; nothing was deleted.",
        *(f"{note[:1].upper()}{note[1:]}." for note in answer.notes),
    ]
    if len(answer.groups) > MAX_GROUPS:
        about.append(f"The first {MAX_GROUPS} groups are shown.")
    return pages.render("groups.html", title="Duplicates", about=about, groups=groups, links=links)


def _local(row: Duplicate, said: Sequence[str]) -> Shown:
    return shown_file(Path(row.path), row.path, 0.0, row.duration, said)
