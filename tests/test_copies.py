"""`videomatch copies`: segments of edited films in seconds, the messages instead of an answer, and the page."""

import io
import itertools
import json
import os
import re
import shutil
import tracemalloc
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

import clips
import films
from pages import Page, screenshot
from toys import trained
from videomatch import aligners, cli
from videomatch.app import copies, copies_page
from videomatch.app.descriptors import Descriptor, blurred_bars, choose
from videomatch.app.requests import load_plan
from videomatch.app.video_library import VideoLibrary
from videomatch.localisation import distinct
from videomatch.reports import segment_maps as maps

NASTY = '<script>alert("1")</script>&.mp4'


def blurred(image, _):
    """With grain, which no blurred part has, between parts of itself, enlarged and blurred."""
    grain = np.random.default_rng(0).normal(0, 30, image.shape)
    image = (image + grain).clip(0, 255).astype(np.uint8)
    image = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    height, width = image.shape[:2]
    wide = cv2.GaussianBlur(cv2.resize(image, (2 * width, 2 * height)), (0, 0), height / 12)
    wide = np.ascontiguousarray(wide[height // 2 : height // 2 + height])
    wide[:, width // 2 : width // 2 + width] = image
    return wide


def titled(image, second):
    """With black and white stripes that move over the lower quarter."""
    image = image.copy()
    across = (np.arange(image.shape[1]) // 6 + int(2 * second)) % 2
    image[3 * len(image) // 4 :] = 255 * across[:, None].astype(np.uint8)
    return image


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A library of six films, and edited copies beside it."""
    folder = tmp_path_factory.mktemp("copies")
    before = Path.cwd()
    os.chdir(folder)
    for number in range(5):
        films.write(folder / f"raw/film{number}.mp4", (number, 0, 12))
    films.write(folder / "raw" / NASTY.replace("/", "_"), (5, 0, 12))
    library = VideoLibrary.create(folder / "library", choose(load_plan))
    library.add([folder / "raw"])
    films.write(folder / "cut.mp4", (60, 0, 3), (2, 4, 9), (61, 0, 2), (0, 1, 5), edit=films.darker)
    films.write(folder / "mirrored.mp4", (3, 2, 10), edit=films.mirrored)
    films.write(folder / "blurred.mp4", (3, 2, 10), edit=blurred)
    films.write(folder / "turned.mp4", (3, 2, 10), edit=lambda image, _: np.ascontiguousarray(np.rot90(image)))
    films.write(folder / "upside.mp4", (1, 2, 10), edit=lambda image, _: np.ascontiguousarray(image[::-1, ::-1]))
    films.write(folder / "titled.mp4", (4, 2, 10), edit=titled)
    films.write(folder / "nasty.mp4", (5, 2, 10))
    films.write(folder / "own.mp4", (80, 0, 10))
    yield folder
    os.chdir(before)


@pytest.fixture
def search(world, monkeypatch):
    monkeypatch.chdir(world)
    return copies.CopySearch(VideoLibrary(world / "library"), copies.choose_aligner())


def found(answer):
    return [
        (s.reference, s.view, *(round(x, 2) for x in (s.query_start, s.query_end, s.reference_start, s.reference_end)))
        for s in answer.segments
    ]


def test_parts_are_found_where_they_come_from(search, world):
    answer = search.copies(world / "cut.mp4")
    assert [s.reference for s in answer.segments] == ["film2.mp4", "film0.mp4"]
    wanted = [(3, 8, 4, 9), (10, 14, 1, 5)]
    for segment, times in zip(answer.segments, wanted, strict=True):
        got = (segment.query_start, segment.query_end, segment.reference_start, segment.reference_end)
        assert np.abs(np.subtract(got, times)).max() <= 0.5, (segment, times)
        assert segment.view == "whole" and segment.score > 0.9 and Path(segment.path).name == segment.reference
    assert answer.frames == 14 * 4 and set(answer.seconds) == {"frames", "search", "align", "total"}
    assert asdict(answer)["segments"][0]["reference"] == "film2.mp4"


@pytest.mark.parametrize(("name", "view", "reference"), [
    ("mirrored.mp4", "mirrored", "film3.mp4"),
    ("turned.mp4", "turned right", "film3.mp4"),
    ("blurred.mp4", "between blurred bars", "film3.mp4"),
    ("upside.mp4", "upside down", "film1.mp4"),
    ("titled.mp4", "without the lower quarter", "film4.mp4"),
])  # fmt: skip
def test_parts_of_the_picture_are_found(search, world, name, view, reference):
    answer = search.copies(world / name)
    assert [(s[0], s[1] in (view, copies.PARTS)) for s in found(answer)] == [(reference, True)]
    assert np.abs(np.subtract(found(answer)[0][2:], (0, 8, 2, 10))).max() <= 0.5
    assert search.copies(world / name, views=False).segments == []


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("name", ["cut.mp4", "mirrored.mp4", "blurred.mp4", "turned.mp4", "titled.mp4"])
def test_a_query_in_parts_has_the_same_answer(search, world, monkeypatch, name, corners):
    """Of hours not all corners and pictures are in memory at once."""
    search.points = search.points if corners else None
    whole = search.copies(world / name)
    monkeypatch.setattr(copies, "PART", 3.0)
    parts = search.copies(world / name)
    assert (parts.duration, parts.frames) == (whole.duration, whole.frames)
    assert [s[:2] for s in found(parts)] == [s[:2] for s in found(whole)] != []
    times = [np.array([s[2:] for s in found(answer)]) for answer in (parts, whole)]
    assert np.abs(times[0] - times[1]).max() <= 0.5, times


def test_bars_of_a_long_query_are_sought_in_bounded_memory():
    picture = blurred(np.random.default_rng(0).integers(0, 255, (22, 22, 3), np.uint8), 0)
    frames = np.repeat(picture[None], 2000, axis=0)
    tracemalloc.start()
    assert any(blurred_bars([frames]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < frames.nbytes


@pytest.mark.parametrize(("name", "view"), [
    ("mirrored.mp4", "mirrored"), ("turned.mp4", "turned right"), ("upside.mp4", "upside down")
])  # fmt: skip
def test_a_library_without_corners_finds_them_by_views(search, world, name, view):
    search.points = None
    assert [s.view for s in search.copies(world / name).segments] == [view]


def test_films_that_are_nowhere_else_have_no_segments(search, world):
    nothing = search.copies(world / "own.mp4")
    assert nothing.segments == [] and "mirrored, turned and by its corners" in nothing.notes[-1]
    assert "--whole" in search.copies(world / "own.mp4", views=False).notes[-1]
    answer = search.copies(world / "raw/film4.mp4")  # of the library itself
    assert answer.segments == [] and "this very file is in the library, as film4.mp4" in answer.notes[0]
    assert answer.identical == ["film4.mp4"]


def pillared(image, _):
    """Between black bars that take two thirds of the picture."""
    return np.pad(image, ((0, 0), (96, 96), (0, 0)))


def letterboxed(image, _):
    """Between white bars."""
    return np.pad(image, ((24, 24), (0, 0), (0, 0)), constant_values=235)


def framed(image, _):
    """Between black bars, and those between white ones."""
    return np.pad(letterboxed(image, _), ((0, 0), (40, 40), (0, 0)))


@pytest.mark.parametrize("edit", [pillared, letterboxed, framed])
def test_a_film_that_got_bars_is_found_as_a_whole(search, world, tmp_path, edit):
    query = films.write(tmp_path / "query.mp4", (3, 2, 10), edit=edit)
    assert [s[:2] for s in found(search.copies(query))] == [("film3.mp4", "whole")]


@pytest.mark.parametrize("edit", [pillared, letterboxed])
def test_films_with_the_same_bars_are_no_copies(edit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        films.write(tmp_path / f"raw/{number}.mp4", (number, 0, 8), edit=edit if number < 3 else None)
    library = VideoLibrary.create(tmp_path / "library", choose(load_plan))
    library.add([tmp_path / "raw"])
    search = copies.CopySearch(library, copies.choose_aligner())
    assert [search.copies(tmp_path / f"raw/{number}.mp4").segments for number in range(3)] == [[], [], []]
    part = films.write(tmp_path / "part.mp4", (1, 2, 7), edit=edit)
    assert [(s.reference, s.view) for s in search.copies(part).segments] == [("1.mp4", "whole")]


@pytest.mark.parametrize(("edit", "matrix"), [
    (films.mirrored, (-1, 0, 0, 1)),
    (lambda image, _: np.ascontiguousarray(np.rot90(image)), (0, 1, -1, 0)),
    (lambda image, _: np.ascontiguousarray(image.transpose(1, 0, 2)), (0, 1, 1, 0)),
])  # fmt: skip
def test_what_a_display_matrix_sets_right_is_found_as_a_whole(search, world, tmp_path, edit, matrix):
    path = clips.turn(films.write(tmp_path / "selfie.mp4", (3, 0, 12), edit=edit), matrix)
    assert found(search.copies(path)) == [("film3.mp4", "whole", 0, 12, 0, 12)]


def test_a_recording_that_was_joined_to_another_is_found_in_it(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = [films.write(tmp_path / f"{number}.ts", (number, 0, 12)) for number in (0, 1)]
    library = VideoLibrary.create(tmp_path / "library", choose(load_plan))
    library.add([clips.join(tmp_path / "raw/both.ts", *parts)])
    search = copies.CopySearch(library, copies.choose_aligner())
    for number in (0, 1):
        (segment,) = search.copies(world / f"raw/film{number}.mp4").segments
        times = (segment.query_start, segment.query_end, segment.reference_start, segment.reference_end)
        assert np.abs(np.subtract(times, (0, 12, 12 * number, 12 * number + 12))).max() <= 0.25


def test_a_name_that_is_no_text_is_refused(search, world, tmp_path):
    file = tmp_path / os.fsdecode(b"\xff.mp4")
    shutil.copy(world / "cut.mp4", file)
    with pytest.raises(ValueError, match=r"\\udcff.mp4: file name is not valid UTF-8"):
        search.copies(file)


def test_a_query_in_pieces_gives_the_same_segments(search, world):
    whole = found(search.copies(world / "cut.mp4"))
    search.rows = 24  # a border in the middle of a segment
    pieces = found(search.copies(world / "cut.mp4"))
    assert [p[:2] for p in pieces] == [w[:2] for w in whole]
    assert np.abs(np.subtract([p[2:] for p in pieces], [w[2:] for w in whole])).max() <= 0.5


@pytest.mark.parametrize("encoding", ["gbk", "latin-1", "ascii"])
def test_what_a_terminal_lacks_is_escaped(tmp_path, monkeypatch, encoding):
    name, library = "größe 红色 🎬.mp4", str(tmp_path / "library")
    films.write(tmp_path / name, (1, 0, 3))

    def printed(*words):
        terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patched:
            patched.setattr("sys.stdout", terminal)
            assert cli.main(words) == 0
        return terminal.buffer.getvalue().decode(encoding)

    assert printed("library", "add", library, str(tmp_path / name)).startswith("1 video added")
    listed = json.loads(printed("library", "list", library, "--json"))
    assert [video["video_id"] for video in listed["videos"]] == [name]
    shown = printed("library", "list", library).splitlines()[0].split("  ")[-1]
    assert json.loads(f'"{shown}"') == name and (encoding != "gbk" or "红色" in shown)


def told(parts, seconds=(8, 20)):
    """The segments of a map of a query with a video, of so many seconds of four frames, in which parts are similar:
    start and end in both, and the similarity of all frames there; or 0 where each is similar to one alone."""
    similarity = np.zeros([round(4 * n) for n in seconds])
    for start, end, first, last, value in parts:
        box = similarity[4 * start : round(4 * end), 4 * first : 4 * last]
        np.maximum(box, value or np.eye(*box.shape), out=box)
    query, reference = (np.stack([np.arange(n), np.arange(1, n + 1)], axis=1) / 4 for n in similarity.shape)
    options = {"min_similarity": 0.7, "min_length": 5}
    found = aligners.find_segments(aligners.load("hough"), similarity, query, reference, options)
    return distinct.distinct(found, similarity, query, reference, 0.7)[:, :4].tolist(), len(found)


def test_a_still_picture_is_found_once_and_lasts_as_long_as_in_the_query():
    segments, lines = told([(0, 8, 2, 7, 0.9), (0, 8, 9, 19, 0.95)])
    assert lines > 1 and len(segments) == 1
    start, end, first, last = segments[0]
    assert (start, end) == (0, 8) and last - first == 8 and first >= 9 and last <= 19
    assert told([(0, 8, 2, 7, 0.9)])[0] == [[0, 8, 2, 7]]  # it is no longer there
    assert told([(3, 8, 2, 14, 0.9)])[0] == [[3, 8, 2, 7]]  # it begins in both
    assert told([(0, 5, 2, 14, 0.9)])[0] == [[0, 5, 9, 14]]  # it ends in both


def test_what_moves_is_found_wherever_it_is_shown_and_what_stands_still_is_not_found_again():
    twice = [(0, 8, 1, 9, 0), (0, 8, 11, 19, 0)]
    assert sorted(told(twice)[0]) == [[0, 8, 1, 9], [0, 8, 11, 19]]
    segments, lines = told([(0, 6, 1, 7, 0), (6, 8, 7, 9, 0.95), (6, 8, 14, 16, 0.95)])
    assert lines == 2 and segments == [[0, 8, 1, 9]]


def test_a_still_picture_of_a_moment_is_found_only_if_the_query_is_no_longer():
    assert told([(0, 1.5, 14, 18, 0.95)])[0] == []
    segments, _ = told([(0, 1.5, 14, 18, 0.95)], seconds=(1.5, 20))
    assert [segment[:2] for segment in segments] == [[0, 1.5]]


def test_what_goes_on_across_a_border_is_one_segment():
    first = np.array([[2.0, 10, 32, 40, 0.8], [0, 4, 7, 11, 0.5]])
    second = np.array([[10.0, 14, 40.5, 44.5, 0.6], [10, 14, 90, 94, 0.9], [12.0, 14, 42, 44, 0.9]])
    got = copies.join_pieces([first, second], [10.0])
    assert got.tolist() == [
        [2, 14, 32, 44.5, pytest.approx((0.8 * 8 + 0.6 * 4) / 12)],
        [0, 4, 7, 11, 0.5],
        [10, 14, 90, 94, 0.9],
        [12, 14, 42, 44, 0.9],
    ]
    assert copies.join_pieces([first, second], [10.0], "sum")[0, 4] == pytest.approx(1.4)
    assert copies.join_pieces([first, second], [10.0], "max")[0, 4] == 0.8
    assert copies.join_pieces([], []).shape == (0, 5)


@pytest.mark.parametrize(("options", "message"), [
    ({"name": "houhg"}, "did you mean 'hough'"),
    ({"name": "hough", "run": Path("x")}, "one or the other"),
    ({"run": Path("raw")}, "raw is not a checkpoint: expected a result of `train`"),
    ({"tuned": Path("raw")}, "expected a result of `tune`"),
])  # fmt: skip
def test_what_cannot_align_is_refused(world, monkeypatch, options, message):
    monkeypatch.chdir(world)
    with pytest.raises(ValueError, match=message):
        copies.choose_aligner(**options)


def test_tuned_options_align(search, world, tmp_path):
    tuned = {"aligner": "temporal_network", "options": {"min_similarity": 0.8, "min_length": 3}}
    compared = {"expert": "copy"}
    (tmp_path / "tuned.json").write_text(json.dumps({**tuned, "similarity_map": compared}))
    search.aligner = copies.choose_aligner(tuned=tmp_path)
    assert [s.reference for s in search.copies(world / "cut.mp4").segments] == ["film2.mp4", "film0.mp4"]
    search.aligner = copies.choose_aligner("hough")
    assert {s.reference for s in search.copies(world / "cut.mp4", views=False).segments} >= {"film2.mp4"}


@pytest.mark.parametrize(("tuned", "noise", "file", "message"), [
    ('{"aligner": "hou', b"", "tuned.json", "expected a result of `tune` with aligner, options"),
    (b"\xff\xfe", b"", "tuned.json", "expected a result of `tune`"),
    ("[1]", b"", "tuned.json", "expected a result of `tune`"),
    ('{"metrics": {}}', b"", "tuned.json", "'aligner'; expected a result of `tune`"),
    ({"similarity_map": "copy"}, b"", "tuned.json", "expected a result of `tune`"),
    ({"similarity_map": {"experts": "copy"}}, b"", "tuned.json", "expected a result of `tune`"),
    ({"aligner": "houhg"}, b"", "tuned.json", "did you mean 'hough'"),
    ({"options": {"gapp": 5}}, b"", "tuned.json", "did you mean 'gap'.*expected options of hough"),
    ({"options": {"gap": "x"}}, b"", "tuned.json", "gap = 'x', expected a number"),
    ({}, b"", "noise.npy", "expected the frames that `tune` wrote"),
    ({}, b"PK\x03\x04 no archive", "noise.npy", "expected the frames that `tune` wrote"),
    ({}, b"\x93NUMPY\x01\x00v\x00", "noise.npy", "expected the frames that `tune` wrote"),
])  # fmt: skip
def test_tuned_options_that_cannot_be_read_are_named(tmp_path, tuned, noise, file, message):
    if isinstance(tuned, dict):
        of_noise = {"expert": "copy", "noise": {"split": "val"}}
        tuned = json.dumps({"aligner": "hough", "options": {"gap": 9}, "similarity_map": of_noise, **tuned})
    (tmp_path / "tuned.json").write_bytes(tuned if isinstance(tuned, bytes) else tuned.encode())
    (tmp_path / "noise.npy").write_bytes(noise)
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path / file))}: .*{message}"):
        copies.choose_aligner(tuned=tmp_path)


def test_options_tuned_on_normalised_scores_align(search, world, tmp_path):
    """What any frame is like, a frame of the library is not like more: of noise that holds all that the library shows
    nothing is left; of other noise the copies, with a sum for a score, and their ends."""
    tuned = {"aligner": "temporal_network", "options": {"min_similarity": 0.6, "min_length": 3}, "score": "sum"}
    compared = {"expert": "copy", "bias": 0.5, "noise": {"split": "val", "drop": False}}
    (tmp_path / "tuned.json").write_text(json.dumps({**tuned, "follow": True, "similarity_map": compared}))
    with pytest.raises(ValueError, match=r"noise\.npy does not exist"):
        copies.choose_aligner(tuned=tmp_path)
    (tmp_path / "other.json").write_text(json.dumps({**tuned, "similarity_map": {**compared, "similarity": "inner"}}))
    with pytest.raises(ValueError, match="similarity 'inner', expected 'cosine'"):
        copies.choose_aligner(tuned=tmp_path / "other.json")
    rng, inputs = np.random.default_rng(0), search.index.inputs
    found = {}
    shown = np.concatenate([search.index.features(i)[0] for i in search.index.ids])
    for name, noise in {"other": rng.normal(size=(50, inputs)), "the same": shown, "narrow": shown[:, 1:]}.items():
        np.save(tmp_path / "noise.npy", noise.astype(np.float16))
        of_noise = copies.choose_aligner(tuned=tmp_path)
        if name == "narrow":
            with pytest.raises(ValueError, match=f"have {inputs} dimensions"):
                copies.CopySearch(search.library, of_noise)
            continue
        found[name] = copies.CopySearch(search.library, of_noise).copies(world / "cut.mp4", views=False).segments
    assert found["the same"] == []
    assert [s.reference for s in found["other"]] == ["film2.mp4", "film0.mp4"]
    assert all(s.score > 1 for s in found["other"]), "seconds of a line, not a mean"


def test_a_network_describes_a_scorer_chooses_and_a_detector_aligns(world, tmp_path, monkeypatch):
    """The three checkpoints of the trained system, here untrained: footage as it was is found all the same."""
    monkeypatch.chdir(world)
    network = trained(tmp_path / "network", "copy_descriptor", image_size=32, sizes=[8, 16], depths=[1, 1])
    scorer = trained(tmp_path / "scorer", "key_frames", frame_dim=16, width=8)
    detector = trained(tmp_path / "detector", "segment_detector", width=4, levels=3, head=4)
    asked = {"run": network, "every": 0.25, "key_frames": str(scorer), "share": 0.5}
    descriptor = choose(load_plan, **asked)
    assert set(descriptor.digests) == {str(network), str(scorer)} and "50% key frames" in str(descriptor)
    library = VideoLibrary.create(tmp_path / "library", descriptor)
    assert library.add([world / "raw/film1.mp4", world / "raw/film2.mp4"]).frames == 48
    films.write(tmp_path / "copy.mp4", (2, 2, 10))
    answer = copies.CopySearch(library, copies.choose_aligner()).copies(tmp_path / "copy.mp4", views=False)
    assert answer.frames == 16 and {s.reference for s in answer.segments} == {"film2.mp4"}
    longest = max(answer.segments, key=lambda s: s.query_end - s.query_start)
    # half of the frames, chosen by chance, part by up to a second
    assert abs(longest.reference_start - longest.query_start - 2) <= 1.0
    options = {"aligner": None, "options": {"confidence": 0.0}}
    (tmp_path / "tuned.json").write_text(json.dumps({**options, "similarity_map": {"expert": "copy"}}))
    with pytest.raises(ValueError, match="a detector: name it, too"):
        copies.choose_aligner(tuned=tmp_path)
    by = copies.choose_aligner(run=detector, tuned=tmp_path)
    answer = copies.CopySearch(library, by).copies(tmp_path / "copy.mp4", views=False)
    assert answer.segments and "detector" in answer.aligner
    assert all(0 <= s.query_start < s.query_end <= 8.01 and 0 <= s.reference_start < 12.01 for s in answer.segments)
    compared: dict[str, object] = {"expert": "copy", "every": 0.25}
    (tmp_path / "tuned.json").write_text(json.dumps({**options, "similarity_map": compared}))
    spread = copies.choose_aligner(run=detector, tuned=tmp_path)
    assert spread.spec.every == 0.25
    assert copies.CopySearch(library, spread).copies(tmp_path / "copy.mp4", views=False).segments
    with pytest.raises(ValueError, match="detects no segments"):
        copies.choose_aligner(run=scorer)
    with pytest.raises(ValueError, match="scores no frames"):
        choose(load_plan, run=network, key_frames=str(detector))


def test_queries_that_cannot_be_answered(search, world, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"broken\.mp4: not a media file"):
        search.copies(tmp_path / "broken.mp4")
    with pytest.raises(ValueError, match="there is no such file"):
        search.copies(tmp_path / "nothing.mp4")
    with pytest.raises(ValueError, match="top = 0, expected 1 to"):
        search.copies(world / "cut.mp4", top=0)
    with pytest.raises(ValueError, match="min_score = 2, expected 0 to 1"):
        search.copies(world / "cut.mp4", min_score=2)
    with pytest.raises(ValueError, match="min_seconds = 0, expected more than 0"):
        search.copies(world / "cut.mp4", min_seconds=0)


def test_short_and_bad_segments_are_left_out_as_wanted(search, world, tmp_path):
    short = films.write(tmp_path / "short.mp4", (3, 4, 5), edit=films.darker)
    nothing = search.copies(short)
    assert nothing.segments == [] and "a segment lasts 1.25 s at least" in nothing.notes[-1]
    (found,) = search.copies(short, min_seconds=0.5).segments
    assert found.reference == "film3.mp4" and abs(found.reference_start - found.query_start - 4) <= 0.25
    every = search.copies(world / "cut.mp4")
    assert len(every.segments) == 2 and search.copies(world / "cut.mp4", min_score=1).segments == []


@pytest.mark.parametrize("kind", ["whole", "in pieces", "corners", "tuned"])
def test_segments_last_as_long_as_was_asked_for_in_every_view_and_by_every_aligner(search, world, tmp_path, kind):
    """A copy of 8 s, also across the border of two pieces that hold 3 and 5 s of it."""
    query = films.write(
        tmp_path / "query.mp4", (60, 0, 3), (2, 2, 10), edit=films.mirrored if kind == "corners" else None
    )
    search.rows = 24 if kind == "in pieces" else 1024
    if kind == "tuned":
        options = {"aligner": "hough", "options": {"min_similarity": 0.8}, "similarity_map": {"expert": "grey"}}
        (tmp_path / "tuned.json").write_text(json.dumps(options))
        search.aligner = copies.choose_aligner(tuned=tmp_path)
    seconds = {least: search.copies(query, min_seconds=least, views=kind == "corners") for least in (1.25, 6, 9)}
    assert [len(answer.segments) for answer in seconds.values()] == [1, 1, 0]
    (segment,) = seconds[6].segments
    assert segment.reference == "film2.mp4" and abs(segment.duration - 8) <= 1
    assert segment.view == (copies.MIRRORED if kind == "corners" else "whole")


@pytest.mark.parametrize("name", copies.MIN_SCORES)
def test_no_aligner_finds_a_stranger_by_its_defaults(search, world, name):
    search.aligner = copies.choose_aligner(name)
    assert search.copies(world / "own.mp4").segments == []
    assert {s.reference for s in search.copies(world / "cut.mp4", views=False).segments} >= {"film2.mp4"}


def test_the_commands(world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(world)
    library = tmp_path / "typed"
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    typed = ["library", "add", str(library), str(world / "raw/film1.mp4"), str(tmp_path / "broken.mp4")]
    assert cli.main(typed) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("1 video added, 48 frames")
    assert "rejected: " in printed.err and "broken.mp4" in printed.err
    assert cli.main([*typed, "--key-frames", "uniform"]) == 1
    assert "leave the options out" in capsys.readouterr().err
    assert cli.main(["library", "list", str(library), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [v["video_id"] for v in listed["videos"]] == ["film1.mp4"] and listed["frames"] == 48
    assert cli.main(["library", "list", str(library)]) == 0
    assert re.search(r"00:12\.0  film1\.mp4\n1 video, 00:12\.0 in all, 48 frames", capsys.readouterr().out)
    out = tmp_path / "page.html"
    assert cli.main(["copies", "upside.mp4", "--library", str(library), "--page", str(out)]) == 0
    printed = capsys.readouterr()
    line = r"00:00\.\d-00:0[78]\.\d  00:0(1\.[5-9]|2\.\d)-00:(09|10)\.\d +\d\.\d{3}  film1\.mp4  "
    line += r"\((parts of the picture|upside down)\)\n"
    assert re.fullmatch(line, printed.out), printed.out
    assert "1 segment: 32 frames against 48 of 1 video," in printed.err and "film1.mp4" in out.read_text()
    assert cli.main(["copies", "upside.mp4", "--library", str(library), "--json", "--whole"]) == 0
    assert json.loads(capsys.readouterr().out)["segments"] == []
    assert cli.main(["copies", "film1.mp4", "--library", str(library)]) == 0  # an id of the library
    assert "does not count" in capsys.readouterr().err
    assert cli.main(["copies", "upside.mp4", "--library", str(tmp_path / "none")]) == 1
    assert "is no library: make one with" in capsys.readouterr().err
    assert cli.main(["copies", "none.mp4", "--library", str(library)]) == 1
    assert "there is no such file" in capsys.readouterr().err
    assert cli.main(["copies", "film1.mp", "--library", str(library)]) == 1
    assert "did you mean 'film1.mp4'?" in capsys.readouterr().err
    assert cli.main(["copies", str(tmp_path), "--library", str(library)]) == 1
    assert "is a folder; expected one video" in capsys.readouterr().err
    assert cli.main([*typed, "--expert", "clip"]) == 1
    assert "params.yaml" in (printed := capsys.readouterr().err) and "exists already: leave the options out" in printed
    assert cli.main(["copies", "own.mp4", "--library", str(library), "--system", "detector"]) == 1
    assert "params.yaml" in capsys.readouterr().err


def test_a_library_of_another_expert_is_not_mixed_up(world, tmp_path, monkeypatch, capsys):
    """A library whose description was changed is refused."""
    monkeypatch.chdir(world)
    folder = tmp_path / "library"
    shutil.copytree(world / "library", folder)
    about = json.loads((folder / "library.json").read_text())
    about["descriptor"] = asdict(Descriptor("grey", {"extractor": "grey", "every": 0.25, "size": 8}))
    (folder / "library.json").write_text(json.dumps(about))
    assert cli.main(["copies", "cut.mp4", "--library", str(folder)]) == 1
    assert "library.json is damaged: it is not what was written" in capsys.readouterr().err


@pytest.fixture(scope="module")
def html(world):
    search = copies.CopySearch(VideoLibrary(world / "library"), copies.choose_aligner())
    return {name: copies_page.page(search, search.copies(world / f"{name}.mp4")) for name in ("cut", "nasty", "own")}


def test_the_page_holds_map_boxes_strips_and_table(html):
    got = Page(html["cut"])
    assert [t for t in ("html", "h1", "table") if len(got.of(t)) != 1] == []
    assert len(got.of("svg")) == 2 and len(got.of("rect", "segment")) == 2 and len(got.of("image", "map")) == 2
    rows = [w for w in got.words if re.match(r"\d\d:\d\d\.\d–", w)]
    assert len(rows) == 8  # two segments, both sides, in the table and below what plays
    sizes = maps.Layout(14, 12)
    assert len(got.of("image")) == 2 * (1 + sizes.across + sizes.down)
    box, where = got.of("rect", "segment")[0], got.of("image", "map")[0]
    scale = float(where["width"]) / 12
    assert abs((float(box["x"]) - float(where["x"])) / scale - 4) <= 0.5
    assert abs(float(box["width"]) / scale - 5) <= 0.5
    assert abs((float(box["y"]) - float(where["y"])) / scale - 3) <= 0.5
    strip = got.of("image")[1]
    assert float(strip["x"]) == float(where["x"]) and float(strip["width"]) * sizes.across == pytest.approx(
        float(where["width"]), abs=1
    )


def test_a_timeline_is_atop_and_both_parts_play_side_by_side(html, world):
    got = Page(html["cut"])
    bars, rows = got.of("a", "bar"), re.findall(r"left: ([\d.]+)%; width: ([\d.]+)%", html["cut"])
    assert np.abs(np.array(rows, float) * 0.14 - [(3, 5), (10, 4)]).max() <= 0.5, "14 s are the whole"
    segments = [a["id"] for _, a in got.tags if a.get("id", "").startswith("segment") and a["id"] != "segments"]
    assert [bar["href"] for bar in bars] == [f"#{name}" for name in segments] == ["#segment1", "#segment2"]
    played = [re.fullmatch(r"(file:///.*)#t=([\d.]+),([\d.]+)", v["src"]) for v in got.of("video")]
    wanted = [("cut", 3, 8), ("raw/film2", 4, 9), ("cut", 10, 14), ("raw/film0", 1, 5)]
    for found, (name, *times) in zip(played, wanted, strict=True):
        assert found[1] == (world / f"{name}.mp4").as_uri()
        assert np.abs(np.subtract([float(found[2]), float(found[3])], times)).max() <= 0.5
    assert all(v["poster"].startswith("data:image/jpeg") and v["preload"] == "none" for v in got.of("video"))


def test_the_page_is_whole_and_everything_is_escaped(html):
    for text in html.values():
        got = Page(text)
        assert not got.of("script") and not got.of("link") and "@import" not in text and "url(" not in text
        addresses = [
            a for tag, attributes in got.tags for k, a in attributes.items()
            if k in ("href", "src", "poster") and (tag, k) != ("video", "src")
        ]  # fmt: skip
        assert all(a.startswith(("data:image/", "#segment")) for a in addresses)
        assert not any(k.startswith("on") for _, attributes in got.tags for k in attributes)
    assert any("<script>alert" in w for w in Page(html["nasty"]).words) and "<script>" not in html["nasty"]
    assert any("No part of it was found" in w for w in Page(html["own"]).words)


def test_a_map_in_equal_cells_of_time_is_the_naive_one():
    rng = np.random.default_rng(0)
    ends = np.cumsum(rng.choice([0.25, 0.5, 1.5], 40))
    times = np.stack([np.r_[0, ends[:-1]], ends], 1)
    values = rng.normal(size=(40, 7))
    for cells in (1, 10, 33, 640):
        got = maps.resampled(values, times, ends[-1], cells)
        count = min(cells, int(np.ceil(ends[-1] / 0.25 - 1e-6)))
        assert len(got) == count
        edges = np.linspace(0, ends[-1], count + 1)
        for cell, (low, high) in enumerate(itertools.pairwise(edges)):
            inside = (times[:, 0] < high - 1e-6) & (times[:, 1] > low + 1e-6)
            assert (got[cell] == values[inside].max(axis=0)).all()
        across = maps.resampled(values.T, times, ends[-1], cells, axis=1)
        assert (across == got.T).all()
    with pytest.raises(ValueError, match="39 times for axis 0"):
        maps.resampled(values, times[1:], 1.0)


def test_drawings_have_one_second_a_length_on_both_axes():
    sizes = maps.Layout(30, 60)
    assert sizes.width / 60 == pytest.approx(sizes.height / 30) and sizes.width == maps.WIDTH
    assert maps.Layout(3600, 10).width == maps.LEAST
    assert [maps.clock(s) for s in (0, 59.96, 61.25, 3600)] == ["00:00.0", "01:00.0", "01:01.2", "1:00:00.0"]
    assert maps.ticks(16, 10) == (2, [0, 2, 4, 6, 8, 10, 12, 14, 16])
    image = maps.picture(np.array([[0.0, 1.0], [np.nan, 0.5]]))
    assert image.startswith("data:image/png;base64,") and maps.picture(np.zeros((0, 0))).startswith("data:")


def test_a_browser_shows_the_page(html, tmp_path):
    (tmp_path / "page.html").write_text(html["cut"])
    picture = screenshot((tmp_path / "page.html").as_uri(), tmp_path, "--window-size=1000,3000")
    seen = np.asarray(picture).astype(int)
    orange = (np.abs(seen - (0xFF, 0x5A, 0x36)).max(axis=2) < 40).sum()  # edges of boxes
    yellow = (np.abs(seen - maps.COLOURS[-1]).max(axis=2) < 40).sum()  # what is alike
    assert orange > 500 and yellow > 300
