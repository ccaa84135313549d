"""Rules of the package's structure: which way imports go, what public names document, what no file may hold."""

import ast
import functools
import graphlib
import importlib
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from paths import ROOT
from videomatch.common import named
from videomatch.specs.reports import Reported

PACKAGE = ROOT / "src/videomatch"
#: layers from the top down: a room imports from itself and from rooms on lower layers
LAYERS = [
    {"__main__", "cli"},
    {"folders"},
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
#: who may enter the generated corpus
SYNTHETIC = {"stages/render.py", "corpora/generated.py"}


@functools.cache
def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def name(path: Path) -> str:
    """The dotted name of a file, a package's by its folder."""
    relative = path.relative_to(PACKAGE.parent).with_suffix("")
    return ".".join(relative.parts[:-1] if relative.stem == "__init__" else relative.parts)


@functools.cache
def imported(path: Path) -> set[str]:
    """Dotted names of the package's modules that a file imports, wherever in the file the import stands."""
    known, found = {name(p) for p in modules()}, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{a.name}" for a in node.names]
            names = [n if n in known else node.module for n in inner]
        found |= {n for n in names if n in known}
    return found - {name(path)}


def test_imports_go_down_only():
    layer = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    wrong = []
    for path in modules():
        here = room(path)
        if here == "__init__":
            continue
        assert here in layer, f"{path} belongs to no layer"
        for there in {n.split(".")[1] for n in imported(path) if "." in n} - {here}:
            if layer[there] <= layer[here]:
                wrong.append(f"{path.relative_to(PACKAGE)} imports {there}")
    assert wrong == []


def test_no_module_imports_itself_by_others():
    graphlib.TopologicalSorter({name(path): imported(path) for path in modules()}).prepare()  # an error names a cycle


def test_modules_are_imported_by_name_in_one_place():
    dynamic = [p for p in modules() if re.search(r"import_module|__import__|TYPE_CHECKING", p.read_text())]
    assert [str(p.relative_to(PACKAGE)) for p in dynamic] == ["common/named.py"]


def test_rooms_are_few_and_of_a_size_to_be_taken_in():
    rooms = [p for p in PACKAGE.iterdir() if p.is_dir() and list(p.glob("*.py"))]
    assert len(rooms) <= 20
    assert {p.stem for p in PACKAGE.glob("*.py")} == {"__init__", "__main__", "cli"}
    assert {r.name: n for r in rooms if (n := len(list(r.rglob("[!_]*.py")))) > 18} == {}
    lines = {p: len(p.read_text().splitlines()) for p in modules()}
    assert {str(p): n for p, n in lines.items() if n > 500} == {}


def test_the_generated_corpus_is_entered_by_its_renderer_and_its_reader_alone():
    entering = {p for p in modules() if any(n.startswith("videomatch.synthetic") for n in imported(p))}
    assert {str(p.relative_to(PACKAGE)) for p in entering if room(p) != "synthetic"} <= SYNTHETIC


def test_no_stage_reaches_what_the_package_itself_offers():
    """Else a change to it would make all results again."""
    files = {name(path): path for path in modules()}
    reached, waiting = set[str](), [f"videomatch.stages.{stage}" for stage in named.names("stages")]
    while waiting:
        if (module := waiting.pop()) not in reached:
            reached.add(module)
            waiting += imported(files[module])
    assert {"videomatch.stages.train", "videomatch.training.loop"} <= reached
    assert not any(module.split(".")[1:2] in (["app"], ["folders"]) for module in reached)


def test_no_private_name_of_another_package_is_used():
    """``torch._x``, ``tensor._version``, ``other_module._function``. (``os._exit`` is public and documented.)"""
    found = []
    for path in [*modules(), *sorted((ROOT / "workflow").rglob("*.smk")), ROOT / "Snakefile"]:
        text = path.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            private = re.search(r"(?<![\w.])(?!self\b|cls\b|videomatch\b)\w+(?:\.\w+)*\._[a-z]\w*", line.split("#")[0])
            own = private and f"def {private.group().rpartition('.')[2]}(" in text
            if private and not own and private.group() != "os._exit":
                found.append(f"{path.relative_to(ROOT)}:{number}: {private.group()}")
    assert found == []


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_public_names_say_what_they_are(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if tree.body:
        assert ast.get_docstring(tree), f"{path} opens without a docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_name_what_exists(path: Path):
    """No suite runs them; so what they import of the package, and use of its modules, is looked up."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("videomatch"):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = inner in {name(p) for p in modules()}
                found[alias.asname or alias.name] = importlib.import_module(inner if is_module else str(node.module))
                assert is_module or hasattr(found.pop(alias.asname or alias.name), alias.name), inner
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in found:
            assert hasattr(found[node.value.id], node.attr), f"line {node.lineno}: {node.value.id}.{node.attr}"


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


def test_every_reported_number_has_its_source_and_split():
    """As the check of the parameters sees a table's file: in none are numbers beside ours, or without either."""
    for file in sorted((ROOT / "workflow/tables").glob("*.yaml")):
        table = yaml.safe_load(file.read_text())
        assert not any({"reported", "source"} & row.keys() for row in table["rows"]), file.name
        for group in table.get("reported", []):
            missing = [name for name in ("source", "corpus", "split") if not str(group.get(name) or "").strip()]
            assert not missing and group["rows"], f"{file.name}: {missing} of {list(group['rows'])}"
            assert list(Reported.read(group).mistakes()) == [], file.name
