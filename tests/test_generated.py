"""Rendering and reading the generated corpus: bytes, shards, files as PyAV sees them."""

import hashlib

import av
import cv2
import numpy as np
import pytest

from videomatch.corpora import generated
from videomatch.stages.render import render
from videomatch.synthetic import pictures
from videomatch.synthetic.copies import copy_of
from videomatch.synthetic.edits import EDITS
from videomatch.synthetic.latent import VideoFormat, library_latent
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.speech import speaker
from videomatch.synthetic.video import encode, render_video, video_ids

SEED = 4
TINY = {"videos": 30, "size": 64, "min_duration": 2.0, "median_duration": 2.0, "max_duration": 4.0, "speech": False}


#: edits that leave most of the picture as it was
MILD = {"text", "subtitle", "logo", "dots", "noise"}


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    root = tmp_path_factory.mktemp("renders")
    for shard in range(2):
        (root / str(shard)).mkdir()
        render(
            output=root / str(shard), scratch=root / f"scratch{shard}", threads=1, shard=shard, shards=2, seed=SEED,
            options=TINY,
        )  # fmt: skip
    return [root / "0", root / "1"]


def test_shards_part_the_videos(renders):
    names = [{p.stem for p in folder.iterdir()} for folder in renders]
    assert not names[0] & names[1]
    assert names[0] | names[1] == set(video_ids(SyntheticOptions(**TINY)))
    assert min(map(len, names)) > 5


def test_tables_know_the_files_as_they_are(renders):
    tables = generated.read(renders=renders, seed=SEED, shards=2, **TINY)
    for row in tables["videos"].iter_rows(named=True):
        with av.open(row["path"]) as container:
            stream, sounds = container.streams.video[0], container.streams.audio
            assert bool(sounds) == row["has_audio"]
            frame = next(container.decode(stream))
            turned = frame.rotation % 180 == 90
            shown = (frame.height, frame.width) if turned else (frame.width, frame.height)
            assert shown == (row["width"], row["height"])
            assert stream.frames == round(row["duration"] * row["fps"])
            assert float(stream.average_rate) == pytest.approx(row["fps"])


def test_equal_arguments_give_equal_bytes(renders, tmp_path):
    options = SyntheticOptions(**TINY)
    for folder in renders:
        for path in sorted(folder.iterdir())[:3]:
            render_video(tmp_path / path.name, path.stem, seed=SEED, options=options, speak=None)
            assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_render_goes_on_where_it_was_killed(renders, tmp_path):
    scratch, output = tmp_path / "scratch", tmp_path / "output"
    scratch.mkdir()
    done = sorted(renders[0].iterdir())
    for path in done:
        (scratch / path.name).write_bytes(b"made before" if path == done[0] else path.read_bytes())
    (scratch / "w0000001.part").write_bytes(b"half")
    render(output=output, scratch=scratch, threads=1, shard=0, shards=2, seed=SEED, options=TINY)
    assert (output / done[0].name).read_bytes() == b"made before"
    assert {p.name for p in output.iterdir()} == {p.name for p in done}


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotation_flag_turns_the_stored_picture_back(tmp_path, rotation):
    latent = library_latent(SEED, 2, SyntheticOptions())
    video_format = VideoFormat(128, 72, latent.format.fps, 12, 2, 18, rotation, None)
    picture = pictures.frame(latent, 0.5, 128, 72)
    encode(tmp_path / "turned.mp4", iter([picture] * 5), video_format, None)
    with av.open(str(tmp_path / "turned.mp4")) as container:
        frame = next(container.decode(video=0))
        stored = frame.to_ndarray(format="rgb24")
    assert stored.shape[:2] == ((128, 72) if rotation % 180 else (72, 128))
    restored = np.rot90(stored, frame.rotation // 90)
    assert np.abs(restored.astype(int) - picture).mean() < 6
    assert frame.rotation % 360 == rotation


def test_speech_is_the_same_whatever_was_said_before():
    lines = [(text, language, voice) for voice in range(12) for text, language in (("noodles", "en"), ("面条", "zh"))]
    digests = []
    for order in (lines, lines[::-1]):
        with speaker() as speak:
            said = {line: speak(*line) for line in order}
        digests.append({line: hashlib.sha256(samples.tobytes()).hexdigest() for line, samples in said.items()})
        assert min(len(samples) for samples in said.values()) > 2_000
        assert min(samples.std() for samples in said.values()) > 0.01
    assert digests[0] == digests[1]
    assert len(set(digests[0].values())) > 12


def picture_at(path, time):
    """Small picture that the file shows at ``time``, turned as it should be, (48, 64, 3) float."""
    with av.open(path) as container:
        shown = next(f for f in reversed(list(container.decode(video=0))) if f.time <= time + 1e-6)
    picture = np.rot90(shown.to_ndarray(format="rgb24"), shown.rotation // 90)
    return cv2.resize(np.ascontiguousarray(picture), (64, 48), interpolation=cv2.INTER_AREA).astype(float)


def test_edits_are_told_with_their_kinds(renders):
    tables = generated.read(renders=renders, seed=SEED, shards=2, **TINY)
    options = SyntheticOptions(**TINY)
    told = {tuple(row[:3]): set() for row in tables["edits"].iter_rows()}
    for *segment, edit, kind in tables["edits"].iter_rows():
        assert EDITS[edit][0] == kind
        told[tuple(segment)].add(edit)
    truth = tables["segments"].select("query_id", "reference_id", "query_start").rows()
    assert told.keys() <= set(truth)
    for query, _, start in truth:
        segments = copy_of(SEED, int(query[1:]), options).segments
        edits = next(s.edits for s in segments if s.query_start == start)
        assert {e.name for e in edits} == next((e for s, e in told.items() if s[0] == query and s[2] == start), set())


def test_segment_truth_holds_in_the_files(renders):
    """The middle of an unedited segment, decoded from the query's file, is the picture in the reference's file."""
    tables = generated.read(renders=renders, seed=SEED, shards=2, **TINY)
    path = dict(tables["videos"].select("video_id", "path").rows())
    options = SyntheticOptions(**TINY)
    gaps = []
    for row in tables["segments"].iter_rows(named=True):
        segments = copy_of(SEED, int(row["query_id"][1:]), options).segments
        edits = next(s.edits for s in segments if s.query_start == row["query_start"])
        if {e.name for e in edits} - MILD:
            continue
        query = picture_at(path[row["query_id"]], (row["query_start"] + row["query_end"]) / 2)
        middle = (row["reference_start"] + row["reference_end"]) / 2
        at_truth = np.abs(query - picture_at(path[row["reference_id"]], middle)).mean()
        others = [p for v, p in path.items() if v.startswith("w") and v != row["reference_id"]]
        elsewhere = np.mean([np.abs(query - picture_at(p, 1.0)).mean() for p in others[:8]])
        gaps.append(at_truth / elsewhere)
    assert gaps and max(gaps) < 0.6


def test_processes_change_nothing(renders, tmp_path):
    render(output=tmp_path / "o", scratch=tmp_path / "s", threads=2, shard=0, shards=2, seed=SEED, options=TINY)
    for path in renders[0].iterdir():
        assert (tmp_path / "o" / path.name).read_bytes() == path.read_bytes()
