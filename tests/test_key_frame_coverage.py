"""Key frames that cover all frames: the exact choice, and the mean over all choices, against counting them all."""

import itertools
import math

import numpy as np
import pytest
import torch

from clips import regular
from videomatch.common.vectors import unit_rows
from videomatch.localisation import key_frame_selection as selection
from videomatch.models.key_frames import soft_assignment


def case(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 4)).astype(np.float32)
    rows[3:6] = rows[3] + 0.3 * rng.normal(size=(3, 4))
    return unit_rows(rows), rng.normal(size=count)


def counted(unit: np.ndarray, scores: np.ndarray, budget: int, longest: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Probability that each frame is assigned to each, and the most likely key frames, over all selections."""
    count, total = len(unit), 0.0
    chance, best = np.zeros((count, count)), (math.inf, ())
    for cuts in itertools.combinations(range(1, count), budget - 1):
        runs = list(itertools.pairwise([0, *cuts, count]))
        if max(b - a for a, b in runs) > longest:
            continue
        for keys in itertools.product(*(range(a, b) for a, b in runs)):
            cost = sum(
                (1 - unit[a:b] @ unit[key]).sum() / selection.TEMPERATURE - scores[key]
                for (a, b), key in zip(runs, keys, strict=True)
            )
            best = min(best, (cost, keys))
            total += math.exp(-cost)
            for (a, b), key in zip(runs, keys, strict=True):
                chance[a:b, key] += math.exp(-cost)
    return chance / total, best[1]


@pytest.mark.parametrize(("budget", "longest"), [(3, 9), (2, 6), (4, 4), (1, 9), (9, 3)])
def test_both_agree_with_counting(budget, longest):
    for seed in range(3):
        unit, scores = case(9, seed)
        chance, keys = counted(unit, scores, budget, longest)
        lengths = np.minimum(longest, 9 - np.arange(9))
        assert tuple(selection.cheapest_runs(unit, lengths, budget, scores).tolist()) == keys
        rows = torch.from_numpy(np.vstack([unit, unit[:2]]))[None]  # two of them padding
        mask = torch.tensor([[True] * 9 + [False] * 2])
        padded = torch.from_numpy(np.r_[scores, 5.0, 5.0]).float()[None]
        found = soft_assignment(padded, rows, mask, share=budget / 9, longest=longest)[0].numpy()
        np.testing.assert_allclose(found[:9, :9], chance, atol=1e-5)
        assert not found[9:].any() and not found[:, 9:].any()


def test_videos_of_a_batch_have_budgets_of_their_own():
    lengths = [20, 7, 0, 33]
    mask = torch.arange(33) < torch.tensor(lengths)[:, None]
    rows = torch.nn.functional.normalize(torch.randn(4, 33, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
    scores = torch.randn(4, 33, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = soft_assignment(scores, rows, mask, share=0.15, longest=20)
    torch.testing.assert_close(found.sum(2), mask.float(), atol=1e-4, rtol=0)
    kept = found.diagonal(dim1=1, dim2=2).sum(1)
    torch.testing.assert_close(kept, torch.tensor([3.0, 2, 0, 5]), atol=1e-3, rtol=0)
    found.diagonal(dim1=1, dim2=2)[0, 4].backward()
    assert scores.grad is not None and torch.isfinite(scores.grad).all()
    assert scores.grad[0, 4] > 0 > scores.grad[0, 3] and not scores.grad[1:].any()


def test_scores_are_preferences():
    rng = np.random.default_rng(0)
    unit = unit_rows(np.repeat(rng.normal(size=(12, 8)), 5, axis=0) + 0.2 * rng.normal(size=(60, 8)))
    wanted = np.zeros(60)
    wanted[[2, 31]] = 1000
    kept, preferred, shifted = (
        selection.select(unit, regular(60, 2.0), share=0.2, scores=scores, method="coverage").tolist()
        for scores in (None, wanted, np.full(60, 7.0))
    )
    assert len(kept) == 12 and {2, 31} <= set(preferred) and shifted == kept


def test_long_videos_and_gaps_in_time():
    rows = np.random.default_rng(0).normal(size=(selection.BLOCK + 300, 4)).astype(np.float32)
    kept = selection.select(rows, regular(len(rows), 2.0), share=0.1)
    assert len(kept) == math.ceil(0.1 * len(rows)) and (np.diff(kept) > 0).all() and np.diff(kept).max() <= 40
    times = regular(30, 2.0)
    times[15:] += 100.0  # nothing can stand across that
    kept = selection.select(rows[:30], times, share=0.05, longest=4.0, method="coverage")
    assert len(kept) == 6 and (kept < 15).sum() >= 2 <= (kept >= 15).sum()
    with pytest.raises(ValueError, match="one finite score"):
        selection.select(rows[:30], times, scores=np.full(30, np.nan), method="coverage")
