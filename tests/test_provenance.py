"""What is current is decided by content: settings, code, inputs, files."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from videomatch.common import digests, files
from videomatch.pipeline import provenance, reached


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
    request = wanted or {"stage": "s", "settings": {}, "code": "c", "inputs": {}, "files": {}}
    provenance.seal(path, request)
    return path / provenance.MANIFEST


def job(**changes) -> dict:
    base = {"stage": "s", "settings": {"a": {"b": 1}}, "modules": [], "code": "c", "inputs": {"x": "in/manifest.json"}}
    return {**base, "reads": {}, "files": {}, **changes}


def test_a_result_is_current_until_something_it_was_made_from_changes(there: Path):
    made("in", "1")
    asked = job()
    manifest = made("out", "result", provenance.request(asked))
    assert provenance.stale(manifest, asked) is None
    os.utime("in/value.txt", (1, 1))
    assert provenance.stale(manifest, asked) is None, "time decides nothing"
    assert provenance.stale(manifest, job(settings={"a": {"b": 2}})) == "settings changed: a.b"
    assert provenance.stale(manifest, job(code="d")) == "the code of s changed"
    assert provenance.stale(manifest, job(files={"raw": "1"})) == "files changed: raw"
    made("in", "2")
    assert provenance.stale(manifest, asked) == "input changed: x"


def test_what_a_job_does_not_read_of_an_input_does_not_concern_it(there: Path):
    made("in", "1")
    asked = job(reads={"x": ["value*"]})
    manifest = made("out", "result", provenance.request(asked))
    Path("in/other.txt").write_text("new")
    provenance.seal(Path("in"), {"stage": "s", "settings": {}, "code": "c", "inputs": {}, "files": {}})
    assert provenance.stale(manifest, asked) is None
    assert provenance.stale(manifest, job()) == "input changed: x"


def test_a_job_that_reads_what_is_not_there_is_told_so(there: Path):
    made("in", "1")
    with pytest.raises(provenance.Damaged, match="in holds no frames/"):
        provenance.request(job(reads={"x": ["frames/*"]}))


def test_of_several_results_each_may_hold_another_part_of_what_is_read(there: Path):
    paths = [str(made(name, "1")) for name in ("a", "b")]
    Path("b/value.txt").rename("b/other.txt")
    provenance.seal(Path("b"), {"stage": "s", "settings": {}, "code": "c", "inputs": {}, "files": {}})
    both = provenance.input_digests(paths, ["value*", "other*"])
    assert [d["path"] for d in both] == paths
    with pytest.raises(provenance.Damaged, match=r"b holds no value\*"):
        provenance.input_digests(paths, ["value*"])
    with pytest.raises(provenance.Damaged, match=r"a, b hold no third\*"):
        provenance.input_digests(paths, ["value*", "other*", "third*"])


@pytest.mark.parametrize("spoil", ["delete", "same size", "truncate", "manifest"])
def test_a_damaged_result_is_not_current(there: Path, spoil: str):
    manifest = made("out", "result")
    asked = job(settings={}, inputs={})
    assert provenance.stale(manifest, asked) is None
    file = Path("out/value.txt")
    if spoil == "delete":
        file.unlink()
    elif spoil == "same size":
        file.write_text("tluser")
    elif spoil == "truncate":
        file.write_text("res")
    else:
        manifest.write_text(manifest.read_text()[:-20])
    assert provenance.stale(manifest, asked) is not None


def test_a_changed_file_is_seen_at_once_even_within_the_clocks_resolution(there: Path):
    file = Path("f")
    for number in range(50):
        file.write_text(f"{number:04d}")
        assert digests.file_digest(file) == hashlib.sha256(f"{number:04d}".encode()).hexdigest()


def test_snakemake_is_told_by_times_and_nothing_is_touched(there: Path):
    made("in", "1")
    asked = job()
    manifest = made("out", "result", provenance.request(asked))
    before = manifest.read_text()
    settings = provenance.mark(manifest, asked)
    times = [p.stat().st_mtime for p in (settings, Path("in/manifest.json"), manifest)]
    assert times == sorted(set(times)), "a result is newer than its inputs and its settings"
    assert times[-1] < provenance.FIXED_TIME + 10
    provenance.mark(manifest, asked)
    assert [p.stat().st_mtime for p in (settings, Path("in/manifest.json"), manifest)] == times
    settings = provenance.mark(manifest, job(settings={"a": 3}))
    assert settings.stat().st_mtime > manifest.stat().st_mtime
    assert manifest.read_text() == before
    assert json.loads(settings.read_text())["settings"] == {"a": 3}
    settings = provenance.mark(manifest, asked)
    assert settings.stat().st_mtime < manifest.stat().st_mtime, "another mind again: nothing has to be made"


def test_a_clock_that_was_set_back_hides_nothing(there: Path):
    manifest = made("out", "result")
    os.utime(manifest, (4e9, 4e9))
    settings = provenance.mark(manifest, job(settings={"a": 1}, inputs={}))
    assert settings.stat().st_mtime > manifest.stat().st_mtime


def test_equal_sized_manifests_of_different_content_have_different_times(there: Path):
    times = set()
    for text in ("one", "two", "six"):
        manifest = made("out", text)
        provenance.mark(manifest, job(settings={}, inputs={}))
        times.add(manifest.stat().st_mtime)
    assert len(times) == 3, "DVC takes a file of the same size, inode and time for the same file"


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
    asked = job(settings={"a": {1: "x", 2: "y"}}, inputs={})
    settings = provenance.mark(Path("out/manifest.json"), asked)
    manifest = made("out", "result", provenance.request(json.loads(settings.read_text())))
    provenance.mark(manifest, asked)
    assert settings.stat().st_mtime < manifest.stat().st_mtime


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
    asked = job()
    manifest = made("out", "result", provenance.request(asked))
    provenance.mark(manifest, asked)
    manifest.unlink()  # what Snakemake does before it starts a job
    assert provenance.restore(manifest, provenance.request(asked))
    assert provenance.stale(manifest, asked) is None
    manifest.unlink()
    Path("out/value.txt").write_text("tampered")
    assert not provenance.restore(manifest, provenance.request(asked))


def test_the_code_digest_sees_code_and_neither_comments_nor_docstrings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "videomatch"
    (package / "stages").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "stages/__init__.py").write_text("")
    stage, helper = package / "stages/work.py", package / "helper.py"
    stage.write_text('"""Doc."""\nfrom videomatch import helper\n\n\ndef work():\n    return helper.x  # why\n')
    helper.write_text("x = 1\n")
    monkeypatch.setattr(reached, "PACKAGE", package)

    def digest() -> str:
        reached._read_module.cache_clear()
        reached._module_file.cache_clear()
        return reached.code_digest("work")

    first = digest()
    assert reached.code_modules("stages.work") == ["videomatch", "videomatch.helper", "videomatch.stages.work"]
    stage.write_text('"""Other."""\nfrom videomatch import helper\n\ndef work():\n    "new"\n    return helper.x\n')
    assert digest() == first
    for file, text in ((helper, "x = 2\n"), (package / "helper.yaml", "data: 1\n")):
        file.write_text(text)
        changed = digest()
        assert changed != first
        file.write_text("x = 1\n")
    assert digest() not in (first, changed), "data files count by their content"
    (package / "helper.yaml").unlink()
    assert digest() == first


def test_a_parsed_module_is_remembered_by_its_content(there: Path, monkeypatch: pytest.MonkeyPatch):
    module = there / "module.py"
    parsed = []
    real = reached._parse_module
    monkeypatch.setattr(reached, "_parse_module", lambda *given: parsed.append(1) or real(*given))

    def read() -> tuple[str, frozenset[str]]:
        reached._read_module.cache_clear()
        return reached._read_module(module)

    for text, imported in (("import os\n", {"os"}), ("import re\n", {"re"})):  # of one size, at one time
        module.write_text(text)
        os.utime(module, (1, 1))
        first = read()
        assert read() == first and first[1] == imported
    assert len(parsed) == 2


def test_a_job_reaches_the_objectives_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    package = tmp_path / "videomatch"
    (package / "stages").mkdir(parents=True)
    (package / "objectives").mkdir()
    for name in ("", "stages/", "objectives/"):
        (package / f"{name}__init__.py").write_text("")
    (package / "stages/work.py").write_text("from videomatch import objectives\n")
    (package / "objectives/pairs.py").write_text("from videomatch.precision import x\n")
    (package / "objectives/views.py").write_text("")
    (package / "precision.py").write_text("x = 1\n")
    monkeypatch.setattr(reached, "PACKAGE", package)

    reached._module_file.cache_clear()

    def named(*names: str) -> set[str]:
        every = reached.code_modules("stages.work", *names)
        return {m.removeprefix("videomatch.") for m in every} - {"videomatch", "objectives", "stages.work"}

    assert named("objectives.views") == {"objectives.views"}
    assert named("objectives.pairs") == {"objectives.pairs", "precision"}
    assert named() == {"objectives.pairs", "objectives.views", "precision"}, "no names: all that may be meant"
    reached._module_file.cache_clear()


def test_a_folder_is_replaced_whole(there: Path):
    made("out", "old")
    made("new", "new")
    files.replace_folder(Path("new"), Path("out"))
    assert Path("out/value.txt").read_text() == "new"
    assert sorted(p.name for p in there.iterdir() if not p.name.startswith(".scratch")) == ["out"]
