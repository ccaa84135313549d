"""Corners: parts of a picture are found however they were cut, turned, shrunk or covered, and strangers are not."""

import shutil
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

import films
from videomatch.app import copies
from videomatch.app.descriptors import choose
from videomatch.app.requests import load_plan
from videomatch.app.video_library import VideoLibrary
from videomatch.data.store import StoreWriter
from videomatch.experts.points import Expert
from videomatch.localisation import point_matches
from videomatch.retrieval.frame_index import FrameIndex

SIZE = (240, 320)


def drawn(seed, shift=0.0):
    """A picture of some forty figures, all of which move to the right: (240, 320, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(40):
        x, y, radius = (int(n) for n in rng.integers((0, 0, 8), (320, 240, 30)))
        points = (rng.normal(0, radius, (5, 2)) + np.array([x + shift, y])).astype(np.int32)
        cv2.fillPoly(image, [points], rng.integers(0, 256, 3).tolist())
    return image


def rows(*images, counts=(300, 150, 75)):
    """Corners of pictures, one a second, and their times."""
    extractor = Expert(counts=counts).start("")
    found = extractor.update(np.stack(images), 0)
    edges = np.arange(len(images) + 1.0)
    rest = extractor.finalize(np.stack([edges[:-1], edges[1:]], axis=1))
    return np.concatenate([found, rest.rows]), rest.times


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Six videos of three pictures each."""
    folder = tmp_path_factory.mktemp("points")
    with StoreWriter(folder / "store", shape=Expert().shape, times=True) as writer:
        for video in range(6):
            values, times = rows(*(drawn(10 * video + n) for n in range(3)), counts=(60, 60, 60))
            writer.add(f"v{video}", values, times=times)
    FrameIndex.create(folder / "index", [folder / "store"])
    FrameIndex.add(folder / "index", folder / "store")
    return FrameIndex(folder / "index")


def rotated(image, degrees=20):
    matrix = cv2.getRotationMatrix2D((160, 120), degrees, 1)
    return cv2.warpAffine(image, matrix, SIZE[::-1])


def inside(image, share=0.5):
    other = drawn(1000)
    height, width = (round(share * n) for n in SIZE)
    other[90 : 90 + height, 20 : 20 + width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return other


def titled(image):
    image = image.copy()
    image[190:] = 255
    return image


EDITS = {
    "cropped": lambda image: np.ascontiguousarray(image[60:, :240]),
    "rotated": rotated,
    "turned": lambda image: np.ascontiguousarray(np.rot90(image)),
    "upside down": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "in a picture": inside,
    "small in a picture": lambda image: inside(image, 0.35),
    "titled": titled,
    "darker": lambda image: image // 2,
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_part_of_a_picture_is_related_to_it_and_to_no_other(index, edit):
    found = point_matches.related(index, *rows(*(EDITS[edit](drawn(20 + n)) for n in range(3))))
    assert found.keys() == {"v2"}
    times, corners = found["v2"].times, found["v2"].corners
    assert {tuple(row) for row in times.tolist()} == {(n, n + 1, n, n + 1) for n in range(3)}
    assert corners.min() > point_matches.LEAST and (found["v2"].similarity > 0.5).all()
    related = found["v2"].map(1.0, 3, 3)
    assert related.shape == (3, 3) and (np.diag(related) > 0.5).all() and np.triu(related, 1).max() == 0


def test_strangers_are_related_to_nothing(index):
    assert point_matches.related(index, *rows(*(drawn(500 + n) for n in range(10)))) == {}


def test_a_mirrored_picture_is_found_by_its_mirrored_corners(index):
    values, times = rows(*(np.ascontiguousarray(drawn(30 + n)[:, ::-1]) for n in range(3)))
    assert point_matches.related(index, values, times) == {}
    assert point_matches.related(index, point_matches.mirrored(values), times).keys() == {"v3"}
    again = point_matches.mirrored(point_matches.mirrored(values))
    assert np.abs(again - values).max() < 1e-6


def test_excluded_videos_are_not_searched(index):
    values, times = rows(drawn(20), drawn(21))
    assert point_matches.related(index, values, times, ["v2"]) == {}


def test_a_long_query_is_searched_in_blocks_that_take_bounded_memory(index, monkeypatch):
    values, times = rows(*(drawn(n) for n in [*range(20, 26), *range(500, 520)]))
    found, peaks = [], []
    for block in (len(values), 2000):
        monkeypatch.setattr(point_matches, "ROWS", block)
        tracemalloc.start()
        found.append(point_matches.related(index, values, times))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert len(values) > 8000 and found[0] and found[0].keys() == found[1].keys() and peaks[1] < peaks[0] / 2
    for name, one in found[0].items():
        assert one.times.tolist() == found[1][name].times.tolist()
        assert one.corners.tolist() == found[1][name].corners.tolist()


def test_a_logo_that_two_share_relates_nothing(index):
    logo = drawn(20)[20:80, 20:100]
    with_logo = drawn(700)
    with_logo[20:80, 20:100] = logo
    assert point_matches.related(index, *rows(with_logo)) == {}


def test_words_do_not_take_the_corners_of_a_plain_picture(index):
    image = cv2.GaussianBlur(drawn(20), (0, 0), 2) // 4 + 90
    with_words = image.copy()
    for row in range(12):
        cv2.putText(with_words, "words of black " * 3, (0, 180 + 5 * row), cv2.FONT_HERSHEY_PLAIN, 0.4, (0, 0, 0), 1)
    values, _ = rows(with_words)
    places = point_matches._places(values)
    assert (places[:, 1] < 0.6).mean() > 0.3


def test_a_still_picture_is_described_once():
    values, times = rows(*[drawn(1)] * 4, drawn(2), drawn(2))
    assert {tuple(row) for row in times.tolist()} == {(0, 4), (4, 6)}
    assert len(values) == len(times)


def test_a_video_without_corners_has_a_row_that_is_like_none(index):
    values, times = rows(*[np.full((*SIZE, 3), 90, np.uint8)] * 2)
    assert not values.any() and times.tolist() == [[0, 2]]
    assert point_matches.related(index, values, times) == {}
    values, times = rows(np.full((40, 20, 3), 90, np.uint8))  # smaller than any patch
    assert len(values) == 1 and not values.any()


@pytest.mark.parametrize("options", [{"counts": []}, {"counts": [0]}, {"size": 10}, {"every": 0}])
def test_options_out_of_bounds_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        Expert(**options)


def film(path, seed, seconds=5, edit=lambda image: image):
    """A film of drawn pictures that move."""
    return films.write(path, (seed, 0, seconds), edit=lambda _, second: edit(drawn(seed, 8 * second)))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in range(3):
            film(folder / f"raw/{seed}.mp4", seed)
        made = VideoLibrary.create(folder / "library", choose(load_plan))
        made.add([folder / "raw"])
        yield made


@pytest.mark.parametrize(("edit", "view"), [
    (lambda image: inside(image, 0.4), copies.PARTS),
    (lambda image: inside(image[:, ::-1], 0.6), copies.MIRRORED),
])  # fmt: skip
def test_copies_finds_a_film_in_another_picture(library, tmp_path, edit, view):
    search = copies.CopySearch(library, copies.choose_aligner())
    query = film(tmp_path / "query.mp4", 1, edit=edit)
    (found,) = search.copies(query).segments
    assert (found.reference, found.view) == ("1.mp4", view) and 0.5 <= found.score <= 1
    times = (found.query_start, found.query_end, found.reference_start, found.reference_end)
    assert np.abs(np.subtract(times, (0, 5, 0, 5))).max() <= 1
    values, *seconds = search.map(view, "1.mp4")
    assert values.max() == pytest.approx(found.score, abs=0.3) and seconds == [5, 5]
    assert search.copies(query, views=False).segments == []
    assert search.copies(query, min_score=0.99).segments == []


def test_a_library_of_corners_follows_its_library(library, tmp_path):
    place = tmp_path / "library"
    shutil.copytree(library.folder, place)
    copied = VideoLibrary(place)
    copied.remove(["2.mp4"])
    assert sorted(copied.open_points().ids) == ["0.mp4", "1.mp4"]
    shutil.rmtree(place / "points")  # as a library had none before
    assert copies.CopySearch(copied, copies.choose_aligner()).points is None
    copied.add()
    assert sorted(copied.open_points().ids) == ["0.mp4", "1.mp4"]
    copied.add([Path(library.videos().filter(library.videos()["video_id"] == "2.mp4")["path"][0])])
    assert sorted(copied.open_points().ids) == ["0.mp4", "1.mp4", "2.mp4"]
    next((place / "points/index/parts").glob("*/lists.faiss")).write_bytes(b"damaged")
    assert copied.check()[0] != []
    copied.add()
    assert copied.check() == ([], [])
