"""What is current is decided by content: settings, code, inputs, files."""

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from paths import ROOT
from videomatch.common import digests
from videomatch.pipeline import compiled, provenance

REQUEST = {"stage": "s", "settings": {}, "code": "c", "inputs": {}, "files": {}}


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def made(folder: str, text: str, wanted: dict | None = None) -> Path:
    """A sealed result with one file."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    (path / "value.txt").write_text(text)
    (path / "other.txt").write_text("other")
    provenance.seal(path, wanted or REQUEST)
    return path / provenance.MANIFEST


def job(**changes) -> dict:
    own = {"settings": {"a": {"b": 1}}, "modules": [], "inputs": {"x": "in/manifest.json"}, "reads": {}}
    return REQUEST | own | changes


def test_a_result_is_current_until_something_it_was_made_from_changes(there: Path):
    made("in", "1")
    wanted = job()
    manifest = made("out", "result", provenance.request(wanted))
    assert provenance.why(manifest, wanted) is None
    os.utime("in/value.txt", (1, 1))
    assert provenance.why(manifest, wanted) is None, "time decides nothing"
    assert provenance.why(manifest, job(settings={"a": {"b": 2}}))
    assert provenance.why(manifest, job(code="d"))
    assert provenance.why(manifest, job(files={"raw": "1"}))
    made("in", "2")
    assert provenance.why(manifest, wanted)


def test_a_queued_experiment_remembers_in_the_project_that_it_is_a_copy_of(there: Path):
    copy = there / ".dvc/tmp/exps/tmp1"
    copy.mkdir(parents=True)
    for folder in (there, copy):
        (folder / "params.yaml").touch()
    code = "from videomatch.common.digests import cached; print(cached('name', 'key', lambda: {!r}))"
    said = [
        subprocess.run([sys.executable, "-c", code.format(folder.name)], cwd=folder, capture_output=True, text=True)
        for folder in (copy, there)
    ]
    assert [done.stdout.strip() for done in said] == ["tmp1", "tmp1"]
    assert (there / digests.SCRATCH / digests.MEMORY).exists() and not (copy / digests.SCRATCH).exists()


def test_what_is_made_right_after_a_stale_result_was_is_newer_than_its_settings(there: Path):
    """Such a result, of a job that was killed with its workflow a moment ago, ended the next one without a word."""
    made("in", "1")
    manifest = made("out", "result", provenance.request(job()))
    assert provenance.mark(manifest, job(settings={"a": 2}))
    assert not provenance.is_made(manifest)
    made("out", "another", provenance.request(job(settings={"a": 2})))
    assert provenance.is_made(manifest)


def test_results_of_a_file_system_whose_clock_is_ahead_are_not_waited_for(there: Path, monkeypatch):
    """At each of thousands of results it would take a second."""
    manifest = made("out", "result")
    later = time.time() + 100
    os.utime(manifest, (later, later))
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail(f"it waited {seconds} s"))
    provenance.mark(manifest, job(inputs={}))
    assert not provenance.is_made(manifest)


def test_the_versions_in_a_manifest_are_those_of_now(there: Path, monkeypatch: pytest.MonkeyPatch):
    Path("params.yaml").touch()  # digests are remembered in this folder
    monkeypatch.syspath_prepend(there / "packages")
    for version in ("7.1", "7.1", "7.2"):
        shutil.rmtree("packages", ignore_errors=True)
        Path(f"packages/polars-{version}.dist-info").mkdir(parents=True)
        Path(f"packages/polars-{version}.dist-info/METADATA").write_text(f"Name: polars\nVersion: {version}\n")
        environment = json.loads(made("out", "1").read_text())["environment"]
        assert environment["polars"] == version and environment["numpy"] == metadata.version("numpy")


def test_what_a_job_does_not_read_of_an_input_does_not_concern_it(there: Path):
    made("in", "1")
    wanted = job(reads={"x": ["value*"]})
    manifest = made("out", "result", provenance.request(wanted))
    Path("in/other.txt").write_text("new")
    provenance.seal(Path("in"), REQUEST)
    assert provenance.why(manifest, wanted) is None
    assert provenance.why(manifest, job())


def test_a_job_that_reads_what_is_not_there_is_told_so(there: Path):
    made("in", "1")
    with pytest.raises(provenance.Damaged, match="in holds no frames/"):
        provenance.request(job(reads={"x": ["frames/*"]}))


def test_of_several_results_each_may_hold_another_part_of_what_is_read(there: Path):
    paths = [str(made(name, "1")) for name in ("a", "b")]
    Path("b/value.txt").rename("b/other.txt")
    provenance.seal(Path("b"), REQUEST)
    both = provenance.input_digests(paths, ["value*", "other*"])
    assert [d["path"] for d in both] == paths
    with pytest.raises(provenance.Damaged, match=r"b holds no value\*"):
        provenance.input_digests(paths, ["value*"])
    with pytest.raises(provenance.Damaged, match=r"a, b hold no third\*"):
        provenance.input_digests(paths, ["value*", "other*", "third*"])


@pytest.mark.parametrize("spoil", ["delete", "same size", "truncate", "manifest"])
def test_a_damaged_result_is_not_current(there: Path, spoil: str):
    manifest = made("out", "result")
    wanted = job(settings={}, inputs={})
    assert provenance.why(manifest, wanted) is None
    file = Path("out/value.txt")
    if spoil == "delete":
        file.unlink()
    elif spoil == "same size":
        file.write_text("tluser")
    elif spoil == "truncate":
        file.write_text("res")
    else:
        manifest.write_text(manifest.read_text()[:-20])
    assert provenance.why(manifest, wanted)


def without(record: Any, *keys: str) -> Any:
    *above, last = keys
    for key in above:
        record = record[int(key) if isinstance(record, list) else key]
    record.pop(last)


DAMAGES = {
    "no outputs": lambda record: without(record, "outputs"),
    "outputs a list": lambda record: record.update(outputs=list(record["outputs"])),
    "no size": lambda record: without(record, "outputs", "value.txt", "size"),
    "no digest": lambda record: without(record, "outputs", "value.txt", "sha256"),
    "a file's entry null": lambda record: record["outputs"].update({"value.txt": None}),
    "a size in words": lambda record: record["outputs"]["value.txt"].update(size="six"),
    "a digest of numbers": lambda record: record["outputs"]["value.txt"].update(sha256=[1]),
    "no inputs": lambda record: without(record, "inputs"),
    "inputs null": lambda record: record.update(inputs=None),
    "an input's path missing": lambda record: without(record, "inputs", "x", "0", "path"),
    "an input a number": lambda record: record["inputs"].update(x=[7]),
    "inputs of one input a number": lambda record: record["inputs"].update(x=7),
    "an input's digest null": lambda record: record["inputs"]["x"][0].update(digest=None),
}


@pytest.mark.parametrize("spoil", DAMAGES)
def test_a_manifest_of_another_shape_is_as_good_as_none(there: Path, spoil: str):
    made("in", "1")
    wanted = job()
    manifest = made("out", "result", provenance.request(wanted))
    above = job(inputs={"x": str(manifest)})
    record = json.loads(manifest.read_text())
    DAMAGES[spoil](record)
    manifest.write_text(json.dumps(record))
    assert provenance.load(manifest) is None
    assert provenance.mark(manifest, wanted) == "its manifest is damaged"
    assert is_marked_stale(manifest), "it is made again"
    assert provenance.why(Path("above/manifest.json"), above)
    with pytest.raises(provenance.Damaged, match=r"out/manifest\.json is missing or not whole"):
        provenance.request(above)


@pytest.mark.parametrize("text", ["", "[]", "null", "7", '"outputs"', "{", "[" * 100_000, "\udcff"])
def test_a_manifest_that_is_no_mapping_is_as_good_as_none(there: Path, text: str):
    Path("manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert provenance.load(Path("manifest.json")) is None


def test_a_changed_file_is_seen_at_once_even_within_the_clocks_resolution(there: Path):
    file = Path("f")
    for number in range(50):
        file.write_text(f"{number:04d}")
        assert digests.file_digest(file) == hashlib.sha256(f"{number:04d}".encode()).hexdigest()


def is_marked_stale(manifest: Path) -> bool:
    """Whether Snakemake takes a result for stale: it is older than the settings of its job."""
    return provenance.settings_file(manifest).stat().st_mtime > manifest.stat().st_mtime


def test_snakemake_is_told_by_times_and_no_result_is_touched(there: Path):
    made("in", "1")
    wanted = job()
    manifest = made("out", "result", provenance.request(wanted))
    before, stat = manifest.read_text(), manifest.stat()
    settings = provenance.settings_file(manifest)
    for _ in range(2):
        assert provenance.mark(manifest, wanted) is None
        assert settings.stat().st_mtime < manifest.stat().st_mtime
    assert provenance.mark(manifest, job(settings={"a": 3})) == "settings changed (a)"
    assert is_marked_stale(manifest)
    assert json.loads(settings.read_text())["settings"] == {"a": 3}
    assert provenance.mark(manifest, wanted) is None
    assert settings.stat().st_mtime < manifest.stat().st_mtime, "another mind again: nothing has to be made"
    provenance.outdate(manifest)
    assert is_marked_stale(manifest), "what is made together with others is made again with them"
    assert (manifest.read_text(), manifest.stat()) == (before, stat)


@pytest.mark.parametrize("time", [0, 4e9])
def test_a_clock_that_was_set_wrong_hides_nothing(there: Path, time: float):
    manifest = made("out", "result")
    os.utime(manifest, (time, time))
    assert provenance.mark(manifest, job(settings={"a": 1}, inputs={})) is not None
    assert is_marked_stale(manifest)
    assert provenance.mark(manifest, job(settings={}, inputs={})) is None
    assert not is_marked_stale(manifest)


def test_a_tree_is_seen_through_links_and_with_odd_names(there: Path):
    raw, other = there / "raw", there / "other"
    raw.mkdir()
    other.mkdir()
    (raw / os.fsdecode(b"\xff.mp4")).write_text("1")
    (raw / "linked").symlink_to(other)
    (other / "circle").symlink_to(raw)
    first = digests.tree_digest(raw)
    assert digests.tree_digest(raw) == first
    (other / "new.mp4").write_text("2")
    assert digests.tree_digest(raw) != first


def test_settings_that_json_changes_do_not_run_for_ever(there: Path):
    wanted = job(settings={"a": {1: "x", 2: "y"}}, inputs={})
    provenance.mark(Path("out/manifest.json"), wanted)
    settings = provenance.settings_file(Path("out/manifest.json"))
    manifest = made("out", "result", provenance.request(json.loads(settings.read_text())))
    assert provenance.mark(manifest, wanted) is None


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_caches_link_is_replaced_and_the_cache_left_alone(there: Path, link):
    manifest = made("out", "result")
    cached = there / "cache"
    manifest.rename(cached)
    link(cached, manifest)
    cached.chmod(0o444)
    before = cached.stat().st_mtime_ns
    provenance.mark(manifest, job(settings={}, inputs={}))
    assert cached.stat().st_mtime_ns == before
    assert not manifest.is_symlink()
    assert manifest.stat().st_nlink == 1


def test_a_result_is_restored_from_memory_when_its_inputs_turn_out_the_same(there: Path):
    made("in", "1")
    wanted = job()
    manifest = made("out", "result", provenance.request(wanted))
    provenance.mark(manifest, wanted)
    manifest.unlink()  # what Snakemake does before it starts a job
    assert provenance.restore(manifest, provenance.request(wanted))
    assert provenance.why(manifest, wanted) is None
    manifest.unlink()
    Path("out/value.txt").write_text("tampered")
    assert not provenance.restore(manifest, provenance.request(wanted))


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package with a stage ``work`` that imports a module ``helper``, and the objectives."""
    package = tmp_path / "src/videomatch"
    shutil.copytree(ROOT / "src/videomatch", package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "stages/work.py").write_text(
        '"""Doc."""\nfrom videomatch import objectives\nfrom videomatch.common import helper\nx = helper.x  # why\n'
    )
    (package / "common/helper.py").write_text("x = 1\n")
    return package


def asked(package: Path, question: str) -> Any:
    """A function of ``reached``, called in a process that has this package."""
    program = f"import json; from videomatch.pipeline import reached; print(json.dumps(reached.{question}))"
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    return json.loads(subprocess.check_output([sys.executable, "-c", program], cwd=package, env=environment))


def test_the_code_digest_sees_code_and_neither_comments_nor_docstrings(package: Path):
    def digest() -> str:
        return asked(package, "code_digest('stages.work')")

    first = digest()
    stage, helper = package / "stages/work.py", package / "common/helper.py"
    stage.write_text(stage.read_text().replace("Doc.", "Other.").replace("# why", ""))
    assert digest() == first
    os.utime(helper, (1, 1))
    for text, same in (("x = 2\n", False), ("x = 1\n", True)):  # of one size, at one time
        helper.write_text(text)
        os.utime(helper, (1, 1))
        assert (digest() == first) == same
    seen = {first}
    for text in ("data: 1\n", "data: 2\n"):
        (package / "common/helper.yaml").write_text(text)
        seen.add(digest())
    assert len(seen) == 3, "data files count by their content"


def test_a_job_reaches_the_objectives_that_it_names(package: Path):
    def digests() -> list[str]:
        return [asked(package, f"code_digest('stages.work', {name!r})") for name in ("objectives.margins", "common")]

    pairs, every = digests()
    for module, of_pairs in (("common/helper", True), ("objectives/margins", True), ("objectives/segments", False)):
        with (package / f"{module}.py").open("a") as file:
            file.write("\nchanged = 1\n")
        before, (pairs, every) = (pairs, every), digests()
        assert (pairs != before[0]) == of_pairs, module
        assert every != before[1], "no names: all that may be meant"


OBJECTIVES = """import math
import os as system
from videomatch.common import helper

SCALE = 2
OTHER = 3


def one(x):
    return _half(x) * SCALE * math.e


def two(x):
    return helper.x * OTHER


def _half(x):
    return x / 2
"""


@pytest.mark.parametrize(
    ("before", "after", "seen"),
    [
        ("x / 2", "x / 3", True),  # a function that it calls
        ("SCALE = 2", "SCALE = 4", True),
        ("* math.e", "", True),
        ("import math", "import cmath as math", True),
        ("SCALE = 2", "SCALE = 2\nSCALE += 1", True),
        ("SCALE = 2", "SCALE = 2\nif OTHER:\n    SCALE = 5", True),
        ("SCALE = 2", "SCALE = 2\nregister(helper)", True),  # it runs on import
        ("def one", "@wrapped\ndef one", True),
        ("OTHER = 3", "OTHER = 4", False),
        ("helper.x * OTHER", "0", False),
        ("import math", "import math\nimport cmath", False),
        ("def _half", "def three(x):\n    return two(x)\n\n\ndef _half", False),
        ("import os as system\n", "", False),
    ],
)
def test_a_job_that_names_a_function_sees_what_that_reaches(package: Path, before: str, after: str, seen: bool):
    file = package / "objectives/several.py"
    question = "code_digest('stages.work', 'objectives.several:one')"
    file.write_text(OBJECTIVES)
    first, whole = asked(package, question), asked(package, "code_digest('objectives.several')")
    assert before in OBJECTIVES
    file.write_text(OBJECTIVES.replace(before, after, 1))
    assert (asked(package, question) != first) == seen
    assert asked(package, "code_digest('objectives.several')") != whole, "who names the module sees all of it"


def test_of_two_functions_both_are_seen_and_what_another_module_imports_counts_whole(package: Path):
    file = package / "objectives/several.py"

    def digests_of(text: str) -> list[str]:
        file.write_text(text)
        names = "'objectives.several:one', 'objectives.several:two'"
        return [asked(package, f"code_digest('stages.work', {n})") for n in (names, "'objectives.several:one'")]

    first = digests_of(OBJECTIVES)
    second = digests_of(OBJECTIVES.replace("OTHER = 3", "OTHER = 4"))
    assert (first[0] != second[0], first[1] != second[1]) == (True, False)
    stage = package / "stages/work.py"
    stage.write_text(stage.read_text() + "from videomatch.objectives import several\n")
    assert digests_of(OBJECTIVES)[1] != digests_of(OBJECTIVES.replace("OTHER = 3", "OTHER = 4"))[1]


@pytest.mark.parametrize("cut", [17, 60, -1])
def test_a_compiled_file_that_a_full_disk_cut_short_is_removed_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: int
):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    name = f"short{cut % 100}"
    (tmp_path / f"{name}.py").write_text("VALUE = [number for number in range(7)]\n")
    importlib.import_module(name)
    [file] = tmp_path.glob("__pycache__/*.pyc")
    file.write_bytes(file.read_bytes()[:cut])
    del sys.modules[name]
    with pytest.raises((EOFError, ValueError, TypeError)) as raised:
        importlib.import_module(name)
    assert str(compiled.mend(raised.value)).startswith(f"{file} was damaged, as by a full disk")
    assert importlib.import_module(name).VALUE[-1] == 6
    assert compiled.mend(ValueError("of a job")) is None


def test_why_a_result_is_stale_is_said_in_words(there: Path):
    made("in", "1")
    wanted = job(files={"raw": "1"})
    manifest = made("out", "result", provenance.request(wanted))
    assert provenance.why(manifest, wanted) is None
    assert provenance.why(Path("none/manifest.json"), wanted) == "not made yet"
    changed = job(settings={"a": {"b": 2}, "c": 1}, code="d", files={"raw": "2"})
    assert provenance.why(manifest, changed) == "settings changed (a.b, c); code changed; files changed (raw)"
    made("in", "2")
    assert provenance.why(manifest, wanted) == "inputs changed (in)"
    Path("in/manifest.json").unlink()
    assert "in/manifest.json is missing" in str(provenance.why(manifest, wanted))
