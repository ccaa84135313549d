"""Files that are written whole, locks, and processes that end with others."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from videomatch.common import files
from videomatch.specs.similarity import Noise, SimilarityMap


def test_a_file_is_written_whole_and_never_through_a_link(tmp_path: Path):
    (tmp_path / "elsewhere").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    files.write_json(tmp_path / "link", {"b": "ü", "a": 1}, sort_keys=True)
    assert (tmp_path / "link").read_text() == '{\n "a": 1,\n "b": "ü"\n}\n'
    assert (tmp_path / "elsewhere").read_text() == "old"


def test_an_error_leaves_the_old_file_and_nothing_unfinished(tmp_path: Path):
    files.write_text(tmp_path / "deep/file", "old")
    with pytest.raises(OSError, match="disk full"), files.replacing(tmp_path / "deep/file") as new:
        new.write_text("half")
        raise OSError("disk full")
    assert [(p.name, p.read_text()) for p in (tmp_path / "deep").iterdir()] == [("file", "old")]


def test_a_folder_is_replaced_whole(tmp_path: Path):
    for content in ("old", "new"):
        with files.replacing(tmp_path / "out") as new:
            new.mkdir()
            (new / content).write_text(content)
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("*"))] == ["out", "out/new"]


@pytest.fixture
def dead() -> Iterator[int]:
    """A process that has ended, as in a container where nobody waits for orphans."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


def test_what_dead_processes_of_this_host_left_is_swept(tmp_path: Path, dead: int):
    others = [f".b.new.{files.me()}", f".d.new.{dead}-elsewhere", "c.new.x"]
    for name in (f".a.new.{dead}-{files.HOST}", f"server.{dead}", *others):
        (tmp_path / name).mkdir()
    files.sweep(tmp_path)
    files.sweep(tmp_path, "server.*")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(others)


def test_a_lock_has_one_holder(tmp_path: Path):
    held = files.lock(tmp_path / "lock")
    assert held is not None and held.before is None
    assert files.lock(tmp_path / "lock") is None
    held.close()
    assert not list(tmp_path.iterdir())
    assert files.lock(tmp_path / "lock") is not None


def test_a_lock_ends_with_its_process(tmp_path: Path):
    take = "import sys, pathlib; from videomatch.common import files; held = files.lock(pathlib.Path(sys.argv[1]))"
    for end in ("", "; import os; os._exit(1)"):  # as it should, or killed
        subprocess.run([sys.executable, "-c", take + end, str(tmp_path / "lock")], check=not end)
        assert (tmp_path / "lock").exists() == bool(end)
        held = files.lock(tmp_path / "lock")
        assert held is not None and (held.before is not None) == bool(end)
        held.close()


def test_a_lock_of_another_host_holds_as_long_as_it_gives_signs_of_life(tmp_path: Path, monkeypatch, dead: int):
    lock = tmp_path / "lock"
    lock.write_text(f"{dead}-elsewhere")
    assert files.lock(lock) is None
    old = lock.stat().st_mtime - files.PATIENCE - 1
    os.utime(lock, (old, old))
    held = files.lock(lock)
    assert held is not None and held.before == f"{dead}-elsewhere" and lock.read_text() == files.me()
    assert [p.name for p in tmp_path.iterdir()] == ["lock"]


def test_the_holder_of_a_lock_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "BEAT", 0.05)
    held = files.lock(tmp_path / "lock")
    assert held is not None
    os.utime(tmp_path / "lock", (0, 0))
    time.sleep(1)
    assert (tmp_path / "lock").stat().st_mtime > 0
    (tmp_path / "lock").write_text("another took it")
    held.close()
    assert (tmp_path / "lock").read_text() == "another took it"


def test_a_process_ends_with_another():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as owner:
        program = f"from videomatch.common import files; import time; files.end_with({owner.pid}); time.sleep(60)"
        with subprocess.Popen([sys.executable, "-c", program]) as worker:
            time.sleep(0.5)
            assert worker.poll() is None
            owner.kill()  # it stays a zombie until it is waited for
            assert worker.wait(10) == files.ORPHANED


def test_a_similarity_map_goes_through_json():
    entry = {"expert": "copy", "bias": 0.5, "noise": {"split": "train"}, "aligner": "hough", "tune": {"split": "val"}}
    made = SimilarityMap.read(entry)
    assert made == SimilarityMap("copy", bias=0.5, noise=Noise("train"))
    assert made.settings() == {"expert": "copy", "bias": 0.5, "noise": {"split": "train"}}
    assert SimilarityMap.read(made.settings()) == made
    assert made.experts == ["copy"]
