"""The commands for copies: those of ``library``, and ``copies``."""

import argparse
import functools
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from videomatch.app import exports, indexes
from videomatch.app.copies import WHOLE, CopySearch, choose_aligner
from videomatch.app.copies_page import page
from videomatch.app.descriptors import checkpoint_of, choose
from videomatch.app.requests import load_plan
from videomatch.app.video_library import VideoLibrary, check_given
from videomatch.common import files
from videomatch.common.messages import count
from videomatch.reports.pages import clock


def add_videos(options: argparse.Namespace) -> int:
    """Make or extend a library; 1 where it holds nothing afterwards."""
    check_given(options.videos)
    library = _open_or_create(options)
    added = library.add(options.videos, threads=os.cpu_count() or 1)
    if options.json:
        print(json.dumps(asdict(added), ensure_ascii=False, indent=1))
    else:
        print(f"{count(len(added.videos), 'video')} added, {count(added.frames, 'frame')} ({library.descriptor})")
        if added.known:
            print(f"{count(added.known, 'file')} there already")
        for row in added.rejected:
            print(f"rejected: {row['path']}: {row['reason']}", file=sys.stderr)
        for note in added.notes:
            print(note, file=sys.stderr)
    return int(not len(library.videos()))


def _open_or_create(options: argparse.Namespace) -> VideoLibrary:
    """The library of the command line. Options that describe frames must be those that it was made with."""
    given = {k: v for k, v in vars(options).items() if k in ("expert", "system", "run", "every", "key_frames", "share")}
    plan = functools.partial(load_plan, options.configfile, options.config)
    if not VideoLibrary.exists(options.library):
        if not options.videos:
            raise ValueError(f"{options.library} is no library: expected videos to make one of")
        return VideoLibrary.create(options.library, choose(plan, **given))
    library = VideoLibrary(options.library)
    if all(value is None for value in given.values()):
        return library
    advice = "leave the options out to add to it, or make another library"
    try:
        descriptor = choose(plan, **given)
    except ValueError as error:
        raise ValueError(f"{error} ({options.library} exists already: {advice})") from error
    if library.descriptor != descriptor:
        raise ValueError(f"{options.library} describes frames by {library.descriptor}, not by {descriptor}: {advice}")
    return library


def list_videos(options: argparse.Namespace) -> int:
    """Print what a library holds."""
    found = VideoLibrary(options.library).summary()
    if options.json:
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return 0
    for video in found["videos"]:
        replaced = "" if video["path"] is not None else "  (its file has other content now)"
        print(f"{clock(video['duration'] or 0):>10}  {video['video_id']}{replaced}")
    print(
        f"{count(len(found['videos']), 'video')}, {clock(3600 * found['hours'])} in all, "
        f"{count(found['frames'], 'frame')} ({found['described by']}), {found['bytes'] / 1e6:.1f} MB"
    )
    for row in found["rejected"]:
        print(f"rejected: {row['path']}: {row['reason']}")
    return 0


def remove_videos(options: argparse.Namespace) -> int:
    """Remove videos from a library."""
    removed = VideoLibrary(options.library).remove(options.ids)
    print(json.dumps({"removed": removed}) if options.json else f"{count(removed, 'video')} removed")
    return 0


def check_library(options: argparse.Namespace) -> int:
    """Print what is damaged in a library, and which of its files are not what they were; 1 if it is damaged."""
    damage, absent = VideoLibrary(options.library).check()
    if options.json:
        print(json.dumps({"damage": damage, "files": absent}, ensure_ascii=False, indent=1))
        return int(bool(damage))
    print(*(f"damaged: {one}" for one in damage), *absent, sep="\n", end="\n" * bool(damage or absent))
    if damage:
        print(f"`videomatch library add {options.library}` mends it", file=sys.stderr)
    else:
        print(f"{options.library} is whole")
    return int(bool(damage))


def show_copies(options: argparse.Namespace) -> int:
    """Print where the parts of a video come from, a line per segment; write the page."""
    library = VideoLibrary(options.library or indexes.place(options.index))
    run = options.run
    if options.system:
        run = checkpoint_of(load_plan(options.configfile, options.config), options.system)
    search = CopySearch(library, choose_aligner(options.aligner, run, options.tuned))
    file = Path(options.asked).expanduser()
    if not file.exists() and options.asked in search.files:
        path = search.files[options.asked]["path"]
        if path is None:
            raise ValueError(f"{options.asked}: its file has other content now than when it was added; give a file")
        file = Path(path)
    least = {"min_score": options.min_score, "min_seconds": options.min_seconds}
    answer = search.copies(file, top=options.top, views=not options.whole, threads=os.cpu_count() or 1, **least)
    if options.page:
        with answer.timed("page"):
            files.write_text(options.page, page(search, answer))
        answer.notes.append(f"page: {options.page}")
    answer.notes += exports.of_copies(options, answer)
    if options.json:
        print(json.dumps(asdict(answer), ensure_ascii=False, indent=1))
        return 0
    if answer.segments:
        print("in the video     where it is from  score  of which video", file=sys.stderr)
    for one in answer.segments:
        query = f"{clock(one.query_start)}-{clock(one.query_end)}"
        reference = f"{clock(one.reference_start)}-{clock(one.reference_end)}"
        view = "" if one.view == WHOLE else f"  ({one.view})"
        print(f"{query}  {reference}  {one.score:6.3f}  {one.reference}{view}")
    seconds = ", ".join(f"{step} {spent:.2f}" for step, spent in answer.seconds.items() if step != "total")
    found = count(len(answer.segments), "segment") if answer.segments else "nothing found"
    print(
        f"{found}: {count(answer.frames, 'frame')} against {search.index.frames} of "
        f"{count(len(search.index), 'video')}, {answer.candidates} compared in full by {answer.aligner}; "
        f"seconds: {seconds}",
        *answer.notes,
        sep="\n",
        file=sys.stderr,
    )
    return 0
