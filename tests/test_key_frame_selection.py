"""Key frames: what every method keeps to, what each of them finds, and what intervals and edits do to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import regular
from videomatch.common.vectors import unit_rows
from videomatch.data.store import Store, StoreWriter
from videomatch.localisation import intervals
from videomatch.localisation import key_frame_selection as selection
from videomatch.localisation.frame_similarity import resampled
from videomatch.stages.select_key_frames import select_key_frames

RNG = np.random.default_rng


def clip(lengths: list[int], dim: int = 24, seed: int = 0) -> np.ndarray:
    """Shots of some lengths, still but for a little noise."""
    rng = RNG(seed)
    rows = np.repeat(rng.normal(size=(len(lengths), dim)), lengths, axis=0)
    return (rows + 0.02 * rng.normal(size=rows.shape)).astype(np.float32)


@pytest.mark.parametrize("method", selection.METHODS)
@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(0, 90),
    share=st.floats(0.01, 1),
    longest=st.floats(0.6, 12),
    seed=st.integers(0, 9),
)
def test_budget_ends_and_gaps(method, count, share, longest, seed):
    rows, times = RNG(seed).normal(size=(count, 6)), regular(count, 2.0)
    kept = selection.select(rows, times, method=method, share=share, longest=longest)
    assert len(set(kept.tolist())) == len(kept) and (np.diff(kept) > 0).all()
    if not count:
        return
    if method != "coverage":
        assert kept[0] == 0 and kept[-1] == count - 1
        assert np.diff(times[kept].mean(axis=1)).max(initial=0) <= longest + 1e-9
    steps = int(longest * 2 + 1e-9)
    needed = -(-(count - 1) // steps) + 1
    assert len(kept) == min(count, max(int(np.ceil(share * count - 1e-9)), needed))
    spans = selection.assigned_intervals(kept, times)
    assert spans[0, 0] == 0 and spans[-1, 1] == times[-1, 1]
    assert (spans[1:, 0] == spans[:-1, 1]).all() and (spans[:, 1] > spans[:, 0]).all()
    assert intervals.filled(spans) == pytest.approx(spans)  # aligning leaves the intervals as they are


def test_what_each_method_finds():
    lengths = [5, 3, 18, 6, 8]  # equal steps pass the second by
    rows, times = clip(lengths), regular(sum(lengths), 2.0)
    starts = np.cumsum([0, *lengths[:-1]])
    shots = selection.select(rows, times, method="shots", share=0.25)
    assert set(starts.tolist()) <= set(shots.tolist()) and len(shots) == 2 * 5
    differences = selection.select(rows, times, method="differences", share=0.15)
    assert set(starts.tolist()) <= set(differences.tolist())
    covering = selection.select(rows, times, method="coverage", share=0.125)
    centres = selection.select(rows, times, method="k_center", share=0.125)
    shot = np.repeat(np.arange(5), lengths)
    assert sorted(shot[centres].tolist()) == shot[covering].tolist() == [0, 1, 2, 3, 4]  # one of each shot
    uniform = selection.select(rows, times, method="uniform", share=0.125)
    assert uniform.tolist() == [0, 10, 20, 29, 39]


def test_k_center_is_the_naive_greedy_choice():
    rows = RNG(3).normal(size=(40, 5))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    chosen = [0, 39]
    while len(chosen) < 8:
        nearest = [max(float(unit[n] @ unit[c]) for c in chosen) for n in range(40)]
        chosen.append(int(np.argmin(nearest)))
    kept = selection.select(rows, regular(40, 2.0), method="k_center", share=0.2, longest=100)
    assert kept.tolist() == sorted(chosen)


def test_differences_are_thinned_out():
    rows = clip([11, 1, 1, 1, 16, 10])  # neighbours of one event: one of them is enough
    kept = selection.select(rows, regular(40, 2.0), method="differences", share=0.1, longest=100)
    assert len(kept) == 4 and kept[1] in range(11, 15) and kept[2:].tolist() == [30, 39]


def test_key_frames_far_apart_cost_no_more_than_half_a_gap():
    rows, times = clip([7, 5, 12, 8, 16]), regular(48, 2.0)
    kept = selection.select(rows, times, share=0.15)
    spans = selection.assigned_intervals(kept, times)
    found = np.array([[1.0, 4, 1, 4]])  # key frames 1 to 3, of both
    seconds = intervals.to_seconds(found, spans, spans)[0]
    assert seconds[0] == (times[kept[0], 1] + times[kept[1], 0]) / 2
    assert seconds[1] == (times[kept[3], 1] + times[kept[4], 0]) / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "best"}, "no method 'best'"), ({"share": 0}, "share 0"), ({"longest": -1.0}, "longest -1")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        selection.select(np.ones((4, 2)), regular(4), **options)


def test_key_frames_are_written_with_their_intervals(tmp_path):
    with StoreWriter(tmp_path / "features/clip", shape=(24,), times=True) as writer:
        for name, lengths in (("a", [9, 3, 14]), ("b", [5]), ("none", [])):
            rows = clip(lengths) if lengths else np.zeros((0, 24), np.float32)
            writer.add(name, rows, times=regular(len(rows), 2.0))
    select_key_frames(
        features=[tmp_path / "features"], output=tmp_path / "out", expert="clip", method="k_center", share=0.2
    )
    store, frames = Store(tmp_path / "out/clip"), Store(tmp_path / "features/clip")
    kept = selection.select(frames["a"], frames.times("a"), method="k_center", share=0.2)
    assert (store["a"] == frames["a"][kept]).all() and store.times("a")[-1, 1] == 13
    assert store.lengths.tolist() == [6, 2, 0]
    select_key_frames(
        features=[tmp_path / "features"], output=tmp_path / "pooled", expert="clip", method="k_center", share=0.2,
        pool=True,
    )  # fmt: skip
    pooled = Store(tmp_path / "pooled/clip")
    for name in ("a", "b"):
        spans = store.times(name)
        middle, unit = frames.times(name).mean(axis=1), unit_rows(np.asarray(frames[name], np.float32))
        means = [unit[(middle >= start) & (middle < end)].mean(axis=0) for start, end in spans]
        np.testing.assert_allclose(pooled[name], unit_rows(np.array(means)), atol=1e-3)
        np.testing.assert_array_equal(pooled.times(name), spans)
    assert pooled.lengths.tolist() == [6, 2, 0]


def test_intervals_end_at_cuts():
    lengths = [5, 3, 18, 6, 8]
    rows, times = clip(lengths), regular(sum(lengths), 2.0)
    kept = np.array([0, 6, 12, 30, 39])  # one frame of each shot, nowhere near the middle
    cuts = np.cumsum(lengths)[:-1] / 2
    assert selection.assigned_intervals(kept, times, features=rows)[1:, 0] == pytest.approx(cuts)
    assert np.abs(selection.assigned_intervals(kept, times)[1:, 0] - cuts).max() > 1
    still = np.ones((40, 4))  # no cut: halfway
    assert selection.assigned_intervals(kept, times, features=still) == pytest.approx(
        selection.assigned_intervals(kept, times)
    )


def test_key_frames_spread_out_again():
    rows, times = clip([6, 10, 8]), regular(24, 2.0)
    kept = np.array([0, 3, 9, 20, 23])
    spread, moments = resampled(rows[kept], selection.assigned_intervals(kept, times, features=rows), 0.5)
    assert moments == pytest.approx(times)
    assert np.einsum("nd,nd->n", spread, unit_rows(rows)).min() > 0.98  # every shot is itself again
    drift = np.stack([np.cos(np.linspace(0, 1, 24)), np.sin(np.linspace(0, 1, 24))], axis=1)
    kept = np.array([0, 8, 16, 23])
    smooth, _ = resampled(drift[kept], selection.assigned_intervals(kept, times), 0.5)
    nearest = drift[kept][np.searchsorted(selection.assigned_intervals(kept, times)[:, 1], times.mean(1), side="right")]
    error = [1 - np.einsum("nd,nd->n", x, drift).mean() for x in (smooth, nearest)]
    assert error[0] < 0.5 * error[1]  # what lies between is between
    assert resampled(np.zeros((0, 3)), np.zeros((0, 2)), 0.5)[0].shape == (0, 3)
