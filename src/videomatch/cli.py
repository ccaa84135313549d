"""``videomatch``: the command line beside ``snakemake`` and ``dvc``.

What a command needs is imported once the command is known: ``--help``, and ``find`` and ``similar`` where a server
answers, load the standard library only.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from videomatch.app import client, indexes
from videomatch.common import messages, named
from videomatch.data.walk import printable


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    messages.escape_unknown_characters()
    options = parser().parse_args(argv)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        status = run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # as by `| head`; Python flushes again when it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, ModuleNotFoundError) as error:  # a file, an option, the parameters or the installation
        print(messages.text_of(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status


def parser() -> argparse.ArgumentParser:
    """All commands and their options; ``handler`` is the room, module and function that run the command."""
    top = argparse.ArgumentParser(prog="videomatch", description="Search videos, and look after the results.")
    top.add_argument("--configfile", type=Path, action="append", default=[], help="instead of params.yaml")
    top.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="as in snakemake")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, handler: str, text: str, among: Any = commands) -> argparse.ArgumentParser:
        made = among.add_parser(name, help=text)
        made.set_defaults(handler=handler.split("."))
        return made

    index = command(
        "index", "folders.commands.index", "make or refresh the index of a folder of videos, or list all indexes"
    )
    index.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="none: list the indexes")
    index.add_argument("--name", help="of a new index; by default that of the folder")
    index.add_argument(
        "--model", help="what looks at pictures: conse (needs no hub), siglip2, clip, a hub id or folder, or none"
    )
    index.add_argument("--speech", metavar="MODEL", help="a Whisper (folder or hub id) that hears speech, or none")
    index.add_argument("--ocr", action=argparse.BooleanOptionalAction, help="read the text in frames (costs most)")
    index.add_argument("--remove", action="store_true", help="remove the index of FOLDER or of that name; or a file")
    find = commands.add_parser("find", help="the videos that show what a text says")
    find.add_argument("asked", metavar="TEXT", nargs="+", help="what to look for; each text is a question")
    similar = commands.add_parser("similar", help="the videos that are similar to one")
    similar.add_argument("asked", metavar="VIDEO", help="an id of the corpus, or any file")
    serve = command("serve", "app.server.serve", "serve a page to search on, and answer `find` and `similar` at once")
    serve.add_argument("folder", type=Path, nargs="?", metavar="FOLDER", help="index it first")
    serve.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    serve.set_defaults(opened=opened_index)
    for each in (find, similar, serve):
        each.add_argument("--dataset", help="of the parameters; by default the one that a page shows")
        each.add_argument("--top", type=int, default=24 if each is serve else 10, help="how many videos")
    kinds = ("pictures", "titles", "speech", "ocr")
    find.add_argument("--in", dest="within", choices=kinds, action="append", help="search an index by these alone")
    for each in (find, similar):
        each.add_argument("--system", help="which system; by default one that can")
        each.add_argument("--member", help="which member of the system; by default the first")
        each.add_argument("--alone", action="store_true", help="do not ask a running `videomatch serve`")

    duplicates = command(
        "duplicates", "folders.commands.duplicates", "groups of files that hold the same film, and which to keep"
    )
    duplicates.add_argument(
        "folders", type=Path, nargs="*", metavar="FOLDER", help="indexed or refreshed first; none: an index as it is"
    )
    duplicates.add_argument(
        "--min-share",
        type=float,
        metavar="SHARE",
        help="of the shorter video that lies in the longer one: .5 by default",
    )
    duplicates.add_argument("--csv", type=Path, metavar="FILE.csv", help="also write a list, to mark what to delete in")
    duplicates.add_argument("--page", type=Path, metavar="FILE.html", help="also write a page with pictures")
    duplicates.add_argument(
        "--delete", type=Path, metavar="FILE.csv", help="only delete the files that are marked in such a list"
    )

    command("tables", "app.results.show_tables", "print the tables of the last run, and where the results are")
    timing = command("timing", "app.timing.show_timing", "where the time of the last run went, by its logs")
    timing.add_argument("--cores", type=int, help="that the run had; by default those of this machine")
    command("reference", "app.results.take_reference", "take the tables of the last run as those that are committed")
    dvc = command("dvc", "app.results.write_dvc", "write each dvc.yaml from the rules and its parameters")
    dvc.add_argument("--check", action="store_true", help="only tell whether they are up to date")
    command("jobs", "app.results.write_jobs", "write what each result is made from, as `dvc repro` does first")
    prune = command("prune", "app.results.prune", "list results that no rule makes any more")
    prune.add_argument("--yes", action="store_true", help="delete them")
    leaks = command(
        "leaks", "app.results.show_leaks", "what two sides of a data set share: ids, footage, texts, vectors"
    )
    leaks.add_argument("dataset", help="a data set that is prepared")
    leaks.add_argument("--train", action="append", required=True, metavar="SPLIT", help="may be repeated")
    leaks.add_argument("--test", action="append", required=True, metavar="SPLIT", help="may be repeated")
    leaks.add_argument("--system", help="also compare the embeddings of this system")

    library = commands.add_parser("library", help="a library of your own videos, to be searched for copies")
    verbs = library.add_subparsers(dest="verb", required=True)
    of_library = [
        command(name, f"app.copies_commands.{function}", text, verbs)
        for name, function, text in (
            ("add", "add_videos", "add videos; the first call makes the library and fixes how frames are described"),
            ("list", "list_videos", "what a library holds, and which files could not be read"),
            ("remove", "remove_videos", "remove videos from a library; their files stay"),
            ("check", "check_library", "whether a library is damaged, and which of its files are moved or changed"),
        )
    ]
    for each in of_library:
        each.add_argument("library", type=Path, metavar="LIBRARY", help="its folder")
    add, _, remove, _ = of_library
    add.add_argument(
        "videos", type=Path, nargs="*", metavar="VIDEOS",
        help="files, or folders with all videos below; none: only mend what is damaged",
    )  # fmt: skip
    described = add.add_mutually_exclusive_group()
    described.add_argument("--expert", help="of the parameters; by default grey pixels, which need no training")
    described.add_argument("--system", help="a trained system whose image network describes frames")
    described.add_argument("--run", type=Path, help="folder of a checkpoint of an image network")
    add.add_argument("--every", type=float, metavar="SECONDS", help="between frames; by default the expert's own")
    add.add_argument(
        "--key-frames", metavar="HOW", help="keep some frames only: a method, or a trained system that scores frames"
    )
    add.add_argument("--share", type=float, help="of frames that are kept as key frames")
    remove.add_argument("ids", nargs="+", metavar="ID", help="as `library list` has them")
    copies = command("copies", "app.copies_commands.show_copies", "where each part of a video comes from")
    copies.add_argument("asked", metavar="VIDEO", help="a file, or an id of the library")
    copies.add_argument("--library", type=Path, help="folder of `videomatch library add`; by default an index")
    aligner = copies.add_mutually_exclusive_group()
    aligner.add_argument("--system", help="a trained detector of segments; by default Hough voting finds them")
    aligner.add_argument("--run", type=Path, help="folder of a detector's checkpoint")
    aligner.add_argument("--aligner", help="one of aligners/, with thresholds that few strangers reach")
    copies.add_argument("--tuned", type=Path, help="result of `tune`: which aligner, or options of the detector")
    copies.add_argument("--top", type=int, default=10, help="how many videos of the library are aligned")
    copies.add_argument("--min-score", type=float, metavar="SCORE", help="of a segment; by default the aligner's own")
    copies.add_argument(
        "--min-seconds", type=float, default=1.25, metavar="SECONDS", help="that a segment lasts (1.25)"
    )
    copies.add_argument(
        "--whole", action="store_true", help="compare the whole picture only: no parts, mirrored or turned"
    )
    copies.add_argument("--page", type=Path, metavar="FILE.html", help="also write a page: maps, boxes, pictures")
    shots = command("shots", "app.exports.show_shots", "the shots of a video, by the extra `shots`")
    shots.add_argument("video", metavar="VIDEO", help="a file")
    for each in (find, similar, serve, duplicates, copies):
        each.add_argument(
            "--index",
            metavar="NAME",
            help="of `videomatch index`; by default the one of the folder you are in, or the only one",
        )
    for each in (find, copies, shots):
        each.add_argument("--csv", type=Path, metavar="FILE", help="also write the answer as a table")
        each.add_argument("--edl", type=Path, metavar="FILE", help="also write an edit decision list (CMX 3600)")
        each.add_argument(
            "--cut", type=Path, metavar="FOLDER", help="also cut the parts into a new folder, without encoding again"
        )
    for each in (index, find, similar, duplicates, *of_library, copies, shots):
        each.add_argument("--json", action="store_true", help="the answer as JSON")
    return top


def run(options: argparse.Namespace) -> int:
    """Run the command of some options; the exit status."""
    if options.command in ("find", "similar"):
        return search(options)
    if options.command == "serve" and options.folder is not None:
        name = ["--name", options.index] if options.index else []
        if status := run(parser().parse_args(["index", str(options.folder), *name])):
            return status
        options.index = indexes.name_for(options.folder, options.index)
    room, module, function = options.handler
    return getattr(named.module(room, module), function)(options)


def search(options: argparse.Namespace) -> int:
    """``find`` and ``similar``: ask the running server, or load what is needed; 1 where there is no answer."""
    names = ("command", "dataset", "system", "member", "top")
    request = {name: vars(options)[name] for name in names}
    if options.command == "similar":
        request["file"] = str(Path(options.asked).expanduser().absolute())
    if getattr(options, "within", None):
        request["within"] = ",".join(options.within)
    place = indexes.chosen(options)
    server = indexes.server_file(place) if place else client.server_file(options.configfile, options.config)
    open_catalogue = functools.cache(functools.partial(_opened, options, place))
    asked = [options.asked] if isinstance(options.asked, str) else options.asked
    replies = [_reply({**request, "asked": text}, None if options.alone else server, open_catalogue) for text in asked]
    if options.json:
        print(json.dumps(replies if len(replies) > 1 else replies[0], ensure_ascii=False, indent=1))
    for text, reply in zip(asked, replies if not options.json else (), strict=False):
        if len(replies) > 1:
            print(f"{text}:")
        if "error" in reply:
            print(reply["error"], file=sys.stderr)
        else:
            _print_hits(reply)
    is_refused = any("error" in reply for reply in replies)
    if not is_refused and options.command == "find" and (options.csv or options.edl or options.cut):
        print(*named.module("app", "exports").of_hits(options, replies), sep="\n", file=sys.stderr)
    return int(is_refused)


def opened_index(place: Path) -> Any:
    """What a search loads of the index of a folder."""
    return named.module("folders", "folder_search").FolderCatalogue(place)  # without what else a Library can


def _opened(options: argparse.Namespace, place: Path | None) -> Any:
    if place is not None:
        return opened_index(place)
    return named.module("app", "catalogue").Catalogue(options.configfile, options.config)


def _reply(request: dict[str, Any], server: Path | None, open_catalogue: Callable[[], Any]) -> dict[str, Any]:
    reply = None if server is None else client.ask(request, server)
    if reply is None:
        gc.set_threshold(100_000)  # torch and transformers are imported in 4.1 s of CPU time instead of 4.7 s
        reply = named.module("app", "search").reply(open_catalogue, request)
    return reply


def _print_hits(reply: dict[str, Any]) -> None:
    for rank, hit in enumerate(reply["hits"], 1):
        part = "" if hit["start"] is None else f"  {hit['start']:.1f}-{hit['end']:.1f} s"
        title, path = printable(" ".join(hit["title"].split())), printable(hit["path"] or "")
        if "by" in hit:  # of an index, whose ids are paths
            print(f"{rank:3d}  {hit['score']:6.3f}  {path}{part}  ({', '.join(hit['by'])})")
        else:
            print(f"{rank:3d}  {hit['score']:6.3f}  {printable(hit['id'])}  {title}  {path}{part}")
        matches = [f"{m['word']} {m['start']:.1f} s ({m['score']:.2f})" for m in hit.get("matches", ())]
        if matches:
            print(f"{'':13}{', '.join(matches)}")
    seconds = reply["seconds"]
    steps = [f"{step} {spent:.2f}" for step, spent in seconds.items() if step != "total" and spent >= 0.05]
    found = "" if reply["hits"] else "nothing found"
    member = f" ({reply['member']})" if reply["member"] else ""
    answered = f"{reply['dataset']} by {reply['system']}{member}, {seconds.get('total', 0):.3f} s"
    print(": ".join(filter(None, [found, answered, ", ".join(steps)])), file=sys.stderr)
    for note in reply["notes"]:
        print(note, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
