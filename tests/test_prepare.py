"""``prepare``: probing, rejecting, shards, counts, the card."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import Path

import polars as pl
import pytest

import clips
from paths import realdata
from repo import Repo
from videomatch.common import named
from videomatch.common.digests import read_digest
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.stages import prepare as prepare_stage
from videomatch.stages.prepare import id_problem, prepare


class Reader:
    """A corpus of four files and one video without media; ``rotten`` cannot be read."""

    @staticmethod
    def read(*, raw: Path, note: str = "") -> dict[str, pl.DataFrame]:
        ids = ["b/é", "a", "rotten", "bare"]
        paths = [str(raw / "b.mp4"), str(raw / "a.mp4"), str(raw / "rotten.mp4"), None]
        texts = [(f"{i}:t", i, "caption", f"{note}{i}") for i in ids] + [("q", None, "query", "free text")]
        pairs = [("a:t", "a"), ("rotten:t", "rotten"), ("q", "a"), ("q", "rotten"), ("q", "unknown")]
        return {
            "videos": pl.DataFrame({"video_id": ids, "path": paths}),
            "texts": tables.frame("texts", [(t, v, kind, None, None, None, x) for t, v, kind, x in texts]),
            "splits": pl.DataFrame([{"split": "test", "role": "reference", "id": i} for i in ids]),
            "relevance": pl.DataFrame([{"query_id": q, "reference_id": r, "grade": 1.0} for q, r in pairs]),
            "segments": pl.DataFrame([{c: "a" if c.endswith("id") else 1.0 for c in tables.SCHEMAS["segments"]}] * 2),
        }


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    clips.write(folder / "a.mp4", range(60), tone=0.0)
    clips.write(folder / "b.mp4", range(15))
    (folder / "rotten.mp4").write_text("nothing")
    real = named.module
    monkeypatch.setattr(named, "module", lambda room, name: Reader if name == "reader" else real(room, name))
    return folder


def run(output: Path, corpus: str, raw: Path | None, *, shards: int = 3, threads: int = 1, **options: str) -> Path:
    output.mkdir(exist_ok=True)
    given = {"raw": None if raw is None else str(raw), "shards": shards, "threads": threads, "options": options}
    prepare(output=output, dataset="test set", corpus=corpus, seed=0, **given)
    return output


def test_only_new_content_is_probed(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()  # digests are remembered in this folder
    whole = clips.write(raw / "short.mp4", range(90), container_options={"movflags": "faststart"}).read_bytes()
    (raw / "short.mp4").write_bytes(whole[: len(whole) * 2 // 3])  # read with a warning
    time.sleep(0.05)  # files that were just written are looked at again
    probed, real = [], prepare_stage.probe
    monkeypatch.setattr(prepare_stage, "probe", lambda path: probed.append(path.name) or real(path))

    def tables_of(name: str) -> list:
        folder = run(tmp_path / name, "folder", raw)
        return [corpora.videos(folder), tables.read("rejected", folder), caplog.get_records("call")[-1].getMessage()]

    first, warnings = tables_of("first"), [r.getMessage() for r in caplog.records if "short.mp4" in r.getMessage()]
    assert sorted(probed) == ["a.mp4", "b.mp4", "rotten.mp4", "short.mp4"] and warnings
    caplog.clear()
    again = tables_of("again")
    assert all(a.equals(b) for a, b in zip(first[:2], again[:2], strict=True)) and first[2] == again[2]
    assert [r.getMessage() for r in caplog.records if "short.mp4" in r.getMessage()] == warnings
    assert len(probed) == 4
    clips.write(raw / "new.mp4", range(15))
    clips.write(raw / "b.mp4", range(20))
    time.sleep(0.05)
    changed = tables_of("changed")[0]
    assert sorted(probed[4:]) == ["b.mp4", "new.mp4"]
    assert dict(changed.select("video_id", "sha256").rows())["b.mp4"] == read_digest(raw / "b.mp4")
    monkeypatch.setattr(prepare_stage, "_code", lambda: "other code")
    tables_of("by other code")
    assert len(probed) == 6 + 5


GROWING = """
scale: tiny
seed: 0
datasets:
  mine: {corpus: folder, raw: raw, shards: 8, experts: [grey, keys]}
backbones: {}
experts:
  grey: {extractor: grey, every: 0.25}
  keys: {key_frames_of: grey, method: k_center, share: 0.5}
systems:
  pooled: {embeddings: {features: keys, pool: mean}}
tables: []
pages:
  neighbours: {dataset: mine, split: all, system: pooled, top: 3}
submissions: {}
"""


def test_one_more_video_runs_one_shard_of_each_stage(tmp_path: Path) -> None:
    repo = Repo(tmp_path, toy=False, dvc=False)
    (tmp_path / "params.yaml").write_text(GROWING)
    (tmp_path / "raw").mkdir()
    for number in range(40):
        clips.write(tmp_path / f"raw/{number}.mp4", range(5 * number, 5 * number + 15))
    corpus = "results/tiny/corpora/mine/manifest.json"
    shards = [f"results/tiny/features/mine/keys/{shard}/manifest.json" for shard in range(8)]
    repo("snakemake", *shards)
    assert "Nothing to be done" in repo("snakemake", "-n", *shards)
    clips.write(tmp_path / "raw/new.mp4", range(300, 315))
    repo("snakemake", corpus)
    shard = corpora.shard_of("new.mp4", 8)
    stale = re.findall(r"^  results/tiny/(\S+): ", repo("snakemake", "-n", *shards), re.M)
    assert stale == [f"features/mine/media/{shard}", f"features/mine/keys/{shard}"]


def test_prepare(raw: Path, tmp_path: Path) -> None:
    folder = run(tmp_path / "out", "reader", raw, note="x ")
    videos = corpora.videos(folder)
    assert videos["video_id"].to_list() == ["a", "b/é", "bare"]
    rows = {row["video_id"]: row for row in videos.iter_rows(named=True)}
    assert (rows["a"]["duration"], rows["a"]["fps"]) == (pytest.approx(2.0), pytest.approx(30.0))
    assert (rows["a"]["width"], rows["a"]["height"]) == (clips.WIDTH, clips.HEIGHT)
    assert rows["a"]["has_audio"] is True and rows["b/é"]["has_audio"] is False
    assert rows["a"]["sha256"] == hashlib.sha256((raw / "a.mp4").read_bytes()).hexdigest()
    assert rows["bare"]["path"] is None and rows["bare"]["duration"] is None
    for shard in range(3):
        part = corpora.videos(folder, shard)
        assert all(corpora.shard_of(i, 3) == shard for i in part["video_id"])
    rejected = tables.read("rejected", folder)
    assert rejected["video_id"].to_list() == ["rotten"]
    assert "not a media file" in rejected["reason"][0]
    assert "rotten" not in tables.read("splits", folder)["id"].to_list()
    assert tables.read("texts", folder)["text_id"].to_list() == ["b/é:t", "a:t", "bare:t", "q"]
    assert tables.read("texts", folder)["text"][0] == "x b/é"
    assert tables.read("relevance", folder).rows() == [("a:t", "a", 1.0), ("q", "a", 1.0)]
    counts = json.loads((folder / "corpus.json").read_text())
    assert counts["videos"] == 3 and counts["rejected"] == 1
    assert counts["rows dropped with rejected videos"] == {"texts": 1, "splits": 1, "relevance": 3, "segments": 0}
    assert counts["splits"] == {"test": {"reference": 3}}
    assert (folder / "contact_sheet.jpg").stat().st_size > 1000
    assert "| videos | 3 |" in (folder / "card.md").read_text()


def test_same_bytes_with_any_number_of_processes(raw: Path, tmp_path: Path) -> None:
    for n in range(10):
        (raw / f"more{n}.mp4").write_bytes((raw / "b.mp4").read_bytes())
    folders = [run(tmp_path / f"out{threads}", "folder", raw, threads=threads) for threads in (1, 2)]
    one, two = (sorted(folder.rglob("*")) for folder in folders)
    assert [p.name for p in one] == [p.name for p in two]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(one, two, strict=True))
    assert len(corpora.videos(folders[1])) == 12


def test_errors_name_what_is_wrong(raw: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        (raw / name).write_text("nothing")
    with pytest.raises(KeyError, match="nowhere"):
        run(tmp_path, "nowhere", raw)
    with pytest.raises(ValueError, match="none of its 3 videos can be used"):
        run(tmp_path, "folder", raw)


def test_ids_that_cannot_be_used() -> None:
    assert id_problem("../../etc/passwd") is None  # ids are never file names
    assert id_problem("视频 1/a.mp4") is None
    assert "empty" in str(id_problem(" "))
    assert "control" in str(id_problem("a\nb"))
    assert "512" in str(id_problem("a" * 513))


def test_real_folder(tmp_path: Path) -> None:
    folder = run(tmp_path / "out", "folder", realdata() / "videos" / "dmlc+decord", shards=1)
    sizes = {row["video_id"]: (row["width"], row["height"]) for row in corpora.videos(folder).iter_rows(named=True)}
    assert sizes["video_90.mov"] == (320, 568)
    assert sizes["video_180.mov"] == (568, 320)


@pytest.mark.parametrize(
    ("table", "rows", "message"),
    [
        ("splits", [("test", "query", "gone")], "splits: id 'gone' is no video of the corpus"),
        ("texts", [("t", "gone", "title", None, None, None, "x")], "texts: video_id 'gone' is no video"),
        ("segments", [("a", "gone", 0.0, 1.0, 0.0, 1.0, None)], "segments: reference_id 'gone' is no video"),
    ],
)
def test_rows_about_no_video(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, rows: list[tuple], message: str
) -> None:
    read = Reader.read
    monkeypatch.setattr(Reader, "read", lambda **given: {**read(**given), table: tables.frame(table, rows)})
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "out", "reader", raw)


@pytest.mark.parametrize("wrong", [5, 5.0, b"5"])
def test_ids_that_are_not_text(wrong: object) -> None:
    row = {"split": "test", "role": "query", "id": wrong}
    cases = [
        lambda: tables.frame("splits", [("test", "query", "a"), tuple(row.values())]),
        lambda: tables.check("splits", pl.DataFrame([row])),
        lambda: tables.videos([{"video_id": "a"}, {"video_id": wrong}]),
        lambda: tables.check("videos", tables.videos(pl.DataFrame({"video_id": [wrong]}))),
    ]
    for case in cases:
        with pytest.raises(ValueError, match=r"table '(splits|videos)': .*\b5"):
            case()


def test_more_shards_leave_all_but_one_as_they_are() -> None:
    """Each further shard takes a half of one other's videos; the number of other videos never counts."""
    names = [f"video {n}" for n in range(4000)]
    for shards in range(1, 40):
        before, after = ([corpora.shard_of(name, n) for name in names] for n in (shards, shards + 1))
        moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
        assert len(moved) == 1 and {new for _, new in moved} == {shards}
        assert set(after) == set(range(shards + 1))
        sizes = [after.count(shard) for shard in set(after)]
        assert max(sizes) < 3 * min(sizes)
