"""The files of VSC 2022: what is written passes the rules, and whatever breaks one is named."""

import csv

import numpy as np
import pytest

from paths import fixtures, realdata
from videomatch.corpora import vsc2022
from videomatch.reports.submission_vsc2022 import (
    check_descriptors,
    check_matching,
    one_a_second,
    write_descriptors,
    write_matching,
)

QUERIES, REFERENCES = {"Q1": 10.5, "Q2": 3.0}, {"R1": 30.0}
ROWS = [("Q1", "R1", 0.5, 4.25, 10.0, 13.0, 0.7), ("Q2", "R1", 0.0, 3.0, 1.0, 4.0, 0.9)]


def test_matching_round_trip(tmp_path):
    path = write_matching(tmp_path, ROWS)
    check_matching(path, QUERIES, REFERENCES)
    with path.open() as file:
        lines = list(csv.DictReader(file))
    assert [line["query_id"] for line in lines] == ["Q2", "Q1"]
    assert tuple(float(lines[1][c]) for c in list(lines[1])[2:]) == ROWS[0][2:]
    content = path.read_bytes()
    assert write_matching(tmp_path, ROWS[::-1]).read_bytes() == content


def test_fixture_published_matches_pass(tmp_path):
    path = fixtures() / "vsc2022/matches.csv"
    with path.open() as file:
        lines = list(csv.DictReader(file))
    durations = [{line[c]: 1000.0 for line in lines} for c in ("query_id", "ref_id")]
    check_matching(path, *durations)
    durations[0].pop(lines[3]["query_id"])
    with pytest.raises(ValueError, match="is not among the"):
        check_matching(path, *durations)


@pytest.mark.parametrize(
    "row, message",
    [
        ("Q3,R1,0,1,0,1,0.5", "line 2: query_id 'Q3' is not among the 2 videos"),
        ("Q1,R2,0,1,0,1,0.5", "ref_id 'R2' is not among the 1 videos"),
        ("Q1,R1,1,1,0,1,0.5", "query from 1.0 to 1.0, expected start < end"),
        ("Q1,R1,0,1,5,4,0.5", "ref from 5.0 to 4.0"),
        ("Q1,R1,0,12,0,1,0.5", "'Q1' lasts from 0 to 10.5 s"),
        ("Q1,R1,-1,2,0,1,0.5", "query from -1.0"),
        ("Q1,R1,0,1,0,1,inf", "score is 'inf'"),
        ("Q1,R1,0,1,0,1,nan", "score is 'nan'"),
        ("Q1,R1,0,1,0,,1", "ref_end is ''"),
    ],
)
def test_matching_rules(tmp_path, row, message):
    path = tmp_path / "m.csv"
    path.write_text(f"query_id,ref_id,query_start,query_end,ref_start,ref_end,score\n{row}\n")
    with pytest.raises(ValueError, match=message):
        check_matching(path, QUERIES, REFERENCES)
    path.write_text("query_id,ref_id,score\n")
    with pytest.raises(ValueError, match="no column 'query_start'"):
        check_matching(path, QUERIES, REFERENCES)


def clock(length):
    return np.stack([np.arange(length), np.arange(length) + 1.0], axis=1)


def test_descriptor_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    rows = [("Q1", rng.normal(size=(11, 8)), clock(11)), ("Q2", rng.normal(size=(3, 8)), clock(3))]
    path = write_descriptors(tmp_path, "query", rows)
    check_descriptors(path, QUERIES)
    content = path.read_bytes()
    assert write_descriptors(tmp_path, "query", rows).read_bytes() == content
    found = {v: (values, times) for v, values, times in vsc2022.frame_features(tmp_path)}
    assert (found["Q1"][0] == rows[0][1].astype(np.float32)).all() and (found["Q2"][1] == clock(3)).all()


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"features": np.zeros((3, 513), np.float32)},
            r"features float32 \(3, 513\), expected float32 \(3, 1 to 512\)",
        ),
        ({"features": np.zeros((3, 8))}, "features float64"),
        ({"features": np.full((3, 8), np.nan, np.float32)}, "not finite"),
        ({"video_ids": np.array(["Q2", "Q1", "Q2"])}, "are in two places"),
        ({"video_ids": np.array(["Q2", "Q2", "Q9"])}, "'Q9' is not among the 2 videos"),
        ({"video_ids": np.array([1, 1, 1])}, "expected strings"),
        ({"timestamps": clock(3) + 9}, "times from 9.0 to 12.0, but lasts 3.0 s"),
        ({"timestamps": np.zeros((3, 3))}, "timestamps float64"),
        ({"extra": np.zeros(1)}, "is not an archive of descriptors"),
    ],
)
def test_descriptor_rules(tmp_path, change, message):
    given = {"video_ids": np.array(["Q2"] * 3), "features": np.zeros((3, 8), np.float32), "timestamps": clock(3)}
    np.savez(tmp_path / "d.npz", **given)
    check_descriptors(tmp_path / "d.npz", QUERIES)
    np.savez(tmp_path / "d.npz", **{**given, **change})
    with pytest.raises(ValueError, match=message):
        check_descriptors(tmp_path / "d.npz", QUERIES)


def test_more_than_one_descriptor_a_second(tmp_path):
    values, times = np.arange(8.0)[:, None] + np.zeros((8, 4)), np.stack([np.arange(8) / 2, np.arange(8) / 2 + 0.5], 1)
    path = write_descriptors(tmp_path, "query", [("Q2", values[:6], times[:6])])
    with pytest.raises(ValueError, match=r"'Q2' has 6 descriptors in 3\.0 s, expected at most 3"):
        check_descriptors(path, QUERIES)
    kept, when = one_a_second(values[:6], times[:6], 3.0)
    assert kept[:, 0].tolist() == [0, 2, 4] and when[:, 0].tolist() == [0, 1, 2]
    check_descriptors(write_descriptors(tmp_path, "query", [("Q2", kept, when)]), QUERIES)


def test_descriptors_that_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="no reference has a descriptor"):
        write_descriptors(tmp_path, "reference", [])
    with pytest.raises(ValueError, match="dimension"):
        write_descriptors(tmp_path, "query", [("Q1", np.zeros((1, 8)), clock(1)), ("Q2", np.zeros((1, 4)), clock(1))])
    with pytest.raises(ValueError, match="a timestamp of 'Q1' is not finite"):
        check_descriptors(write_descriptors(tmp_path, "query", [("Q1", np.full((1, 8), 1e300), clock(1))]), QUERIES)
    (tmp_path / "d.npz").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="is not an archive"):
        check_descriptors(tmp_path / "d.npz", QUERIES)


def test_real_metadata_gives_the_durations(tmp_path):
    source = realdata() / "video_copy/drivendataorg+meta-vsc-matching-runtime"
    (tmp_path / "test").mkdir()
    for name in ("query_metadata.csv", "reference_metadata.csv"):
        (tmp_path / "test" / name).symlink_to(source / name)
    videos = vsc2022.read(raw=tmp_path)["videos"]
    durations = dict(videos.select("video_id", "duration").iter_rows())
    path = write_matching(tmp_path, [("Q100001", "R100001", 1.0, 46.0, 2.5, 47.5, 0.3)])
    check_matching(path, durations, durations)
