"""The commands for results of the workflow: ``tables``, ``prune``, ``dvc`` and ``leaks``."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import polars as pl

from videomatch.app import leaks
from videomatch.app.catalogue import Catalogue
from videomatch.app.requests import load_plan
from videomatch.common import files
from videomatch.pipeline import dvcfile, provenance, rules


def write_dvc(options: argparse.Namespace) -> int:
    """Write dvc.yaml, or tell whether it is up to date."""
    wanted, file = dvcfile.text(Path("params.yaml")), Path("dvc.yaml")
    if options.check:
        same = file.exists() and file.read_text(encoding="utf-8") == wanted
        print("dvc.yaml is up to date" if same else "dvc.yaml is out of date: run `videomatch dvc`")
        return int(not same)
    files.write_text(file, wanted)
    return 0


def show_tables(options: argparse.Namespace) -> int:
    """Print every table, the rejected videos, and where the results are."""
    plan = load_plan(options.configfile, options.config)
    for name in plan.tables:
        path = Path(plan.result("tables", name)).parent / "table.md"
        print(path.read_text(encoding="utf-8") if path.exists() else f"{path} does not exist yet: run `snakemake`\n")
    for dataset in rules.datasets(plan):
        rejected = rules.rejected(plan, dataset)
        print(f"{dataset}: {len(rejected)} files were rejected" + (":" if len(rejected) else ""))
        with pl.Config(tbl_rows=-1, fmt_str_lengths=100, tbl_hide_dataframe_shape=True, tbl_width_chars=160):
            if len(rejected):
                print(rejected)
    print(f"\ntables:  {plan.root}/tables/*/table.md")
    for page in plan.pages:
        print(f"page:    {Path(plan.result('pages', page)).parent}/index.html")
    for dataset in rules.datasets(plan):
        print(f"corpus:  {Path(plan.result('corpora', dataset)).parent}/card.md")
    return 0


def prune(options: argparse.Namespace) -> int:
    """List (or delete) results below results/<scale> that the current parameters do not make."""
    plan = load_plan(options.configfile, options.config)
    wanted = {result for results in rules.results(plan).values() for result in results}
    needed = {parent for path in wanted for parent in Path(path).parents}
    for manifest in sorted(Path(plan.root).rglob(provenance.MANIFEST)):
        folder = manifest.parent
        # hidden folders are those that a running job writes
        if folder in needed or any(part.startswith(".") for part in manifest.parts):
            continue
        print(("deleted " if options.yes else "unused  ") + str(folder))
        if options.yes:
            shutil.rmtree(folder)
    return 0


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
