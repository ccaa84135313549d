"""The README's table "to add … touch …": one of each kind, added in those places alone, and built."""

import shutil
from pathlib import Path

import polars as pl
import pytest

import clips
from paths import ROOT
from repo import Repo

ADDITIONS = Path(__file__).parent / "additions"
#: where the README says that each kind belongs
PLACES = {
    "corpus.py": "src/videomatch/corpora/toy_corpus.py",
    "expert.py": "src/videomatch/experts/toy_expert.py",
    "examples.py": "src/videomatch/examples/toy_examples.py",
    "model.py": "src/videomatch/models/toy_model.py",
    "objective.py": "src/videomatch/objectives/toy_objectives.py",
    "aligner.py": "src/videomatch/aligners/toy_aligner.py",
    "table_similarity.yaml": "workflow/tables/toy_similarity.yaml",
    "table_copies.yaml": "workflow/tables/toy_copies.yaml",
    "params.yaml": "params.yaml",
}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """The project with one addition of each kind and a data set of five videos."""
    repo = Repo(tmp_path_factory.mktemp("additions") / "repo", toy=False, dvc=False)
    for source, target in PLACES.items():
        shutil.copy(ADDITIONS / source, repo.folder / target)
    raw = repo.folder / "raw"
    raw.mkdir()
    lines = ["name,label"]
    for number, label in enumerate(["a", "a", "b", "b", "b"]):
        clips.write(raw / f"{number}.mp4", range(60))
        lines.append(f"{number}.mp4,{label}")
    (raw / "videos.csv").write_text("\n".join(lines))
    repo.build()
    return repo


def test_the_readme_names_each_of_these_places():
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("| to add | touch |") :].split("\n\n")[0]
    for folder in {Path(place).parts[-2] for place in PLACES.values() if len(Path(place).parts) > 1}:
        assert f"{folder}/" in table, folder


def test_one_addition_of_each_kind_ends_in_tables(extended: Repo):
    table = pl.read_csv(extended.folder / "results/toy/tables/toy_similarity/table.csv")
    assert table["system"].drop_nulls().to_list() == ["added", "colours"] and table["mean"].is_between(-1, 1).all()
    copies = pl.read_csv(extended.folder / "results/toy/tables/toy_copies/table.csv")
    assert copies["system"].drop_nulls().to_list() == ["copied"] and copies["mean"].is_between(0, 100).all()
    assert extended.is_quiet()


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("datasets.mine.corpus", "toy_corpsu", "toy_corpus"),
        ("datasets.mine.options", {"listng": "x.csv"}, "listing"),
        ("experts.colour.extractor", "toy_exprt", "toy_expert"),
        ("experts.colour.evry", 1.0, "every"),
        ("systems.added.model.name", "toy_modl", "toy_model"),
        ("systems.added.model.oot", 3, "out"),
        ("systems.added.examples.kind", "toy_exampels", "toy_examples"),
        ("systems.added.objectives", {"toy_objektive": {}}, "toy_objective"),
        ("systems.added.objectives.toy_objective.powr", 1, "power"),
        ("systems.copied.align.aligner", "toy_alinger", "toy_aligner"),
        ("systems.copied.align.options", {"min_similarty": 1}, "min_similarity"),
        ("tables", ["toy_similarty"], "toy_similarity"),
    ],
)
def test_a_mistake_in_an_addition_is_one_clear_message(extended: Repo, path: str, value: object, message: str):
    before = (extended.folder / "params.yaml").read_text()
    extended.set(path, value)
    try:
        done = extended.run("snakemake", "-n")
    finally:
        (extended.folder / "params.yaml").write_text(before)
    said = done.stdout + done.stderr
    assert done.returncode and "1 mistake in the parameters" in said and message in said, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("place", "old", "new", "message"),
    [
        ("table_copies.yaml", "rows:", "rows: ]", "workflow/tables/toy_copies.yaml:{line}: not YAML"),
        ("table_copies.yaml", "label:", "lable:", "toy_copies.yaml:{line} rows.0.lable: no option named 'lable'"),
        (
            "table_copies.yaml",
            "system: copied",
            "system: copid",
            "toy_copies.yaml:{line} rows.0.system: no system named",
        ),
        ("aligner.py", "GRIDS", "GRID", "aligners/toy_aligner.py has no 'GRIDS'"),
        ("aligner.py", "def align", "def algin", "aligners/toy_aligner.py has no 'align'"),
        ("corpus.py", "def read", "def raed", "corpora/toy_corpus.py has no 'read'"),
        ("objective.py", "def ", "import nothing_such\n\n\ndef ", "toy_objectives.py:{line}: ModuleNotFoundError"),
        ("objective.py", "def ", "def def ", "toy_objectives.py:{line}: "),
    ],
)
def test_a_mistake_in_an_added_file_is_one_clear_message(extended: Repo, place: str, old: str, new: str, message: str):
    file = extended.folder / PLACES[place]
    before = file.read_text()
    file.write_text(before.replace(old, new, 1))
    line = before[: before.index(old)].count("\n") + 1
    try:
        done = extended.run("snakemake", "-n")
    finally:
        file.write_text(before)
    said = done.stdout + done.stderr
    assert done.returncode and message.format(line=line) in said, said
    assert "Traceback" not in said


def test_without_tables_pages_and_submissions_there_is_nothing_to_make(extended: Repo):
    before = (extended.folder / "params.yaml").read_text()
    extended.set("tables", [])
    try:
        done = extended.run("snakemake", "-n")
    finally:
        (extended.folder / "params.yaml").write_text(before)
    assert done.returncode and "nothing to make" in done.stdout + done.stderr
