"""Segments, moments and shots for other programs: tables, edit decision lists, and cuts that hold what they should."""

import csv
import io
import json
from fractions import Fraction

import numpy as np
import pytest

import clips
import films
from videomatch import cli
from videomatch.app import exports
from videomatch.media.container import Unreadable, probe
from videomatch.media.cut import cut
from videomatch.media.decode import FrameRequest, Sampler
from videomatch.media.sound import SoundRequest
from videomatch.reports.edl import Event, edl


def frames(path):
    """The numbers that the frames of a file show, each once, in the order in which they are shown."""
    pictures = [frame for chunk in Sampler(path, [FrameRequest(Fraction(1, 60))]) for frame in chunk.values]
    return list(dict.fromkeys(map(clips.number_of, pictures)))


@pytest.mark.parametrize(("name", "options"), [
    ("a.mp4", {"g": "30", "bf": "2"}),
    ("a.mp4", {"g": "250", "bf": "0"}),
    ("a.mkv", {"g": "30", "bf": "3"}),
    ("a.ts", {"g": "30"}),
])  # fmt: skip
def test_cuts_begin_at_the_exact_frame_and_never_end_early(tmp_path, name, options):
    path = clips.write(tmp_path / name, range(150), options=options, tone=2.0)
    spans = [(0, 1), (1.5, 3), (2, 2.1), (4, 9)]
    found = cut(path, spans, [tmp_path / f"cut{n}" for n in range(4)])
    for each, (start, end) in zip(found, spans, strict=True):
        first, last = round(30 * start), round(30 * min(end, 5))
        shown, timeline = frames(each.path), probe(each.path)
        assert each.path.suffix == ".mp4" and each.early == 0 and shown[: last - first] == [*range(first, last)]
        assert timeline.duration == pytest.approx((last - first) / 30 + each.late, abs=0.02) and each.late <= 0.15
        assert not each.late or options.get("bf") != "0"
    sound = np.concatenate([c.values for c in Sampler(found[1].path, [SoundRequest(Fraction(1, 2), 8000)])])
    loud = np.flatnonzero(np.abs(sound.reshape(-1)) > 0.2)
    assert loud[0] / 8000 == pytest.approx(0.5, abs=0.03), "the tone of second 2 is half a second after 1.5"


def test_what_mp4_cannot_hold_begins_at_a_key_frame(tmp_path):
    path = clips.write(tmp_path / "a.webm", range(150), codec="libvpx", options={"g": "30"})
    (early,) = cut(path, [(1.5, 3)], [tmp_path / "cut"])
    assert early.path.suffix == ".mkv" and early.early == pytest.approx(0.5, abs=0.01)
    assert frames(early.path)[0] == 30


def test_a_cut_keeps_how_a_player_turns_the_picture(tmp_path):
    path = clips.turn(clips.write(tmp_path / "a.mp4", range(60), options={"g": "10"}), (0, 1, -1, 0))
    (found,) = cut(path, [(1, 2)], [tmp_path / "cut"])
    assert (probe(found.path).width, probe(found.path).height) == (clips.HEIGHT, clips.WIDTH)


def test_a_clock_that_jumps_is_not_cut(tmp_path):
    parts = [clips.write(tmp_path / f"{n}.ts", range(60)) for n in range(2)]
    with pytest.raises(Unreadable, match="its clock jumps; convert it to MP4 first"):
        cut(clips.join(tmp_path / "both.ts", *parts), [(0, 1)], [tmp_path / "cut"])
    assert not list(tmp_path.glob("cut*"))


def test_edit_decisions_have_the_times_of_their_frames():
    film, slow = Fraction(30000, 1001), Fraction(25)
    events = [
        Event("b\n.mov", 3600.0, 3602.0, 6.0, 10.0, slow, ["SCORE: 0.900"]),
        Event("a.mp4", 10.0, 16.02, 0.0, 6.0, slow),
    ]
    assert edl("found", events, slow).splitlines() == [
        "TITLE: found",
        "FCM: NON-DROP FRAME",
        "",
        "001  AX       V     C        00:00:10:00 00:00:16:00 00:00:00:00 00:00:06:00",
        "* FROM CLIP NAME: a.mp4",
        "",
        "002  AX       V     C        01:00:00:00 01:00:02:00 00:00:06:00 00:00:10:00",
        "M2   AX       012.5                01:00:00:00",
        "* FROM CLIP NAME: b%0A.mov",
        "* SCORE: 0.900",
    ]
    assert "00:59:56:12" in edl("x", [Event("a", 3600, 3601, 0, 1, film)], film), "30 codes for 29.97 frames"
    assert "M2" not in edl("x", events, slow, slack=2.1)
    with pytest.raises(ValueError, match=r"event 2 \(b\) overlaps"):
        edl("x", [Event("a", 0, 1, 0, 1, slow), Event("b", 0, 1, 0.5, 1.5, slow)], slow)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Two films, one of them twice with another end, and a video of parts of them."""
    folder = tmp_path_factory.mktemp("exports")
    films.write(folder / "raw/one.mp4", (1, 0, 12))
    films.write(folder / "raw/twin.mp4", (1, 0, 11), (8, 0, 1))
    films.write(folder / "raw/two =1+1.mp4", (2, 0, 12))
    films.write(folder / "query.mp4", (7, 0, 3), (1, 4, 9), (2, 2, 6))
    assert cli.main(["library", "add", str(folder / "library"), str(folder / "raw")]) == 0
    return folder


def test_segments_as_table_list_and_cuts(library, tmp_path, capsys):
    given = ["copies", str(library / "query.mp4"), "--library", str(library / "library"), "--whole"]
    given += ["--csv", str(tmp_path / "out.csv"), "--edl", str(tmp_path / "out.edl"), "--cut", str(tmp_path / "cuts")]
    assert cli.main([*given, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [{k: str(v) for k, v in s.items()} for s in answer["segments"]] == rows and len(rows) == 3
    lines = (tmp_path / "out.edl").read_text().splitlines()
    events = [line.split() for line in lines if line[:3].isdigit()]
    assert len(events) == 2 and not any(line.startswith("M2") for line in lines), "both twins are not on one track"
    wanted = [(4, 9, 3, 8), (2, 6, 8, 12)]
    for event, seconds in zip(events, wanted, strict=True):
        codes = [sum(w * int(n) for w, n in zip((3600, 60, 1, 1 / 8), c.split(":"), strict=True)) for c in event[4:]]
        assert np.abs(np.subtract(codes, seconds)).max() <= 0.5
    assert any("1 part left out" in note for note in answer["notes"])
    cuts = sorted(path.name for path in (tmp_path / "cuts").iterdir())
    assert cuts[0] == "001-query.mp4" and cuts[-1] == "006-two-1-1.mp4" and len(cuts) == 6
    lengths = [probe(tmp_path / "cuts" / name).duration for name in cuts]
    assert np.abs(np.subtract(lengths, [5, 5, 5, 5, 4, 4])).max() <= 1  # either end up to half a second, as above
    assert cli.main(given) == 1 and "cuts is not empty" in capsys.readouterr().err
    assert len(list((tmp_path / "cuts").iterdir())) == 6


def test_moments_as_table_list_and_cuts(library, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (library / "raw/one.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\nWe launched the rocket\n")
    (library / "raw/twin.txt").write_text("rocket")
    assert cli.main(["index", str(library / "raw"), "--model", "none"]) == 0
    given = ["find", "rocket", "--alone", "--csv", "out.csv", "--edl", "out.edl", "--cut", "cuts"]
    assert cli.main(given) == 0
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "out.csv").open())}
    one = rows["one.mp4"]
    assert (one["asked"], one["start"], one["by"]) == ("rocket", "1.0", "speech") and not rows["twin.mp4"]["start"]
    events = [line for line in (tmp_path / "out.edl").read_text().splitlines() if line[:3].isdigit()]
    assert {line.split()[4] for line in events} == {"00:00:01:00", "00:00:00:00"}
    lengths = {p.name[4:]: probe(p).duration for p in (tmp_path / "cuts").iterdir()}
    assert lengths == {"one.mp4": pytest.approx(2, abs=0.4), "twin.mp4": pytest.approx(12, abs=0.01)}
    assert "out.edl: 2 events" in capsys.readouterr().err


def test_lines_beyond_the_end_of_a_video_are_cut_there_or_left_out(library, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VIDEOMATCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    raw.mkdir()
    for seed, name, times in ((1, "one", "00:00:01,000 --> 00:00:03"), (2, "two", "00:00:03,000 --> 00:00:09")):
        films.write(raw / f"{name}.mp4", (seed, 0, 2))
        (raw / f"{name}.srt").write_text(f"1\n{times},000\nWe launched the rocket\n")
    assert cli.main(["index", str(raw), "--model", "none"]) == 0
    capsys.readouterr()
    assert cli.main(["find", "rocket", "--alone", "--edl", "out.edl", "--cut", "cuts"]) == 0
    said = capsys.readouterr().err
    assert "one.mp4: 00:01.0-00:03.0 ends after the video, at 00:02.0: cut there" in said
    assert "two.mp4: 00:03.0-00:09.0 ends after the video, at 00:02.0: left out" in said
    assert "00:00:01:00 00:00:02:00 00:00:00:00 00:00:01:00" in (tmp_path / "out.edl").read_text()
    assert [p.name for p in (tmp_path / "cuts").iterdir()] == ["001-one.mp4"]


def test_text_of_a_table_is_no_formula_and_comes_back_as_it_was():
    texts = ["=1+1.mp4", "+a", "-2", "@SUM(1)", "\t=a", "'=a", "''", "'", "", "a=1", "a\rb.mp4", "film, 'cut'\n.mp4"]
    text = exports.csv_text(["name", "score"], [{"name": name, "score": -0.5, "more": 1} for name in texts])
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert not [row for row in rows if row["name"][:1] in {*"=+-@\t"}] and {row["score"] for row in rows} == {"-0.5"}
    assert [exports.csv_cell(row["name"]) for row in rows] == texts
    assert [row["name"] for row in rows][-2:] == texts[-2:], "what is no formula is written as it is"


def test_shots_are_listed_and_cut(tmp_path, capsys, monkeypatch):
    pytest.importorskip("scenedetect", reason="the extra `shots` is not installed")
    monkeypatch.chdir(tmp_path)
    path = films.write(tmp_path / "film.mp4", (1, 0, 3), (2, 0, 4), (9, 0, 2))
    assert cli.main(["shots", str(path), "--json", "--csv", "out.csv", "--edl", "out.edl", "--cut", "cuts"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["number"], row["start"], row["end"]) for row in found] == [(1, 0, 3), (2, 3, 7), (3, 7, 9)]
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [float(row["seconds"]) for row in rows] == [3, 4, 2]
    assert "00:00:03:00 00:00:07:00 00:00:03:00 00:00:07:00" in (tmp_path / "out.edl").read_text()
    lengths = [probe(p).duration for p in sorted((tmp_path / "cuts").iterdir())]
    assert lengths == [pytest.approx(length, abs=0.4) for length in (3, 4, 2)]
    assert cli.main(["shots", str(path)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "   2  00:03.0-00:07.0  4.00 s"


def test_shots_are_those_of_the_film_that_is_read(tmp_path, capsys):
    """Of files one after the other, whose clock starts again, and of moving pictures behind a thumbnail."""
    pytest.importorskip("scenedetect", reason="the extra `shots` is not installed")
    part = films.write(tmp_path / "part.ts", (1, 0, 3), (2, 0, 2))
    still = films.write(tmp_path / "still.mp4", (5, 0, 1 / films.RATE))
    paths = [clips.join(tmp_path / "joined.ts", part, part), clips.remux(tmp_path / "two.mp4", still, part)]
    for path, ends in zip(paths, ([3, 5, 8, 10], [3, 5]), strict=True):
        assert cli.main(["shots", str(path), "--json"]) == 0
        assert [row["end"] for row in json.loads(capsys.readouterr().out)] == pytest.approx(ends, abs=0.01), path


@pytest.mark.parametrize(("content", "message"), [
    (None, "the file does not exist"), (b"", "the file is empty"), (b"no video", "not a media file"),
])  # fmt: skip
def test_shots_of_what_is_no_video(tmp_path, capsys, content, message):
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["shots", str(path)]) == 1
    assert f"{path}: {message}" in capsys.readouterr().err
