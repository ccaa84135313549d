"""The commands for results of the workflow: ``tables``, ``reference``, ``prune``, ``dvc`` and ``leaks``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import platform
import re
import shutil
import subprocess
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from videomatch.app import timing
from videomatch.app.catalogue import Catalogue
from videomatch.app.requests import check_project, load_plan
from videomatch.common import files
from videomatch.common.digests import SCRATCH, digest, dumps
from videomatch.common.messages import count
from videomatch.data import leaks
from videomatch.pipeline import dvcfile, provenance, rules
from videomatch.pipeline.params import PARAMS
from videomatch.pipeline.plan import Plan

#: where the tables are that are committed, a folder for each scale
REFERENCE = Path("results/reference")


def write_dvc(options: argparse.Namespace) -> int:
    """Write the dvc.yaml of every file of parameters, or tell whether they are up to date."""
    check_project()
    stale = 0
    for params_file in [PARAMS, *sorted(Path("configs").glob("*.yaml"))]:
        wanted, file = dvcfile.text(params_file), dvcfile.path_of(params_file)
        same = file.exists() and file.read_text(encoding="utf-8") == wanted
        stale += not same
        if not same and not options.check:
            files.write_text(file, wanted)
        state = "up to date" if same else "out of date: run `videomatch dvc`" if options.check else "written anew"
        print(f"{file} is {state}")
    return int(options.check and stale > 0)


def write_jobs(options: argparse.Namespace) -> int:
    """Write what each result is made from, for DVC."""
    if options.config or len(options.configfile) > 1:
        raise ValueError("DVC reads one file of parameters and no values beside it")
    plan = load_plan(options.configfile)
    dvcfile.write_jobs(plan, *(options.configfile or [PARAMS]))
    print(f"{plan.root}/jobs: {count(len(rules.needed(plan)), 'result')} in {count(len(rules.stages(plan)), 'stage')}")
    return 0


def show_tables(options: argparse.Namespace) -> int:
    """Print every table, the rejected videos, and where the results are."""
    plan = load_plan(options.configfile, options.config)
    missing = f"does not exist yet: run `{plan.command()}`"
    for name in plan.tables:
        path = Path(plan.result("tables", name)).with_name("table.md")
        print(path.read_text(encoding="utf-8") if path.exists() else f"{path} {missing}\n")
    places = [("page:   ", plan.result("pages", page), "index.html") for page in plan.pages]
    for dataset in rules.datasets(plan):
        places.append(("corpus: ", plan.result("corpora", dataset), "card.md"))
        if Path(plan.result("corpora", dataset)).exists():
            rejected = rules.rejected(plan, dataset)
            print(f"{dataset}: {count(len(rejected), 'file')} rejected")
            for path, reason in rejected.iter_rows():
                print(f"rejected: {path}: {reason}")
    if plan.tables:
        print(f"\ntables:  {plan.root}/tables/*/table.md")
    for kind, manifest, name in places:
        path = Path(manifest).with_name(name)
        print(kind, path, *([] if path.exists() else [missing]))
    if not plan.tables and not places:
        print("the parameters name no table and no page")
    return 0


def take_reference(options: argparse.Namespace) -> int:
    """Copy the tables that are current to where they are committed, with a chart of each and what made them. Of a run
    that is not at its end some are missing: they are named, and are not there from an earlier run either."""
    from videomatch.reports import charts, drawn_table  # here: other commands draw nothing

    plan = load_plan(options.configfile, options.config)
    if not plan.tables:
        raise ValueError("the parameters name no table")
    stale, missing = {}, {}
    for result, job in reversed(rules.needed(plan).items()):  # mostly, what others are made from comes first
        if any(result in results for results in rules.of_tables(plan).values()):
            stale[result] = provenance.why(Path(result), json.loads(dumps(job.request())))
    for name, results in rules.of_tables(plan).items():
        first = next((result for result, reason in stale.items() if reason and result in results), None)
        if first is not None:
            missing[name] = f"{Path(first).parent} is not current ({stale[first]})"
    taken = [name for name in plan.tables if name not in missing]
    if not taken:
        raise ValueError(f"{missing[next(iter(plan.tables))]}: run `{plan.command()}`")
    changed = _git("status", "--porcelain", "--", ".", ":!results").splitlines()
    if changed:
        raise ValueError(f"commit first what made the tables: {', '.join(line[3:] for line in changed)}")
    with files.replacing(REFERENCE / plan.params["scale"]) as folder:
        folder.mkdir()
        for name in taken:
            for file in ("table.md", "table.csv"):
                source = Path(plan.result("tables", name)).with_name(file)
                shutil.copy(source, folder / f"{name}{source.suffix}")
            drawn = [chart["svg"] for chart in drawn_table.parts(source.parent, plan.tables[name].chart)["charts"]]
            files.write_text(folder / f"{name}.svg", charts.as_file(drawn[:2][-1]))  # differences, if there are any
        made_from = {result for name in taken for result in rules.of_tables(plan)[name]}
        files.write_json(folder / "made.json", _made(plan, made_from))
    print(f"{REFERENCE / plan.params['scale']}: {len(taken)} of {count(len(plan.tables), 'table')}; commit them")
    for name, reason in missing.items():
        print(f"not taken: {name}: {reason}")
    return 0


def _made(plan: Plan, results: set[str]) -> dict[str, Any]:
    """Which code made some results, where, when, and in how many seconds of CPU time, where the logs are those of the
    jobs."""
    from videomatch.common import precision  # here: no other command in this module needs torch

    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.exists() else "", re.M)
    seconds = [job.cpu for job in timing.finished(plan) if job.result in results]
    return {
        "commit": _git("rev-parse", "HEAD"),
        "src": _git("rev-parse", "HEAD:src"),  # the same where history is written anew
        "processor": model[1] if model else platform.processor() or platform.machine(),
        "bf16": precision.multiplies_bf16(precision.default_device()),
        "torch": metadata.version("torch"),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "jobs": len(results),
        "cpu_seconds": round(sum(seconds)) if len(seconds) == len(results) else None,
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.rstrip()


def prune(options: argparse.Namespace) -> int:
    """List (or delete) results below results/<scale> that the current parameters do not make, and unfinished work that
    no job would go on with."""
    plan = load_plan(options.configfile, options.config)
    needed, unused = {parent for path in rules.needed(plan) for parent in Path(path).parents}, 0
    for manifest in sorted(Path(plan.root).rglob(provenance.MANIFEST)):
        folder = manifest.parent
        # hidden folders are those that a running job writes
        if folder in needed or any(part.startswith(".") for part in manifest.parts):
            continue
        unused += 1
        print(("deleted " if options.yes else "unused  ") + str(folder))
        if options.yes:
            shutil.rmtree(folder)
    left, used = 0, _used_work(plan)
    for folder in sorted(path for path in provenance.WORK.glob("*") if path.is_dir() and path.name not in used):
        if (lock := files.lock(folder.with_suffix(".lock"))) is not None:  # else a job is at work in it
            with lock:
                left += 1
                print(("deleted " if options.yes else "unused  ") + str(folder))
                if options.yes:
                    shutil.rmtree(folder)
    advice = "; `prune --yes` deletes them" if unused + left and not options.yes else ""
    work = f", and unfinished work of {count(left, 'job')} that none goes on with" if left else ""
    print(f"{count(unused, 'result')} below {plan.root} that no rule makes any more{work}{advice}")
    return 0


def _used_work(plan: Plan) -> set[str]:
    """The folders' names of unfinished work that jobs of the plan, or of the last runs at other scales, go on with."""
    others = [f for f in (SCRATCH / "settings").rglob(provenance.MANIFEST) if f"/{plan.root}/" not in f.as_posix()]
    requests = [json.loads(dumps(job.request())) for job in rules.needed(plan).values()]
    requests += [json.loads(file.read_text(encoding="utf-8")) for file in others]
    used, look = set[str](), functools.cache(provenance.input_digest)
    for request in requests:
        with contextlib.suppress(provenance.Damaged):  # its inputs are made first, and then others
            used.add(digest(provenance.request(request, look)))
    return used


def show_leaks(options: argparse.Namespace) -> int:
    """Print what two sides of a data set share; 1 where they share a video or its footage."""
    catalogue = Catalogue(options.configfile, options.config)
    plan, corpus, vectors = catalogue.plan, catalogue.corpus(catalogue.dataset(options.dataset)), []
    if options.system:
        embedding = Path(plan.result("embeddings", options.dataset, options.system)).parent
        vectors = [embedding / plan.members(options.system)[0] / "videos"]
    try:
        text, shared = leaks.report(corpus, options.train, options.test, vectors)
    except ValueError as error:
        raise ValueError(f"{corpus}: {error}") from error
    print(text)
    return int(shared > 0)
