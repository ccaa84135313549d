"""``videomatch``: what a person types beside ``snakemake`` and ``dvc``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import yaml

from videomatch import dvcfile, provenance
from videomatch import params as parameters
from videomatch.data import tables
from videomatch.plan import Plan


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="videomatch", description=__doc__)
    parser.add_argument(
        "--configfile", type=Path, action="append", default=[], help="laid over params.yaml, as in snakemake"
    )
    parser.add_argument("--config", action="append", default=[], metavar="KEY=VALUE", help="as in snakemake")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tables", help="print the tables of the last run, and where everything lies")
    dvc = commands.add_parser("dvc", help="write dvc.yaml from the rules and params.yaml")
    dvc.add_argument("--check", action="store_true", help="only say whether it is up to date")
    prune = commands.add_parser("prune", help="list results that no rule makes any more")
    prune.add_argument("--yes", action="store_true", help="delete them")
    options = parser.parse_args(argv)
    try:
        if options.command == "dvc":
            return write_dvc(options.check)
        plan = Plan(
            parameters.resolved(
                read_config(options.configfile, options.config), [Path("params.yaml"), *options.configfile]
            )
        )
        return show_tables(plan) if options.command == "tables" else prune_results(plan, options.yes)
    except (parameters.ParamsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def read_config(files: Sequence[Path], values: Sequence[str] = ()) -> dict:
    """params.yaml with further files and values laid over it, as Snakemake does it."""
    config: dict = {}
    for file in (Path("params.yaml"), *files):
        config = parameters.overlay(config, yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    for value in values:
        key, _, text = value.partition("=")
        config = parameters.overlay(config, {key: yaml.safe_load(text)})
    return config


def write_dvc(check: bool) -> int:
    """Write dvc.yaml, or compare it."""
    wanted, file = dvcfile.text(Path("params.yaml")), Path("dvc.yaml")
    if check:
        same = file.exists() and file.read_text(encoding="utf-8") == wanted
        print("dvc.yaml is up to date" if same else "dvc.yaml is out of date: run `videomatch dvc`")
        return 0 if same else 1
    provenance.write_text(file, wanted)
    return 0


def show_tables(plan: Plan) -> int:
    """Print every table, the number of rejected videos, and where the results lie."""
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
    found = {}
    for dataset in plan.needed_datasets():
        features = {m for e in plan.dataset(dataset).get("experts", []) for m in plan.features(dataset, e)}
        folders = [Path(m).parent for m in (plan.corpus(dataset), *sorted(features))]
        found[dataset] = tables.read("rejected", *folders).unique(["path", "reason"]).sort("path")
    return found


def prune_results(plan: Plan, delete: bool) -> int:
    """List (or delete) results below results/<scale> that the current parameters do not make."""
    wanted = {*plan.data_results(), *plan.systems_results(), *plan.benchmark_results()}
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
