"""``videomatch library`` and ``videomatch copies`` as they are typed.

Little is imported here: the command line reads this before it knows what is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any


def arguments(commands: Any) -> None:
    """Add the two commands to a parser's."""
    library = commands.add_parser("library", help="videos of one's own, to be searched for copies")
    verbs = library.add_subparsers(dest="verb", required=True)
    add = verbs.add_parser("add", help="add videos; the first call makes the library, and says how it sees frames")
    add.add_argument("library", type=Path, metavar="LIBRARY", help="its folder")
    add.add_argument(
        "videos", type=Path, nargs="+", metavar="VIDEOS", help="files, or folders with all that lies below"
    )
    seen = add.add_mutually_exclusive_group()
    seen.add_argument("--expert", help="of the parameters; by default grey pixels, which need no training")
    seen.add_argument("--system", help="a trained system whose image network describes frames")
    seen.add_argument("--run", type=Path, help="folder of a checkpoint of an image network")
    add.add_argument("--every", type=float, metavar="SECONDS", help="between frames; by default the expert's own")
    add.add_argument(
        "--key-frames", metavar="HOW", help="keep some frames only: a method, or a trained system that scores frames"
    )
    add.add_argument("--share", type=float, help="of frames that are kept as key frames")
    listed = verbs.add_parser("list", help="what a library holds, and what could not be read")
    listed.add_argument("library", type=Path, metavar="LIBRARY", help="its folder")
    copies = commands.add_parser("copies", help="where each part of a video comes from")
    copies.add_argument("asked", metavar="VIDEO", help="a file, or an id of the library")
    copies.add_argument("--library", type=Path, required=True, help="folder of `videomatch library add`")
    found = copies.add_mutually_exclusive_group()
    found.add_argument("--system", help="a trained detector of segments; by default the temporal network finds them")
    found.add_argument("--run", type=Path, help="folder of a detector's checkpoint")
    found.add_argument("--aligner", help="one of aligners/, as it is")
    copies.add_argument("--tuned", type=Path, help="result of `tune`: which aligner, or options of the detector")
    copies.add_argument("--top", type=int, default=10, help="how many videos of the library are compared in full")
    copies.add_argument(
        "--whole", action="store_true", help="look at the picture as it is only, not also mirrored and by halves"
    )
    copies.add_argument("--page", type=Path, metavar="FILE.html", help="also write a page: maps, boxes, pictures")
    for command in (add, listed, copies):
        command.add_argument("--json", action="store_true", help="for programs")


def answer(options: argparse.Namespace) -> int:
    """Do what was typed; returns the exit status."""
    if options.command == "copies":
        return show_copies(options)
    return add_videos(options) if options.verb == "add" else show_library(options)


def add_videos(options: argparse.Namespace) -> int:
    """Make or grow a library; 1 where it holds nothing afterwards."""
    from videomatch.app.answers import counted
    from videomatch.app.config import plan_of
    from videomatch.app.descriptors import chosen
    from videomatch.app.library import Refused
    from videomatch.app.video_library import Footage

    given = {name: getattr(options, name) for name in ("expert", "system", "run", "every", "key_frames", "share")}
    is_new = not (options.library / "library.json").exists()
    if is_new or any(value is not None for value in given.values()):
        try:
            wanted = chosen(lambda: plan_of(options.configfile, options.config), **given)
        except ValueError as error:
            if is_new:
                raise
            raise Refused(
                f"{error} ({options.library} is there already: leave the options out to add to it)"
            ) from error
        footage = Footage.made(options.library, wanted) if is_new else Footage(options.library)
        if footage.descriptor != wanted:
            raise Refused(
                f"{options.library} describes frames by {footage.descriptor}, not by {wanted}: leave the options out "
                "to add to it, or make another library"
            )
    added = (footage := Footage(options.library)).add(options.videos, threads=os.cpu_count() or 1)
    if options.json:
        print(json.dumps(vars(added), ensure_ascii=False, indent=1))
    else:
        frames = counted(added.frames, "frame")
        print(f"{counted(len(added.videos), 'video')} added, {frames} ({footage.descriptor})")
        if added.known:
            print(f"{counted(added.known, 'file')} there already")
        for row in added.rejected:
            print(f"rejected: {row['path']}: {row['reason']}", file=sys.stderr)
    return int(not len(footage.videos()))


def show_library(options: argparse.Namespace) -> int:
    """Print what a library holds."""
    from videomatch.app.answers import counted
    from videomatch.app.video_library import Footage, summary
    from videomatch.reports.pages import clock

    said = summary(Footage(options.library))
    if options.json:
        print(json.dumps(said, ensure_ascii=False, indent=1))
        return 0
    for video in said["videos"]:
        print(f"{clock(video['duration'] or 0):>10}  {video['video_id']}")
    videos, frames = counted(len(said["videos"]), "video"), counted(said["frames"], "frame")
    print(
        f"{videos}, {clock(3600 * said['hours'])} in all, {frames} ({said['described by']}), "
        f"{said['bytes'] / 1e6:.1f} MB"
    )
    for row in said["rejected"]:
        print(f"rejected: {row['path']}: {row['reason']}")
    return 0


def show_copies(options: argparse.Namespace) -> int:
    """Print where the parts of a video come from, a line a segment; write the page."""
    from videomatch.app import copies
    from videomatch.app.video_library import Footage

    footage = Footage(options.library)
    run = options.run
    if options.system:
        from videomatch.app.config import plan_of
        from videomatch.app.descriptors import trained

        run = trained(plan_of(options.configfile, options.config), options.system)
    search = copies.Search(footage, copies.aligner(options.aligner, run, options.tuned))
    file = Path(options.asked).expanduser()
    if not file.exists() and options.asked in search.files:
        file = Path(search.files[options.asked]["path"])
    answer = search.copies(file, top=options.top, views=not options.whole, threads=os.cpu_count() or 1)
    if options.page:
        from videomatch.app.copies_page import written
        from videomatch.pipeline import provenance

        with answer.timed("page"):
            provenance.write_text(options.page, written(search, answer))
    if options.json:
        print(json.dumps(answer.as_json(), ensure_ascii=False, indent=1))
        return 0
    from videomatch.app.answers import counted
    from videomatch.reports.pages import clock

    if answer.segments:
        print("in the video     where it is from  alike  of which video", file=sys.stderr)
    for one in answer.segments:
        there = f"{clock(one.reference_start)}-{clock(one.reference_end)}"
        view = "" if one.view == copies.WHOLE else f"  ({one.view})"
        query = f"{clock(one.query_start)}-{clock(one.query_end)}"
        print(f"{query}  {there}  {one.score:6.3f}  {one.reference}{view}")
    seconds = ", ".join(f"{what} {spent:.2f}" for what, spent in answer.seconds.items() if what != "total")
    found = counted(len(answer.segments), "segment") if answer.segments else "nothing found"
    library = f"{search.library.frames} of {counted(len(search.library), 'video')}"
    print(
        f"{found}: {counted(answer.frames, 'frame')} against {library}, {answer.candidates} compared in full by "
        f"{answer.aligner}; seconds: {seconds}",
        file=sys.stderr,
    )
    for note in answer.notes:
        print(note, file=sys.stderr)
    return 0
