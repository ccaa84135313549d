"""The house's own rules: which way imports go, what every public name says, what no file may hold."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from paths import ROOT

PACKAGE = ROOT / "src/videomatch"
#: floors from the top down; a module imports from its own floor's package or from lower floors
FLOORS = [
    {"__main__", "cli"},
    {"app"},
    {"pipeline"},
    {"stages"},
    {"models", "experts", "aligners"},
    {"corpora"},
    {"synthetic"},
    {"training", "reports"},
    {"examples"},
    {"localisation", "media"},
    {"retrieval"},
    {"specs"},
    {"data"},
    {"objectives", "metrics"},
    {"common"},
]


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def floor(name: str) -> int | None:
    return next((number for number, rooms in enumerate(FLOORS) if name in rooms), None)


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names]
        found |= {n.split(".")[1] for n in names if n.startswith("videomatch.")}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path: Path):
    here = room(path)
    if here == "__init__":
        return
    assert floor(here) is not None, f"{path} stands on no floor"
    for there in imported(path) - {here}:
        target = floor(there)
        if target is None:
            continue
        own = floor(here)
        assert own is not None
        assert target > own, f"{here} imports {there}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_say_what_they_are(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), f"{path} opens without a docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"


def tracked() -> list[Path]:
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    paths = [ROOT / line for line in done.stdout.splitlines()]
    return [
        p for p in paths if p.is_file() and p.suffix in {".py", ".md", ".yaml", ".smk", ".toml", ".txt", ".lock", ""}
    ]


def test_no_file_knows_one_machine_or_a_registrys_host():
    odd = re.compile(r"(?<![\w.])/(?:work|root|home)/\w|pypi\.org|pythonhosted|npmjs")
    found = [f"{p}: {m.group()}" for p in tracked() for m in [odd.search(p.read_text(encoding="utf-8"))] if m]
    assert [f for f in found if "test_house.py" not in f] == []


def test_nothing_unsafe_is_loaded():
    odd = re.compile(r"pickle\.load|allow_pickle=True|weights_only=False|yaml\.load\(|(?<!\.)\beval\(")
    found = [f"{p}: {line}" for p in modules() for line in p.read_text().splitlines() if odd.search(line)]
    assert found == []


def test_every_reported_number_has_its_source():
    for file in sorted((ROOT / "workflow/tables").glob("*.yaml")):
        for row in yaml.safe_load(file.read_text())["rows"]:
            assert bool(row.get("reported")) == bool(row.get("source")), f"{file}: {row['label']}"


def test_committed_tables_render_from_committed_metrics(tmp_path: Path):
    from videomatch.pipeline import jobs
    from videomatch.pipeline import params as parameters
    from videomatch.pipeline.plan import Plan
    from videomatch.stages.tabulate import tabulate

    plan = Plan(parameters.resolved(yaml.safe_load((ROOT / "params.yaml").read_text())))
    for table in plan.tables:
        committed = ROOT / plan.table(table)
        if not committed.exists():
            pytest.skip(f"{plan.table(table)} is not committed")
        job = jobs.tabulate(plan, table)
        metrics = [(ROOT / p).parent for p in job.inputs["metrics"] or []]
        tabulate(metrics=metrics, output=tmp_path / table, **job.settings)
        for name in ("table.md", "table.csv"):
            assert (tmp_path / table / name).read_bytes() == (committed.parent / name).read_bytes(), table
