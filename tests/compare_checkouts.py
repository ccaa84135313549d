"""Whether two checkouts give the same numbers: ``python tests/compare_checkouts.py OLD NEW [--tables NAME …]``.

Each checkout's own ``params.yaml``, made small, is built in a temporary copy; then every value of every table and every
metric is compared, digit by digit. A comparison of two checkouts on one machine, since processors differ in last bits.
``--only FOLDER`` builds one checkout and leaves its numbers in ``FOLDER/numbers.json``, to compare with later
(``--before numbers.json``).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

TABLES = ("similarity_overview", "search_overview", "search_avs", "samesource_overview")
SIZES: dict[str, dict[str, Any]] = {
    "videos": {"videos": 400, "pairs": 4, "size": 64, "topics": 4, "captions": 4},
    "films": {"videos": 100, "size": 64, "median_duration": 10, "max_duration": 20},
}


def small(params: dict[str, Any], tables: list[str]) -> dict[str, Any]:
    """The demo's parameters with few videos, one epoch and at most two seeds and folds; every system stays."""
    for name, options in SIZES.items():
        params["datasets"][name]["options"] |= options
    for system in params["systems"].values():
        if "epochs" in system.get("training", {}):
            system["training"]["epochs"] = 1
        if "seeds" in system:
            system["seeds"] = system["seeds"][:2]
        if isinstance(system.get("folds"), dict):
            system["folds"]["only"] = system["folds"]["only"][:2]
        if system.get("examples", {}).get("synthetic"):
            system["examples"]["synthetic"] = 64
    params["tables"] = tables
    for page in params["pages"].values():
        page["tables"] = [table for table in page.get("tables", []) if table in tables]
    return params


def numbers(checkout: Path, tables: list[str]) -> dict[str, Any]:
    """Build a copy of a checkout; every cell of its tables and every metric, as text."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        for name in ("Snakefile", "workflow", "profiles", "src", "params.yaml", "pyproject.toml"):
            source = checkout / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                copy.mkdir(exist_ok=True)
                shutil.copy(source, copy / name)
        params = small(yaml.safe_load((copy / "params.yaml").read_text()), tables)
        (copy / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        environment = {**os.environ, "PYTHONPATH": str(copy / "src")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        command = [str(Path(sys.executable).with_name("snakemake"))]
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        done = subprocess.run(command, cwd=copy, env=environment, text=True, capture_output=True, check=False)
        if done.returncode:
            logs = "\n".join(
                p.read_text()[-2000:] for p in sorted((copy / "logs").rglob("*.log")) if "Traceback" in p.read_text()
            )
            sys.exit(f"{checkout}: the build failed\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}\n{logs[-6000:]}")
        found: dict[str, Any] = {}
        results = copy / "results" / params["scale"]
        for file in sorted(results.glob("tables/*/table.csv")):
            with file.open(newline="") as opened:
                for row in csv.DictReader(opened):
                    key = "/".join([file.parent.name, row.get("label", row["system"]), row["metric"]])
                    found[key] = [row[name] for name in ("mean", "sd", "low", "high", "runs") if name in row]
        for file in sorted(results.glob("metrics/**/metrics.json")):
            found[f"{file.parent.relative_to(results)}"] = json.loads(file.read_text())
        return found


def differences(before: Any, after: Any, path: str = "") -> list[str]:
    """Where two nested values differ, as ``path: before -> after``."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [d for k in keys for d in differences(before.get(k), after.get(k), f"{path}/{k}")]
    return [] if before == after else [f"{path}: {before} -> {after}"]


def main() -> int:
    """Compare, or build one side only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--tables", nargs="+", default=list(TABLES))
    parser.add_argument("--before", type=Path, help="numbers.json of an earlier build, instead of a first checkout")
    parser.add_argument("--only", type=Path, help="build one checkout and write its numbers into this folder")
    options = parser.parse_args()
    built = [numbers(checkout.resolve(), options.tables) for checkout in options.checkouts]
    if options.only:
        options.only.mkdir(parents=True, exist_ok=True)
        (options.only / "numbers.json").write_text(json.dumps(built[0], indent=1, sort_keys=True))
        return 0
    if options.before:
        known = json.loads(options.before.read_text())
        shown = {k for t in options.tables for k in known if k.startswith(f"{t}/")} | (built[0].keys() & known.keys())
        built.insert(0, {k: v for k, v in known.items() if k in shown})
    found = differences(*built)
    print("\n".join(found[:200]))
    print(f"{len(built[0])} entries compared, {len(found)} differ")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
