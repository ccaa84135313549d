"""Shots that are parts of films: their frames and sound against files of their own, their tables, a killed extraction,
and the way from films to a run of TRECVID."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import polars as pl
import pytest

import clips
import films
from paths import realdata
from toys import extracted
from videomatch.data import corpus as corpora
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.media.container import probe
from videomatch.media.decode import FrameRequest, Sampler
from videomatch.media.sound import SoundRequest
from videomatch.stages.embed import embed
from videomatch.stages.extract import extract
from videomatch.stages.prepare import prepare, probed
from videomatch.stages.search import search
from videomatch.stages.submit import submit

HALF = FrameRequest(Fraction(1, 2))
#: frames at which shots begin; the second is shorter than a step, the last one lasts a frame
CUTS = [0, 47, 52, 100, 139, 140]


def read(path: Path, spans: list[tuple[float, float]] | None, *requests, **options):
    """(request, span) -> all values, and the sampler; chunks come in order and without gaps."""
    sampler = Sampler(path, requests or [HALF], spans=spans, **options)
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for chunk in sampler:
        values = found.setdefault((chunk.request, chunk.span), [])
        assert sum(map(len, values)) == chunk.first
        values.append(chunk.values)
    return {key: np.concatenate(values) for key, values in found.items()}, sampler


def spans_of(cuts: list[int], rate: Fraction, digits: int = 9) -> list[tuple[float, float]]:
    return [(round(float(a / rate), digits), round(float(b / rate), digits)) for a, b in pairwise(cuts)]


@pytest.mark.parametrize("options", [{}, {"g": "12", "bf": "0"}, {"g": "250", "bf": "3"}])
def test_a_span_has_the_frames_of_its_own_file(tmp_path: Path, options: dict[str, str]) -> None:
    path = clips.write(tmp_path / "film.mp4", range(140), options=options)
    # as tables have them: rounded down below, or up above, where a frame begins
    for digits in (9, 3, 2):
        found, sampler = read(path, spans_of(CUTS, Fraction(30), digits))
        for span, (first, end) in enumerate(pairwise(CUTS)):
            numbers = [clips.number_of(frame) for frame in found[0, span]]
            assert numbers == list(range(first, end, 15)), (digits, span)
            assert sampler.times(0, span)[-1, 1] == pytest.approx((end - first) / 30)
        assert sampler.num_decoded <= 140
    every, _ = read(path, spans_of(CUTS, Fraction(30)), decode_all=True)
    assert all(np.array_equal(found[key], every[key]) for key in every) and found.keys() == every.keys()


def test_spans_of_uneven_frames_and_a_clock_that_starts_late(tmp_path: Path) -> None:
    pts = np.cumsum([0, *([3, 1, 2, 7] * 20)]) + 40  # ticks of 1/30 s
    path = clips.write(tmp_path / "film.mkv", pts.tolist(), options={"bf": "2"})
    timeline = probe(path)
    shown = np.sort(timeline.pts)
    cuts = [0, 9, 10, 33, 80]
    seconds = [float((shown[n] - timeline.start) * timeline.time_base) for n in cuts]
    found, sampler = read(path, list(pairwise(seconds)))
    seen = []
    for span, (first, end) in enumerate(pairwise(cuts)):
        grid = shown[first] + np.arange(len(found[0, span])) * (Fraction(1, 2) / timeline.time_base)
        wanted = [int(np.searchsorted(shown, float(t), side="right")) - 1 for t in grid]
        assert [clips.number_of(frame) for frame in found[0, span]] == wanted
        assert first <= min(wanted) and max(wanted) < end
        seen += wanted
    assert seen == sorted(set(seen)), "each sample lies in one shot"
    assert len(sampler.parts) == 4


@pytest.mark.parametrize("name", ["Breakthrough+PySceneDetect/counter.mp4"])
def test_spans_of_a_real_film_equal_the_frames_of_a_whole_reading(name: str) -> None:
    path = realdata() / "videos" / name
    timeline = probe(path)
    shown = np.unique(timeline.pts[~timeline.discard])
    cuts = np.linspace(0, len(shown) - 1, 12).astype(int)
    ticks = shown[cuts]
    seconds = ((ticks - timeline.start) * float(timeline.time_base)).tolist()
    found, sampler = read(path, list(pairwise(seconds)), FrameRequest(Fraction(1, 2), 48))
    assert sampler.num_decoded <= len(shown)
    for span in range(len(seconds) - 1):
        first, end = ticks[span : span + 2]
        grid = timeline.grid(Fraction(1, 2), int(first), int(end))
        times = (grid - timeline.start) * timeline.time_base
        at = [shown[np.searchsorted(shown, tick, side="right") - 1] for tick in grid]
        assert len(found[0, span]) == len(grid) and min(at) >= first and max(at) < end
        alone, _ = read(path, [(float(t), float(t) + 0.01) for t in times], FrameRequest(Fraction(1, 2), 48))
        assert all(np.array_equal(alone[0, n][0], frame) for n, frame in enumerate(found[0, span]))


def test_the_sound_of_a_span_ends_with_it(tmp_path: Path) -> None:
    path = clips.write(tmp_path / "film.mp4", range(150), tone=1.0)
    request = SoundRequest(Fraction(1, 2), 8000)
    whole, _ = read(path, None, request)
    stream = whole[0, 0].reshape(-1)
    spans = spans_of([0, 20, 41, 130], Fraction(30))
    found, sampler = read(path, spans, request)
    for span, (start, end) in enumerate(spans):
        first, last = round(start * 8000), round(end * 8000)
        sound = found[0, span].reshape(-1)
        assert len(found[0, span]) == len(sampler.times(0, span)) == -(-(last - first) // 4000)
        assert np.array_equal(sound[: last - first], stream[first:last])
        assert not sound[last - first :].any()
    assert np.abs(found[0, 0]).max() < 1e-3 < np.abs(found[0, 2]).max()


def test_a_film_is_rejected_with_all_its_shots(tmp_path: Path) -> None:
    good, bad = clips.write(tmp_path / "good.mp4", range(60)), tmp_path / "bad.mp4"
    bad.write_text("nothing")
    rows = [{"video_id": f"g{n}", "path": str(good), "start": n * 0.5, "end": n * 0.5 + 0.5} for n in range(4)]
    rows += [{"video_id": f"b{n}", "path": str(bad), "start": n * 1.0, "end": n + 1.0} for n in range(3)]
    videos, rejected = probed(tables.videos([*rows, {"video_id": "w", "path": str(good)}]), 5, 1)
    assert videos["video_id"].to_list() == ["g0", "g1", "g2", "g3", "w"]
    assert videos["duration"].to_list() == pytest.approx([0.5] * 4 + [2.0])
    assert videos.filter(pl.col("start").is_not_null())["shard"].to_list() == [corpora.shard_of("good.mp4", 5)] * 4
    assert rejected["video_id"].to_list() == ["b0", "b1", "b2"] and rejected["reason"].n_unique() == 1
    assert "not a media file" in rejected["reason"][0]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0.0, 1.0), (2.5, 3.0)], r"film.mp4: part 'shot1', 2.5 to 3 s, is outside of it: it lasts 2.00 s"),
        ([(0.0, 1.0), (1.0, 9.0)], r"part 'shot1', 1 to 9 s, is outside of it"),
        ([(0.0, 1.0), (0.9, 2.0)], r"part 'shot1', 0.9 to 2 s, overlaps 'shot0'"),
        ([(0.0, 1.0), (1.5, 1.5)], r"part 'shot1', 1.5 to 1.5 s: expected an end after the start"),
    ],
)
def test_parts_that_do_not_lie_in_their_film(tmp_path: Path, spans: list[tuple[float, float]], message: str) -> None:
    path = str(clips.write(tmp_path / "film.mp4", range(60)))
    rows = [{"video_id": f"shot{n}", "path": path, "start": a, "end": b} for n, (a, b) in enumerate(spans)]
    with pytest.raises(ValueError, match=message):
        probed(tables.videos(rows), 1, 1)


def test_shots_behind_the_end_of_a_film_that_was_cut_short_are_rejected(tmp_path: Path) -> None:
    whole = clips.write(tmp_path / "a.mp4", range(300), container_options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    rows = [{"video_id": f"s{n}", "path": str(cut), "start": n * 1.0, "end": n + 1.0} for n in range(10)]
    videos, rejected = probed(tables.videos(rows), 1, 1)
    assert 2 <= len(videos) <= 8 and len(videos) + len(rejected) == 10
    assert set(rejected["reason"].str.slice(0, 22)) == {"the file is truncated:"}


EXPERTS = {
    "frames": {"extractor": "frames", "size": 16, "every": 0.5},
    "audio": {"extractor": "log_mel", "bands": 32, "every": 0.5},
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three films of some shots with their master shot references, one film that is broken, and topics."""
    folder = tmp_path_factory.mktemp("v3c1")
    (folder / "msb").mkdir()
    for film in range(1, 4):
        parts = [(10 * film + n, 0.0, length) for n, length in enumerate((2.0, 0.25, 1.5, 3.125)[: film + 1])]
        films.write(folder / f"videos/{film:05d}/{film:05d}.mp4", *parts)
        lines, first = ["startframe\tstarttime\tendframe\tendtime"], 0
        for _, _, length in parts:
            last = first + round(length * films.RATE) - 1
            lines.append(f"{first}\t{first / films.RATE:.3f}\t{last}\t{last / films.RATE:.3f}")
            first = last + 1
        (folder / f"msb/{film:05d}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "videos/00004.mp4").write_text("nothing")
    (folder / "msb/00004.tsv").write_text("\n".join(["x", "0\t0.0\t9\t1.1", "10\t1.25\t20\t2.5"]))
    (folder / "tv21.avs.txt").write_text("661 a first thing\n662 another thing\n")
    (folder / "progress.avs.txt").write_text("591 one thing\n592 two things\n593 three\n")
    return folder


@pytest.fixture(scope="module")
def corpus(raw: Path) -> Path:
    output = raw / "corpus"
    options = {"partial": True, "editions": {"progress_1": "591, 593"}}
    prepare(output=output, dataset="v3c1", corpus="avs", shards=1, seed=0, options=options, raw=str(raw))
    return output


SHOTS = ["shot00001_1", "shot00001_2", *(f"shot00002_{n}" for n in (1, 2, 3)), *(f"shot00003_{n}" for n in range(1, 5))]


def test_shots_of_films_are_extracted(raw: Path, corpus: Path, tmp_path: Path) -> None:
    assert corpora.videos(corpus)["video_id"].to_list() == SHOTS
    assert tables.read("rejected", corpus)["video_id"].to_list() == ["shot00004_1", "shot00004_2"]
    assert tables.read("rejected", corpus)["reason"].n_unique() == 1
    stores = extracted(tmp_path, corpus, EXPERTS)
    assert stores["frames"].ids.to_list() == SHOTS
    assert stores["frames"].lengths.tolist() == [4, 1, 4, 1, 3, 4, 1, 3, 7]
    # each shot as a file of its own has the same features, as far as encoding it anew allows
    video = 0
    for film in range(1, 4):
        for n, length in enumerate((2.0, 0.25, 1.5, 3.125)[: film + 1]):
            path = films.write(tmp_path / f"{film}-{n}.mp4", (10 * film + n, 0.0, length))
            alone, sampler = read(path, None, FrameRequest(Fraction(1, 2), (16, 16)))
            shot = SHOTS[video]
            assert np.abs(stores["frames"][shot].astype(int) - alone[0, 0]).mean() < 5, shot
            np.testing.assert_allclose(stores["frames"].times(shot), sampler.times(0))
            video += 1


def test_shots_of_the_iacc_count_frames(raw: Path, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "msb").mkdir()
    (tmp_path / "videos").symlink_to(raw / "videos")
    (tmp_path / "tv16.avs.txt").write_text("501 a thing\n")
    for tsv in sorted((raw / "msb").glob("*.tsv")):
        rows = [line.split("\t") for line in tsv.read_text().splitlines()[1:]]
        (tmp_path / f"msb/{tsv.stem}.msb").write_text("shots\n" + "".join(f"{r[0]} {r[2]}\n" for r in rows))
    prepare(
        output=tmp_path / "out", dataset="iacc", corpus="avs", shards=1, seed=0, options={"partial": True},
        raw=str(tmp_path),
    )  # fmt: skip
    columns = ["video_id", "start", "end", "duration"]
    assert corpora.videos(tmp_path / "out").select(columns).equals(corpora.videos(corpus).select(columns))
    assert tables.read("rejected", tmp_path / "out")["video_id"].to_list() == ["shot00004_1", "shot00004_2"]


KILLED = """
import json, os, signal, sys
from pathlib import Path
from videomatch.data.store import StoreWriter
from videomatch.stages.extract import extract
add = StoreWriter.add
def kill(self, item_id, values, **parts):
    if item_id.startswith("shot00003"):
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, item_id, values, **parts)
StoreWriter.add = kill
output = Path(sys.argv[2])
extract(corpus=Path(sys.argv[1]), shard=0, experts=json.loads(sys.argv[3]), backbones={}, output=output / "killed",
        scratch=output / "scratch")
"""


def test_a_killed_extraction_goes_on_with_the_next_film(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = [sys.executable, "-c", KILLED, str(corpus), str(tmp_path), json.dumps(EXPERTS)]
    assert subprocess.run(code).returncode == -signal.SIGKILL
    given = {"corpus": corpus, "shard": 0, "experts": EXPERTS, "backbones": {}}
    opened = []
    real = av.open
    monkeypatch.setattr(av, "open", lambda file, *more, **options: opened.append(file) or real(file, *more, **options))
    extract(**given, output=tmp_path / "again", scratch=tmp_path / "scratch")
    assert {Path(file).stem for file in opened} == {"00003"}
    extract(**given, output=tmp_path / "undisturbed")
    first, second = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in (tmp_path / "undisturbed", tmp_path / "again")
    )
    assert first == second


def test_shots_are_found_where_the_picture_changes(raw: Path, tmp_path: Path) -> None:
    pytest.importorskip("scenedetect")
    options = {"partial": True, "shots": "detect"}
    (tmp_path / "tv21.avs.txt").write_text("661 a thing\n")
    parts = [(1, 0.0, 4.0), (2, 0.0, 2.5), (3, 0.0, 3.0)]
    films.write(tmp_path / "videos/first film.mp4", *parts)
    films.write(tmp_path / "videos/other.mp4", (4, 0.0, 2.0))
    (tmp_path / "videos/broken.mp4").write_text("nothing")
    prepare(output=tmp_path / "out", dataset="own", corpus="avs", shards=1, seed=0, options=options, raw=str(tmp_path))
    found = corpora.videos(tmp_path / "out").select("video_id", "start", "end").rows()
    assert found == [
        ("shotfirst film_1", 0.0, 4.0), ("shotfirst film_2", 4.0, 6.5), ("shotfirst film_3", 6.5, 9.5),
        ("shotother_1", 0.0, 2.0),
    ]  # fmt: skip
    assert tables.read("rejected", tmp_path / "out")["video_id"].to_list() == ["shotbroken_1"]


def test_from_films_to_a_run(corpus: Path, tmp_path: Path) -> None:
    """Topics that mean a shot find it, and the run names it."""
    extract(corpus=corpus, shard=0, experts=EXPERTS, backbones={}, output=tmp_path / "features")
    system = {"embeddings": {"features": "frames", "pool": "mean"}}
    made = {"corpus": corpus, "features": [tmp_path / "features"], "output": tmp_path / "embeddings"}
    embed(**made, system=system, threads=1, members=["all"], queries=[])
    videos = Store(tmp_path / "embeddings/all/videos")
    meant = {"661": "shot00003_2", "662": "shot00001_1", "591": "shot00002_2", "592": SHOTS[0], "593": "shot00003_4"}
    with StoreWriter(tmp_path / "embeddings/all/texts", shape=videos.shape, dtype="float32") as writer:
        writer.add_rows(list(meant), np.concatenate([videos[shot] for shot in meant.values()]))
    for split, task in (("captions_tv21", "M"), ("captions_progress", "P"), ("captions_progress_1", "P")):
        search(
            corpus=corpus, embeddings=tmp_path / "embeddings", output=tmp_path / split, split=split, kind="text_video",
            top=1000, members={"all": None},
        )  # fmt: skip
        run = {"trType": "D", "class": "M", "task": task, "novelty": "C", "pid": "X", "priority": 2, "desc": "a test"}
        output = tmp_path / f"run_{split}"
        output.mkdir()
        submit(
            corpus=corpus, member="all", output=output, split=split, results=[tmp_path / split], format="avs", run=run
        )
        text = (output / "run.xml").read_text()
        asked = {"captions_tv21": ["661", "662"], "captions_progress": ["591", "592", "593"]}.get(split, ["591", "593"])
        for topic in asked:
            answer = text.partition(f'tNum="{topic}"')[2]
            assert answer.split('shotId="')[1].startswith(f'{meant[topic]}"'), (split, topic)
        assert text.count("<videoAdhocSearchTopicResult ") == len(asked)
        assert f'class="M" task="{task}"' in text
