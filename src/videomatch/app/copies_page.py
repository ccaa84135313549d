"""The page of `videomatch copies`, as one file (``--page``) and by the server: timeline, parts that play, maps."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from videomatch.app.copies import WHOLE, Copies, CopySearch
from videomatch.common.messages import count
from videomatch.media.thumbnail import data_url, still
from videomatch.reports import pages
from videomatch.reports.pages import Shown, clock
from videomatch.reports.segment_maps import DrawnSegment, drawing, timeline

#: maps on a page at most, so that browsers open it quickly
MAX_MAPS = 40
#: id of a video of the library (None: the query), start and end (s) -> how that part is shown
Show = Callable[[str | None, float, float], Shown]


def page(search: CopySearch, answer: Copies, show: Show | None = None, links: Sequence[tuple[str, str]] = ()) -> str:
    """The page of the last answer of ``search``. Without ``show`` it is one file with all pictures, which plays the
    files where they are now. ``links`` are texts with addresses of other pages."""
    show = show or _local(search, answer)
    segments: list[DrawnSegment] = []
    pairs: dict[tuple[str, str], list[DrawnSegment]] = {}
    for number, s in enumerate(answer.segments, 1):
        times = s.query_start, s.query_end, s.reference_start, s.reference_end
        segments.append(DrawnSegment(*times, s.score, number, s.reference, "" if s.view == WHOLE else s.view))
        pairs.setdefault((s.reference, s.view), []).append(segments[-1])
    maps, players = [], {}
    for (reference, view), drawn in list(pairs.items())[:MAX_MAPS]:
        similarity, *durations = search.map(view, reference)
        paths = [answer.asked, search.files.get(reference, {}).get("path")]
        title = f"similarity of {Path(answer.asked).name} and {reference}"
        heading = reference if view == WHOLE else f"{reference}: {view} of the query"
        maps.append((heading, drawing(similarity, drawn, durations, paths, title=title), drawn))
        for s in drawn:
            sides = (None, s.query_start, s.query_end), (reference, s.reference_start, s.reference_end)
            players[s.number] = [show(*side) for side in sides]
    about = [
        f"{clock(answer.duration)} long, {count(answer.frames, 'frame')} ({answer.descriptor}); "
        f"{count(len(segments), 'segment')}, aligned by {answer.aligner} in {count(answer.candidates, 'candidate')} "
        f"of {count(len(search.index), 'video')} of the library {answer.library}.",
        *(f"{note[:1].upper()}{note[1:]}." for note in answer.notes),
    ]
    if len(pairs) > MAX_MAPS:
        about.append(f"The first {MAX_MAPS} of {len(pairs)} maps are drawn.")
    title = f"Where {Path(answer.asked).name} comes from"
    line = timeline(segments, answer.duration, answer.asked)
    drawn = {"segments": segments, "timeline": line, "maps": maps, "players": players}
    return pages.render("query.html", title=title, about=about, links=links, **drawn)


def _local(search: CopySearch, answer: Copies) -> Show:
    """Parts by the addresses of their files on this machine."""

    def show(video_id: str | None, start: float, end: float) -> Shown:
        given = answer.asked if video_id is None else search.files.get(video_id, {}).get("path")
        name = Path(answer.asked).name if video_id is None else video_id
        return shown_file(Path(given) if given else None, name, start, end)

    return show


def shown_file(path: Path | None, name: str, start: float, end: float, facts: Sequence[str] = ()) -> Shown:
    """A part of a file (s) by the address that it has on this machine, with a picture of it."""
    path = path.absolute() if path else None
    picture = still(path, start, end) if path else None
    address = path.as_uri() if path and path.is_file() else None
    return Shown(name, address, None if picture is None else data_url(picture, 70), start, end, facts)


def video_page(
    search: CopySearch,
    video_id: str,
    show: Callable[[str, float, float], Shown],
    *,
    views: bool,
    links: Sequence[tuple[str, str]],
) -> str:
    """The page of a video of the library of ``search`` against the others; ``show`` is how a part of a video is shown,
    by its id; ``views``: its picture is also searched mirrored, turned and in parts."""
    path = search.files.get(video_id, {}).get("path")
    if path is None:
        raise ValueError(f"{video_id!r} is no video of index {search.library.folder.name!r}, or its file is gone")
    answer = search.copies(Path(path), views=views, threads=os.cpu_count() or 1)
    own = f"this very file is in the library, as {video_id}, and does not count"
    answer.notes = [note for note in answer.notes if note != own]
    return page(search, answer, lambda other, *times: show(other or video_id, *times), links)
