"""``videomatch``: what a person types beside ``snakemake`` and ``dvc``.

``find`` and ``similar`` ask a process that has everything loaded (:mod:`videomatch.app.warm`), so little is imported
here before it is known to be needed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videomatch.app import commands

if TYPE_CHECKING:
    import polars as pl

    from videomatch.pipeline.plan import Plan


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    options = arguments(argv)
    try:
        if options.command == "dvc":
            return write_dvc(options.check)
        if options.command in ("find", "similar"):
            return ask(options)
        if options.command == "serve":
            return serve(options)
        if options.command in ("library", "copies"):
            return commands.answer(options)
        from videomatch.app.config import plan_of

        plan = plan_of(options.configfile, options.config)
        if options.command == "leaks":
            return show_leaks(plan, options)
        return show_tables(plan) if options.command == "tables" else prune_results(plan, options.yes)
    except (ValueError, OSError) as error:
        if type(error).__name__ not in ("ParamsError", "Refused") and isinstance(error, ValueError):
            raise
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(prog="videomatch", description="What a person types beside snakemake and dvc.")
    parser.add_argument(
        "--configfile", type=Path, action="append", default=[], help="laid over params.yaml, as in snakemake"
    )
    parser.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="as in snakemake")
    subparsers = parser.add_subparsers(dest="command", required=True)
    subparsers.add_parser("tables", help="print the tables of the last run, and where everything lies")
    dvc = subparsers.add_parser("dvc", help="write dvc.yaml from the rules and params.yaml")
    dvc.add_argument("--check", action="store_true", help="only say whether it is up to date")
    prune = subparsers.add_parser("prune", help="list results that no rule makes any more")
    prune.add_argument("--yes", action="store_true", help="delete them")
    find = subparsers.add_parser("find", help="the videos that show what a sentence says")
    find.add_argument("asked", metavar="TEXT", help="what to look for")
    similar = subparsers.add_parser("similar", help="the videos that are like one")
    similar.add_argument("asked", metavar="VIDEO", help="an id of the corpus, or any file")
    server = subparsers.add_parser(
        "serve", help="a page to search on, on this machine alone; `find` answers faster, too"
    )
    server.add_argument("--port", type=int, default=8000, help="0 for any that is free")
    shared = subparsers.add_parser("leaks", help="what two sides of a data set share: ids, footage, texts, vectors")
    shared.add_argument("dataset", help="a data set that is prepared")
    shared.add_argument("--train", action="append", required=True, metavar="SPLIT", help="may be repeated")
    shared.add_argument("--test", action="append", required=True, metavar="SPLIT", help="may be repeated")
    shared.add_argument("--system", help="also compare the embeddings of this system")
    commands.arguments(subparsers)
    for command in (find, similar, server):
        command.add_argument("--dataset", help="whose videos; by default the one that a page shows")
        command.add_argument("--top", type=int, default=24 if command is server else 10, help="how many videos")
    for command in (find, similar):
        command.add_argument("--system", help="which system; by default one that can")
        command.add_argument("--member", help="which member of the system; by default the first")
        command.add_argument("--json", action="store_true", help="the answer as JSON")
        command.add_argument("--alone", action="store_true", help="answer in this process, and leave none behind")
    return parser.parse_args(argv)


def show_leaks(plan: Plan, options: argparse.Namespace) -> int:
    """Print what two sides of a data set share; 1 where they share a video or its footage."""
    from videomatch.app import leaks

    if options.dataset not in plan.datasets:
        raise FileNotFoundError(f"no data set named {options.dataset!r}; there are {', '.join(plan.datasets)}")
    corpus = Path(plan.corpus(options.dataset)).parent
    if not corpus.is_dir():
        raise FileNotFoundError(f"{corpus} is not there yet: run `snakemake {plan.corpus(options.dataset)}`")
    vectors = []
    if options.system:
        vectors = [
            Path(plan.embedding(options.dataset, options.system)).parent / plan.members(options.system)[0] / "videos"
        ]
    text, shared = leaks.told(corpus, options.train, options.test, vectors=vectors)
    print(text)
    return int(shared > 0)


# ------------------------------------------------------------------------------------------------------------ questions


def ask(options: argparse.Namespace) -> int:
    """Put a question and print the answer; 1 where there is none."""
    question = {"command": options.command, "asked": options.asked}
    question |= {name: getattr(options, name) for name in ("dataset", "system", "member", "top")}
    if options.command == "similar":
        question["file"] = str(Path(options.asked).expanduser().absolute())
    started = False
    if options.alone:
        from videomatch.app import service as desk

        reply = desk.opened(options.configfile, options.config).reply(question)
    else:
        from videomatch.app import warm

        path = warm.address(options.configfile, options.config)
        reply, started = warm.ask_or_start(path, question, options.configfile, options.config)
    if options.json:
        print(json.dumps(reply, ensure_ascii=False, indent=1))
    elif "error" not in reply:
        show_answer(reply, started)
    if "error" in reply and not options.json:
        print(reply["error"], file=sys.stderr)
    return int("error" in reply)


def show_answer(reply: dict[str, Any], started: bool) -> None:
    """A line a video, and on standard error what else there is to say."""
    for rank, hit in enumerate(reply["hits"], 1):
        print(f"{rank:3d}  {hit['score']:6.3f}  {hit['id']}  {' '.join(hit['title'].split())}  {hit['path'] or ''}")
    seconds = reply["seconds"]
    parts = ", ".join(f"{what} {spent:.2f}" for what, spent in seconds.items() if what != "total" and spent >= 0.05)
    said = f"{reply['dataset']} by {reply['system']} ({reply['member']}), {seconds['total']:.3f} s"
    print(said + (f": {parts}" if parts else ""), file=sys.stderr)
    for note in reply["notes"]:
        print(note, file=sys.stderr)
    if started:
        from videomatch.app.warm import IDLE

        print(
            f"a process with all that loaded stays for {IDLE // 60} minutes: the next answer is fast", file=sys.stderr
        )


def serve(options: argparse.Namespace) -> int:
    """Serve the page, and the socket that `find` asks, until interrupted."""
    from videomatch.app import service as desk
    from videomatch.app import warm, web

    path, state = warm.address(options.configfile, options.config), warm.state_of(options.configfile)
    made = desk.opened(options.configfile, options.config)
    site = web.Site(made, options.dataset, options.top)
    try:
        server = web.Server(site, options.port)
    except OSError as error:
        print(f"port {options.port}: {error.strerror}; choose another with --port", file=sys.stderr)
        return 1
    if path.exists():
        warm.ask(path, {"command": "end"})
    with warm.listening(path) as door, server:
        if door is not None:
            asked = threading.Thread(target=warm.answer_all, args=(door, made.reply, state, None), daemon=True)
            asked.start()
        print(f"{server.url}  (data set {site.dataset}; Ctrl-C ends it)", flush=True)
        server.serve_forever()
    return 0


# ------------------------------------------------------------------------------------------------------------ workbench


def write_dvc(check: bool) -> int:
    """Write dvc.yaml, or compare it."""
    from videomatch.common import files
    from videomatch.pipeline import dvcfile

    wanted, file = dvcfile.text(Path("params.yaml")), Path("dvc.yaml")
    if check:
        same = file.exists() and file.read_text(encoding="utf-8") == wanted
        print("dvc.yaml is up to date" if same else "dvc.yaml is out of date: run `videomatch dvc`")
        return 0 if same else 1
    files.write_text(file, wanted)
    return 0


def show_tables(plan: Plan) -> int:
    """Print every table, the number of rejected videos, and where the results lie."""
    import polars as pl

    for name in plan.tables:
        path = Path(plan.table(name)).parent / "table.md"
        print(path.read_text(encoding="utf-8") if path.exists() else f"{path} is not there yet: run `snakemake`\n")
    for dataset, rejected in rejections(plan).items():
        print(f"{dataset}: {len(rejected)} files were rejected" + (":" if len(rejected) else ""))
        with pl.Config(tbl_rows=-1, fmt_str_lengths=100, tbl_hide_dataframe_shape=True, tbl_width_chars=160):
            if len(rejected):
                print(rejected.select("path", "reason"))
    print(f"\ntables:  {plan.root}/tables/*/table.md")
    for page in plan.params["pages"]:
        print(f"page:    {Path(plan.page(page)).parent}/index.html")
    for dataset in plan.needed_datasets():
        print(f"corpus:  {Path(plan.corpus(dataset)).parent}/card.md")
    return 0


def rejections(plan: Plan) -> dict[str, pl.DataFrame]:
    """Data set -> its ``rejected`` rows, of reading and of every pass over the videos."""
    from videomatch.data import tables

    found = {}
    for dataset in plan.needed_datasets():
        features = {m for e in plan.dataset(dataset).get("experts", []) for m in plan.features(dataset, e)}
        folders = [Path(m).parent for m in (plan.corpus(dataset), *sorted(features))]
        found[dataset] = tables.read("rejected", *folders).unique(["path", "reason"]).sort("path")
    return found


def prune_results(plan: Plan, delete: bool) -> int:
    """List (or delete) results below results/<scale> that the current parameters do not make."""
    from videomatch.pipeline import provenance

    wanted = {result for results in plan.results().values() for result in results}
    kept = {parent for path in wanted for parent in Path(path).parents}
    found = sorted(Path(plan.root).rglob(provenance.MANIFEST))
    # neither a folder that wanted results lie in, nor what a running job is writing
    unused = [m for m in found if m.parent not in kept and not any(p.startswith(".") for p in m.parts)]
    for manifest in unused:
        print(("deleted " if delete else "unused  ") + str(manifest.parent))
        if delete:
            shutil.rmtree(manifest.parent)
    return 0


if __name__ == "__main__":
    sys.exit(main())
