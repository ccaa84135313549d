"""Real clips: every printed same-source pair is found with its offset, and nothing else is a pair.

The way is the one of `videomatch library add` and `videomatch copies`, with nothing trained.
"""

import csv

import pytest

from paths import realdata
from videomatch.app import copies
from videomatch.app.descriptors import choose
from videomatch.app.requests import load_plan
from videomatch.app.video_library import VideoLibrary

PAIRS = "derived/shared_video_copy_pairs.tsv"
#: s by which found and printed offsets may differ
WITHIN = 0.5


def seconds(text):
    """(seconds, whether they are known exactly)."""
    return float(text.strip("~")), not text.startswith("~")


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """What every clip shares with the library of all, by query: a whole pass over real files."""
    root = realdata()
    if not (root / PAIRS).exists():
        pytest.skip(f"{root / PAIRS} is missing")
    with (root / PAIRS).open(encoding="utf-8") as file:
        pairs = list(csv.DictReader(file, delimiter="\t"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("real"))
        library = VideoLibrary.create(tmp_path_factory.mktemp("library") / "all", choose(load_plan))
        added = library.add([root / "videos"], threads=2)
        search = copies.CopySearch(library, copies.choose_aligner())
        named = {p[side] for p in pairs for side in ("query", "ref")}
        # unrelated clips are all looked for as a whole; of long ones, their parts are not looked at, for time's sake
        found = {
            video: search.copies(root / "videos" / video, views=video in named or row["duration"] <= 6, threads=2)
            for video, row in search.files.items()
        }
    return pairs, added, found


def test_all_real_clips_are_read(real):
    _, added, found = real
    assert added.rejected == [] and len(found) == len(added.videos) >= 40


def test_all_real_groups_are_found_with_their_offsets(real):
    pairs, _, found = real
    for pair in pairs:
        there = [s for s in found[pair["query"]].segments if s.reference == pair["ref"]]
        assert there, f"{pair['query']} is not found in {pair['ref']}"
        (q_start, _), (r_start, is_sure) = seconds(pair["q_start"]), seconds(pair["r_start"])
        best = max(there, key=lambda s: s.score * (s.query_end - s.query_start))
        # where a segment begins a little late on both sides, its offset is what is printed nevertheless
        offset = best.reference_start - best.query_start
        assert abs(offset - (r_start - q_start)) <= WITHIN or not is_sure, (pair, best)


def test_no_real_clip_is_found_in_an_unrelated_one(real):
    pairs, _, found = real
    groups = {pair[side]: pair["group"] for pair in pairs for side in ("query", "ref")}
    wrong = [
        (query, s) for query, answer in found.items() for s in answer.segments
        if query not in groups or groups[query] != groups.get(s.reference)
    ]  # fmt: skip
    assert wrong == []
