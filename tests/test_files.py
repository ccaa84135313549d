"""Files that are written whole, locks, and processes that end with others."""

import os
import subprocess
import sys
import time
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


def test_what_dead_processes_left_is_swept(tmp_path: Path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)  # as in a container, where nobody waits for orphans
    for name in (f".a.new.{dead.pid}", f".b.new.{os.getpid()}", "c.new.x"):
        (tmp_path / name).mkdir()
    files.sweep(tmp_path)
    dead.wait()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f".b.new.{os.getpid()}", "c.new.x"]


def test_names_with_a_process_alone_are_swept(tmp_path: Path):
    (tmp_path / "fork_server.999999999").touch()
    files.sweep(tmp_path, "fork_server.*")
    assert not list(tmp_path.iterdir())


def test_a_lock_has_one_holder(tmp_path: Path):
    held = files.lock(tmp_path / "lock")
    assert held is not None
    assert files.lock(tmp_path / "lock") is None
    held.close()
    assert files.lock(tmp_path / "lock") is not None


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
