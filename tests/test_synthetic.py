"""The synthetic corpus from its latent factors: labels, splits, texts, pictures, copies. See also test_generated.py."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from videomatch.data import tables
from videomatch.synthetic import copies, openings, pictures, texts, vocabulary
from videomatch.synthetic.annotations import annotate, graded_pairs
from videomatch.synthetic.card import AIAC, card, copy_statistics, label_statistics, oracles
from videomatch.synthetic.edits import EDITS, Edit, apply
from videomatch.synthetic.latent import (
    COURSES,
    FACTORS,
    SHARE,
    Companion,
    Step,
    family_of,
    library_latent,
    scenes,
    similarity,
    split_of,
)
from videomatch.synthetic.options import SyntheticOptions
from videomatch.synthetic.video import distractor_latent

SEED = 11
BIG = SyntheticOptions(videos=2000)


@pytest.fixture(scope="module")
def labelled():
    return graded_pairs(SEED, BIG)


@pytest.fixture(scope="module")
def corpus():
    return annotate(seed=SEED, shards=3, options=SyntheticOptions(videos=300))


def test_labels_have_the_shape_of_the_aiac_training_labels(labelled):
    shape = label_statistics(labelled)
    slack = {"zeros": 0.06, "ones": 0.05, "mean": 0.05, "sd": 0.04, "giant": 0.06, "couples": 0.1}
    assert all(shape[name] == pytest.approx(AIAC[name], abs=slack[name]) for name in AIAC), shape
    assert len(labelled) == pytest.approx(1.07 * BIG.num_library, rel=0.02)
    assert {round(p.grade * 20, 6) for p in labelled} <= set(map(float, range(21)))


def test_no_modality_alone_gives_the_grade_away(labelled):
    score = oracles(labelled, SEED, BIG)
    assert abs(score["chance"]) < 0.1
    for one in ("visual only", "text factors only", "title only"):
        assert 0.45 < score[one] < 0.7, one
    assert 0.2 < score["sound only"] < 0.5
    assert 0.85 < score["visual and text"] < 0.95
    assert score["full information"] - max(score["visual only"], score["text factors only"]) > 0.2


def test_pairs_are_different_and_stay_on_one_side(labelled):
    unordered = {frozenset((p.query, p.reference)) for p in labelled}
    assert len(unordered) == len(labelled)
    assert all(len(u) == 2 for u in unordered)
    assert all(split_of(family_of(k)) == p.split for p in labelled for k in (p.query, p.reference))


@pytest.mark.parametrize("videos", [30, 31, 100, 300])
def test_tables_are_valid_at_every_size(videos):
    made = annotate(seed=1, shards=2, options=SyntheticOptions(videos=videos))
    for name, table in made.items():
        assert table.equals(tables.check(name, table))
    assert len(made["videos"]) == videos
    kinds, sides = ("", "captions_", "pairs_", "copies_"), ("train", "val", "test")
    assert set(made["splits"]["split"]) == {f"{kind}{side}" for kind in kinds for side in sides}


def test_sides_part_the_videos_and_protocols_stay_on_their_side(corpus):
    splits, side_videos = corpus["splits"], {}
    for side in ("train", "val", "test"):
        side_videos[side] = set(splits.filter(splits["split"] == side)["id"])
    assert sum(map(len, side_videos.values())) == len(set().union(*side_videos.values())) == 300
    text_video = dict(corpus["texts"].select("text_id", "video_id").rows())
    for split, _, item in splits.rows():
        if "_" in split:
            assert text_video.get(item, item) in side_videos[split.rpartition("_")[2]]
    owner = {v: side for side, videos in side_videos.items() for v in videos}
    for query, reference in corpus["segments"].select("query_id", "reference_id").rows():
        assert owner[query] == owner[reference]


def test_every_text_lies_inside_its_video_and_in_order(corpus):
    duration = dict(corpus["videos"].select("video_id", "duration").rows())
    timed = corpus["texts"].filter(corpus["texts"]["start"].is_not_null())
    assert set(timed["kind"]) == {"asr", "ocr"}
    for row in timed.iter_rows(named=True):
        assert 0 <= row["start"] < row["end"] <= duration[row["video_id"]] + 1e-6
    for (_,), rows in timed.filter(timed["kind"] == "asr").group_by("video_id"):
        assert all(a <= b for a, b in itertools.pairwise(rows["start"].sort()))
    assert {"en", "zh"} == set(corpus["texts"]["language"])


def test_segments_lie_inside_both_videos(corpus):
    duration = dict(corpus["videos"].select("video_id", "duration").rows())
    assert len(corpus["segments"]) > 20
    for row in corpus["segments"].iter_rows(named=True):
        assert 0 <= row["query_start"] < row["query_end"] <= duration[row["query_id"]] + 1e-6
        assert 0 <= row["reference_start"] < row["reference_end"] <= duration[row["reference_id"]] + 1e-6
    judged = corpus["relevance"].filter(corpus["relevance"]["query_id"].is_in(corpus["segments"]["query_id"].unique()))
    positive = set(judged.filter(judged["grade"] == 1).select("query_id", "reference_id").rows())
    assert positive == set(corpus["segments"].select("query_id", "reference_id").rows())


def test_copy_statistics_follow_the_video_similarity_challenge():
    options = SyntheticOptions(videos=4000)
    made = [copies.copy_of(SEED, k, options) for k in range(options.num_queries)]
    found = copy_statistics(made, SEED, options)
    assert found["one reference per query, %"] == pytest.approx(82, abs=5)
    assert found["one segment per pair, %"] == pytest.approx(94, abs=3)
    assert found["speed within 2 % of 1, %"] == pytest.approx(43, abs=6)
    assert 0.59 <= found["slowest"] < 0.65 and 1.45 < found["fastest"] <= 1.51
    assert found["share of reference, median"] == pytest.approx(0.40, abs=0.06)
    assert found["share of query, median"] == pytest.approx(0.24, abs=0.08)
    assert {e.name for c in made for s in c.segments for e in s.edits} == set(EDITS)


FILMS = SyntheticOptions(
    videos=400, copies=0.5, lengths="vcsl", min_duration=15, median_duration=60, max_duration=240,
    openings=0.6, distractors=40, speech=False, captions=1,
)  # fmt: skip


def test_films_hold_copies_as_long_as_those_of_vcsl():
    made = [copies.copy_of(SEED, k, FILMS) for k in range(FILMS.num_queries)]
    lengths = [s.query_end - s.query_start for copy in made for s in copy.segments]
    published = {5: 4, 25: 10, 50: 19, 75: 57}
    for percentile, seconds in zip(published, np.percentile(lengths, list(published)), strict=True):
        assert seconds == pytest.approx(published[percentile], rel=0.35)
    in_pair = [len([s for s in c.segments if s.source == k]) for c in made for k in {s.source for s in c.segments}]
    assert np.mean(np.array(in_pair) == 1) == pytest.approx(0.735, abs=0.08)
    covered = [sum(s.query_end - s.query_start for s in c.segments) / c.duration for c in made if c.segments]
    assert np.quantile(covered, 0.1) < 0.15 and np.quantile(covered, 0.9) > 0.88


@pytest.fixture(scope="module")
def films():
    return annotate(seed=SEED, shards=2, options=FILMS)


def test_distractors_are_references_that_no_query_copies(films):
    wanted = {f"d{n:07d}" for n in range(40)}
    splits = films["splits"].filter(films["splits"]["id"].is_in(wanted))
    assert set(splits["role"]) == {"reference"} and set(splits["id"]) == wanted
    assert splits["split"].value_counts().sort("split").rows() == [
        ("copies_test", 32), ("copies_val", 8), ("test", 32), ("val", 8),
    ]  # fmt: skip
    assert not set(films["segments"]["reference_id"]) & wanted
    assert films["videos"].filter(films["videos"]["video_id"].is_in(wanted))["fps"].max() <= 2


def test_strangers_of_a_channel_open_and_close_alike():
    latents = [library_latent(SEED, index, FILMS) for index in range(200)]
    first, second = next(
        (a, b)
        for a, b in itertools.combinations(latents, 2)
        if a.channel is not None
        and a.channel == b.channel
        and a.family != b.family
        and min(a.duration, b.duration) > 60
    )
    (opens, *_, closes), (opened, *_, closed) = (
        [c for c in openings.covers(s) if c.since is not None] for s in (first, second)
    )
    shown = [
        [openings.frame(latent, cover.end - 0.6, 96, 64) for cover in covers]
        for latent, covers in ((first, (opens, closes)), (second, (opened, closed)))
    ]
    np.testing.assert_array_equal(*shown)
    black = openings.covers(first)[0]
    assert not openings.frame(first, black.end / 2, 96, 64).any()
    middle = 0.7 * first.duration  # neither covered nor faded
    np.testing.assert_array_equal(openings.frame(first, middle, 96, 64), pictures.frame(first, middle, 96, 64))
    fading, full = openings.frame(first, black.end + 0.25, 96, 64), openings.frame(first, black.end + 0.75, 96, 64)
    assert 0.3 < fading.mean() / full.mean() < 0.7


def test_queries_are_judged_against_strangers_of_their_channel(films):
    judged = films["relevance"].filter(films["relevance"]["grade"] == 0).select("query_id", "reference_id").rows()
    channels = {f"w{n:07d}": library_latent(SEED, n, FILMS).channel for n in range(FILMS.num_library)}
    channels |= {f"d{n:07d}": distractor_latent(SEED, n, FILMS).channel for n in range(FILMS.distractors)}
    hosts = {f"c{n:07d}": copies.copy_of(SEED, n, FILMS).host.channel for n in range(0, FILMS.num_queries, 5)}
    with_one = [q for q, channel in hosts.items() if channel is not None]
    met = {q for q, r in judged if hosts.get(q) is not None and channels[r] == hosts[q]}
    assert len(met) > 0.8 * len(with_one) > 10


def test_unedited_copy_shows_the_source_at_the_mapped_time():
    options = SyntheticOptions(videos=3000)
    made = (copies.copy_of(SEED, k, options) for k in range(options.num_queries))
    checked = 0
    for copy in itertools.islice((c for c in made if any(not s.edits for s in c.segments)), 4):
        segment = next(s for s in copy.segments if not s.edits)
        latent = library_latent(SEED, segment.source, options)
        sources = {s.source: library_latent(SEED, s.source, options) for s in copy.segments}
        for share in (0.0, 0.3, 0.7):
            time = segment.query_start + share * (segment.query_end - segment.query_start)
            expected = segment.reference_start + share * (segment.reference_end - segment.reference_start)
            assert segment.reference_time(time) == pytest.approx(expected)
            shown = copies.query_frame(copy, sources, time, latent.format.width, latent.format.height)
            np.testing.assert_array_equal(shown, copies.source_frame(latent, segment.reference_time(time)))
            checked += 1
        before = copies.query_frame(copy, sources, max(segment.query_start - 0.01, 0), 64, 64)
        assert copy.segment_at(segment.query_end) is not segment
        assert before.shape == (64, 64, 3)
    assert checked == 12


@pytest.mark.parametrize("name", sorted(EDITS))
def test_every_edit_changes_the_picture_and_repeats_itself(name):
    options = SyntheticOptions()
    picture = pictures.frame(library_latent(SEED, 3, options), 1.0, 96, 72)
    host = pictures.frame(library_latent(SEED, 40, options), 1.0, 96, 72)
    once = apply((Edit(name, 5),), picture.copy(), lambda: host)
    again = apply((Edit(name, 5),), picture.copy(), lambda: host)
    assert once.shape == picture.shape and once.dtype == np.uint8
    np.testing.assert_array_equal(once, again)
    assert np.abs(once.astype(int) - picture).mean() > 0.5


def test_stories_do_not_depend_on_the_size_of_the_corpus():
    small, large = SyntheticOptions(videos=30), SyntheticOptions(videos=100_000)
    assert library_latent(SEED, 17, small) == library_latent(SEED, 17, large)
    assert library_latent(SEED, 79_999, large) != library_latent(SEED, 79_998, large)


def test_a_picture_is_a_function_of_story_and_time():
    options = SyntheticOptions()
    latent = library_latent(SEED, 8, options)
    first = pictures.frame(latent, 0.5, 128, 96)
    for time in np.linspace(0, latent.duration, 7):
        pictures.frame(latent, float(time), 128, 96)
    np.testing.assert_array_equal(first, pictures.frame(latent, 0.5, 128, 96))
    shown = scenes(latent)
    assert shown[0].start == 0 and shown[-1].end == latent.duration
    assert all(a.end == b.start for a, b in itertools.pairwise(shown))


def test_similarity_is_one_with_itself_and_symmetric():
    options = SyntheticOptions()
    a, b = library_latent(SEED, 0, options), library_latent(SEED, 1, options)
    assert similarity(a, a) == pytest.approx(1.0)
    assert similarity(a, b) == similarity(b, a)
    assert sum(SHARE.values()) == pytest.approx(1)
    assert FACTORS.keys() == SHARE.keys() and all(sum(f.values()) == pytest.approx(1) for f in FACTORS.values())


def told(latent, factor, text):
    """Whether a text has a word, in the video's language, of the factor's value, or of one that a scene has."""
    scripted = factor in ("place", "action")
    positions = {getattr(step, factor) for step in latent.script} if scripted else {latent.factors[factor]}
    words = itertools.chain(*(vocabulary.WORDS[factor][p][latent.language_index] for p in positions))
    return any(vocabulary.inflected(word, ending).lower() in text.lower() for word in words for ending in (True, False))


def test_the_second_of_two_siblings_differs_in_one_visual_factor():
    options, kinds = SyntheticOptions(), set()
    for index in range(0, 200, 2):
        first, second = (library_latent(SEED, k, options) for k in (index, index + 1))
        names = [name for name in ("shape", "colour", "count") if first.factors[name] != second.factors[name]]
        steps = [(a, b) for a, b in itertools.zip_longest(first.script, second.script) if a != b]
        if len(steps) == 2:
            assert steps[0] == steps[1][::-1]
            names.append("order")
        for a, b in steps[: len(steps) % 2]:
            names += [name for name in ("place", "action") if getattr(a, name) != getattr(b, name)]
        assert len(names) == 1
        kinds.update(names)
    assert kinds == {"shape", "colour", "count", "order", "place", "action"}


def test_courses_differ_from_their_reverse_by_the_order_of_frames():
    companion = Companion(0, 0, 3)
    latents = (library_latent(SEED, index, SyntheticOptions()) for index in range(100))
    alone = (replace(latent, script=(Step(0, 0, companion),)) for latent in latents)
    shown = ((latent, scenes(latent)[0]) for latent in alone)
    latent = next(s for s, scene in shown if scene.layout % 5 > 1 and not scene.presented)  # nothing else moves
    times = np.linspace(0.0, latent.duration, 5)
    for action in range(0, COURSES, 2):
        videos = [replace(latent, script=(Step(0, action + way, companion),)) for way in (0, 1)]
        there, back = ([pictures.frame(v, float(t), 96, 64).astype(int) for t in times] for v in videos)
        assert max(np.abs(a - b).mean() for a, b in zip(there, back, strict=True)) > 3
        if action != 2:  # up and back, which is its own reverse
            assert max(np.abs(a - b).mean() for a, b in zip(there, back[::-1], strict=True)) < 1


def test_the_test_split_has_a_seed_of_its_own():
    one, two = (SyntheticOptions(videos=120, test_seed=seed, topics=3) for seed in (None, 7))
    made = [annotate(seed=SEED, shards=1, options=options) for options in (one, two)]
    titles = [dict(m["texts"].filter(m["texts"]["kind"] == "title").select("video_id", "text").rows()) for m in made]
    test = set(made[0]["splits"].filter(made[0]["splits"]["split"] == "test")["id"])
    assert {video for video, title in titles[0].items() if titles[1][video] != title} == test
    pairs = [m["relevance"].filter(m["relevance"]["reference_id"].str.starts_with("w")) for m in made]
    of_train = [p.filter(~p["reference_id"].is_in(test)) for p in pairs]
    assert of_train[0].equals(of_train[1]) and not pairs[0].equals(pairs[1])


def test_texts_tell_what_they_claim():
    for index in range(60):
        latent = library_latent(SEED, index, SyntheticOptions())
        title, known = texts.title(latent)
        assert all(told(latent, factor, title) for factor in known)


def test_captions_name_presenters_and_quote_the_screen():
    presented, quoted = 0, 0
    for index in range(120):
        latent = library_latent(SEED, index, SyntheticOptions())
        said = [(s.language, s.text) for s in texts.captions(latent, 14)]
        assert len(said) == len(set(said)) == 14
        host = list(itertools.chain(*vocabulary.WORDS["presenter"][latent.factors["presenter"]]))
        known = texts.speech(latent)[1]
        named = any(text.startswith((f"{host[0]} ", f"{host[1]}在")) for _, text in said)
        seen = any(scene.presented for scene in scenes(latent))
        assert not named or seen or "presenter" in known
        presented += seen
        written = [scene.words for scene in scenes(latent) if scene.words]
        quotes = [text for _, text in said if '"' in text or "“" in text]
        assert all(any(words in text for words in written) for text in quotes)
        quoted += bool(quotes)
    assert 40 < presented < 80 and quoted > 60


def test_captions_tell_of_music_only_where_there_is_sound():
    options, told = SyntheticOptions(silent=0.5), {True: 0, False: 0}
    for index in range(80):
        latent = library_latent(SEED, index, options)
        has_sound = latent.format.audio_rate is not None
        music = [s.text for s in texts.captions(latent, 14) if " music" in s.text or "音乐" in s.text]
        told[has_sound] += bool(music)
        mood = [*itertools.chain(*vocabulary.WORDS["mood"][latent.factors["mood"]])]
        assert all(mood[0] in text or mood[1] in text for text in music)
    assert told[True] > 20 and told[False] == 0


def test_facts_of_texts_are_true_of_their_videos(corpus):
    facts = corpus["facts"].select("id", "factor", "value")
    named = facts.join(corpus["texts"].rename({"text_id": "id"}), on="id")
    assert set(named["kind"]) == {"caption"}
    assert len(named.join(facts, left_on=["video_id", "factor", "value"], right_on=facts.columns, how="anti")) == 0
    captions = corpus["texts"].filter(corpus["texts"]["kind"] == "caption")
    assert set(named["id"]) == set(captions["text_id"])
    places = {names[0]: [*names, *chinese] for names, chinese in vocabulary.WORDS["place"]}
    for place, text in named.filter(named["factor"] == "place").select("value", "text").rows():
        assert any(word in text for word in places[place])
    shapes = {names[0].partition("(")[0]: names for names, _ in vocabulary.WORDS["shape"]}
    others = named.filter((named["factor"] == "companion_shape") & (named["language"] == "en"))
    for shape, text in others.select("value", "text").rows():  # always one, whatever the number of the others
        assert any(f" {vocabulary.inflected(word, False)} " in text for word in shapes[shape])
    in_order = named.filter((named["factor"] == "place_order") & named["text"].str.starts_with("first the "))
    assert len(in_order) > 5
    for value, text in in_order.select("value", "text").rows():
        first, then = (min(text.find(word) for word in places[place] if word in text) for place in value.split(", "))
        assert first < then


def test_facts_tell_of_families_where_they_are_asked_to(corpus):
    options = SyntheticOptions(videos=300, families=True)
    told = annotate(seed=SEED, shards=3, options=options)["facts"]
    families = told.filter(told["factor"] == "family")
    assert told.filter(told["factor"] != "family").equals(corpus["facts"])
    sizes = families.group_by("value").len()["len"].to_list()
    assert len(families) == options.num_library and set(sizes) == {6}
    assert all(family_of(int(re.sub(r"\D", "", i))) == int(v) for i, v in families.select("id", "value").rows())


def test_facts_of_a_copy_are_those_of_its_source_at_that_time(corpus):
    seen = corpus["facts"].filter(corpus["facts"]["factor"] == "place").drop("factor")
    for row in corpus["segments"].iter_rows(named=True):
        speed = (row["reference_end"] - row["reference_start"]) / (row["query_end"] - row["query_start"])
        in_query, in_source = (
            seen.filter((seen["id"] == row[f"{side}_id"]) & (seen["end"] > start + 1e-6) & (seen["start"] < end - 1e-6))
            for side, start, end in (
                ("query", row["query_start"], row["query_end"]),
                ("reference", row["reference_start"], row["reference_end"]),
            )
        )
        assert in_query["value"].to_list() == in_source["value"].to_list()
        cuts = (in_source["start"][1:] - row["reference_start"]) / speed + row["query_start"]
        np.testing.assert_allclose(in_query["start"][1:], cuts, atol=1e-6)
    duration = dict(corpus["videos"].select("video_id", "duration").rows())
    queries = seen.filter(seen["id"].str.starts_with("c"))
    for (query,), rows in queries.group_by("id"):
        assert (rows["end"] - rows["start"]).sum() == pytest.approx(duration[query])


def test_presenters_of_short_clips_come_to_the_point():
    short = SyntheticOptions(min_duration=2, median_duration=2.5, max_duration=4)
    latents = [library_latent(SEED, index, short) for index in range(200)]
    heard = [texts.speech(latent) for latent in latents]
    assert np.mean(["topic" in known for _, known in heard]) > 0.55
    for latent, (said, known) in zip(latents, heard, strict=True):
        assert all(u.start < u.end < latent.duration for u in said)
        heard_of = " ".join(u.text for u in said)
        assert all(told(latent, f, heard_of) for f in known)


def test_the_presenter_is_drawn_where_the_scene_says_so():
    options, changed = SyntheticOptions(), 0
    for index in range(40):
        latent = library_latent(SEED, index, options)
        first = scenes(latent)[0]
        other = {**latent.factors, "presenter": (latent.factors["presenter"] + 1) % len(vocabulary.WORDS["presenter"])}
        drawn = [pictures.frame(s, 0.3, 128, 96) for s in (latent, replace(latent, factors=other))]
        assert (not np.array_equal(*drawn)) == first.presented
        changed += first.presented
    assert 10 < changed < 30


def test_faces_are_all_different():
    assert len(pictures.FACES) == len(vocabulary.WORDS["presenter"])
    drawn = [pictures.face_sprite(k, 64, False, False) for k in range(len(pictures.FACES))]
    for (a, a_opacity), (b, b_opacity) in itertools.combinations(drawn, 2):
        both = ((a_opacity > 0.5) & (b_opacity > 0.5))[..., 0]
        assert np.abs(a - b)[both].mean() > 4
    talking = pictures.face_sprite(3, 64, True, False)[0]
    assert 0.1 < np.abs(talking - drawn[3][0]).mean() < 10


def test_entities_are_all_different():
    english, chinese = (set(names) for names in zip(*vocabulary.ENTITIES, strict=True))
    assert len(english) == len(chinese) == len(vocabulary.ENTITIES)


def test_tags_have_a_long_tail(corpus):
    counts = corpus["videos"]["tags"].explode().value_counts()["count"].sort(descending=True).to_list()
    assert len(counts) > 200
    assert counts[0] > 20 and counts[len(counts) // 2] <= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"video": 50}, "video\n +Extra inputs are not permitted"),
        ({"videos": 5}, "videos\n +Input should be greater than or equal to 30"),
        ({"videos": "many"}, "videos\n +Input should be a valid integer"),
        ({"speech": 1}, "speech\n +Input should be a valid boolean"),
        ({"copies": 1.5}, "copies\n +Input should be less than 1"),
        ({"size": 101}, "size\n +Input should be a multiple of 2"),
        ({"min_duration": 9}, "expected min_duration <= median_duration"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SyntheticOptions(**options)


def test_card_says_what_is_there():
    labels, modalities, segments, edits = card(SEED, SyntheticOptions(videos=300)).values()
    assert labels.keys() == AIAC.keys() and modalities["full information"] > modalities["chance"]
    assert segments["queries"] == 60 and edits.keys() == {*EDITS, "none"}


WEB = SyntheticOptions(videos=600, copies=0, captions=1, speech=False, narrated=True, mispaired=0.3, chatter=0.1)


def test_texts_of_the_web_tell_of_their_video_of_another_or_of_none():
    made = annotate(seed=SEED, shards=1, options=WEB)
    told_of = dict(made["facts"].filter(factor="told_of").select("id", "value").rows())
    facts: dict[str, set] = {}
    for owner, factor, value in made["facts"].select("id", "factor", "value").rows():
        facts.setdefault(owner, set()).add((factor, value))
    spoken = made["texts"].filter(made["texts"]["kind"] != "caption")
    assert set(spoken["kind"]) == {"title", "asr"} and set(spoken["text_id"]) == set(told_of)
    right = {value: [] for value in ("own", "other", "none")}
    for text_id, video in spoken.select("text_id", "video_id").rows():
        named = facts[text_id] - {("told_of", told_of[text_id])}
        right[told_of[text_id]].append(len(named & facts[video]) / len(named) if named else None)
    assert set(right["own"]) == {1.0} and set(right["none"]) == {None}
    assert np.mean(np.array(right["other"]) < 0.5) > 0.9
    titles = [told_of[text_id] for text_id in spoken.filter(kind="title")["text_id"]]
    for value, share in WEB.told_of.items():
        assert titles.count(value) / len(titles) == pytest.approx(share, abs=0.05)


def test_shares_of_the_web_need_its_texts():
    for given in ({"chatter": 0.1}, {"narrated": True, "mispaired": 0.6, "chatter": 0.5}):
        with pytest.raises(ValueError, match="expected `narrated: true`, and shares of at most 1 together"):
            SyntheticOptions(**given)
