"""The trained scorer of key frames: its contract, its objectives, its examples, and that it learns."""

import itertools

import numpy as np
import pytest
import torch

from test_examples import corpus_of
from videomatch import objectives
from videomatch.data.examples import Source
from videomatch.data.examples.edited_frames import EditedFrames
from videomatch.data.store import Store, StoreWriter
from videomatch.models import key_frames

RNG = np.random.default_rng
DIM = 16


def build(**options) -> key_frames.Model:
    torch.manual_seed(0)
    return key_frames.Model(key_frames.Config(frame_dim=DIM, width=32, **options)).eval()


def frames(count: int, length: int) -> torch.Tensor:
    return torch.randn(count, length, DIM, generator=torch.Generator().manual_seed(1))


def test_padding_and_batch_do_not_matter():
    model, rows = build(), frames(3, 12)
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[1, 7:] = False
    with torch.inference_mode():
        found = model(rows * mask[..., None], mask)["keep_logits"]
        alone = model(rows[1:2, :7], mask[1:2, :7])["keep_logits"]
        torch.testing.assert_close(found[1:2, :7], alone, rtol=1e-4, atol=1e-5)
        assert not found[1, 7:].any()
        junk = torch.where(mask[..., None], rows, 77.0)
        torch.testing.assert_close(model(junk, mask)["keep_logits"], found)
        assert model(3 * rows, mask)["keep_logits"].allclose(model(rows, mask)["keep_logits"], atol=1e-4)


def test_saved_is_loaded_equal_and_starts_at_its_share(tmp_path):
    model, rows = build(), frames(4, 40)
    mask = torch.ones(4, 40, dtype=torch.bool)
    model.save_pretrained(tmp_path)
    again = key_frames.Model.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        found = model.keep(rows, mask)
        assert torch.equal(found, again.keep(rows, mask))
    assert 0.05 < found.sigmoid().mean() < 0.35 and found.std() > 0.01
    with pytest.raises(ValueError, match="kernel 4"):
        key_frames.Config(kernel=4)


def test_short_videos():
    for length in (1, 2, 3):
        assert build().keep(frames(2, length), torch.ones(2, length, dtype=torch.bool)).shape == (2, length)


def test_budget_and_stability():
    mask = torch.tensor([[True, True, True, False], [True, True, False, False]])
    logits = torch.tensor([[0.0, 0, 0, 9], [0, 0, 9, 9]])
    assert objectives.key_frame_budget(logits, mask, share=0.2).item() == pytest.approx(0.09)
    shown = torch.tensor([[2, -1], [1, 0]])
    edited = torch.tensor([[40.0, 0], [0, 0]])
    assert objectives.key_frame_stability(edited, logits, shown).item() == pytest.approx(0.25)


def test_coverage_is_what_kept_frames_leave_out():
    rows = torch.eye(DIM)[None, [0, 0, 0, 1, 1, 1]]
    mask = torch.ones(1, 6, dtype=torch.bool)
    both = torch.tensor([[-30.0, 30, -30, -30, 30, -30]])
    one = torch.tensor([[-30.0, 30, -30, -30, -30, -30]])
    assert objectives.key_frame_coverage(both, rows, mask).item() == pytest.approx(0, abs=1e-3)
    assert objectives.key_frame_coverage(one, rows, mask).item() == pytest.approx(0.5, abs=1e-3)
    logits = torch.tensor([[9.0, -1, -1, -1, -1, -1]], requires_grad=True)
    objectives.key_frame_coverage(logits, rows, mask).backward()
    assert logits.grad is not None and (logits.grad[0, 3:] < 0).all()  # to keep one of the other scene would help


def test_coverage_is_the_expectation_over_all_draws():
    rows, mask = frames(1, 6), torch.tensor([[True] * 5 + [False]])
    logits = torch.randn(1, 6, generator=torch.Generator().manual_seed(3))
    p, unit = logits[0].sigmoid(), torch.nn.functional.normalize(rows[0], dim=-1)
    cosine, expected = unit @ unit.T, 0.0
    place = torch.arange(6)
    near = cosine - 0.1 * (place[:, None] - place).abs()
    for drawn in itertools.product([0, 1], repeat=5):
        kept = [n for n in range(5) if drawn[n]]
        chance = np.prod([p[n] if drawn[n] else 1 - p[n] for n in range(5)])
        best = [cosine[i, max(kept, key=lambda j, i=i: near[i, j])] if kept else 0.0 for i in range(5)]
        expected += chance * (1 - np.mean(best))
    assert objectives.key_frame_coverage(logits, rows, mask, far=0.1).item() == pytest.approx(expected, abs=1e-5)


def test_alignment_prefers_kept_frames_that_point_home():
    rows = frames(2, 10)
    mask, shown = torch.ones(2, 10, dtype=torch.bool), torch.arange(10).expand(2, 10)
    logits = torch.zeros(2, 10, requires_grad=True)
    right = objectives.key_frame_alignment(logits, logits, rows, mask, rows, shown)
    wrong = objectives.key_frame_alignment(logits, logits, rows, mask, rows, shown.flip(1), within=0)
    assert right < 0.1 < wrong
    wrong.backward()
    assert logits.grad is not None and logits.grad.isfinite().all() and logits.grad.abs().sum() > 0
    none = objectives.key_frame_alignment(logits, logits, rows, mask, rows, torch.full((2, 10), -1))
    assert none.item() == 0


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Source:
    folder = tmp_path_factory.mktemp("edited")
    corpus, _ = corpus_of(folder)
    rng = RNG(0)
    with StoreWriter(folder / "long", shape=(DIM,), dtype="float32", times=True) as writer:
        for name in ("v0", "v1", "v2", "v6"):
            shots = np.repeat(rng.normal(size=(12, DIM)), 5, axis=0)
            rows = shots + 0.3 * rng.normal(size=shots.shape)
            starts = np.arange(len(rows)) / 2
            writer.add(name, rows.astype(np.float32), times=np.stack([starts, starts + 0.5], 1))
    return Source(corpus, Store.open(folder / "long"))


def test_a_made_copy_shows_what_it_says(source):
    examples = EditedFrames(source, num_frames=32, noise=0.0, mix=0.0, blackout=0.2).on("train")
    assert examples.facts() == {"frame_dim": DIM} and len(examples) == 4  # those with features
    batch = examples.batch(np.array([0, 1, 2, 3]), RNG(1))
    shown, there = batch["shown"], batch["edited_mask"]
    assert batch["frames"].shape == batch["edited"].shape == (4, 32, DIM)
    assert (shown[~there] == -1).all() and 0 < (shown[there] < 0).float().mean() < 0.5
    for row in range(4):
        at = shown[row][shown[row] >= 0]
        assert (at.diff() >= 0).all() and at.max() < batch["mask"][row].sum()
        copied = batch["edited"][row][shown[row] >= 0]
        torch.testing.assert_close(copied, batch["frames"][row][at])
    again = examples.batch(np.array([0, 1, 2, 3]), RNG(1))
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_it_learns_to_stand_for_all_frames(source):
    examples = EditedFrames(source, num_frames=48).on("train")
    torch.manual_seed(0)
    model = key_frames.Model(key_frames.Config(frame_dim=DIM, width=32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def loss(seed: int) -> torch.Tensor:
        batch = examples.batch(np.arange(4).repeat(3), RNG(seed))
        found = model(**batch)
        lost = objectives.key_frame_coverage(found["keep_logits"], batch["frames"], batch["mask"])
        return lost + 10 * objectives.key_frame_budget(found["keep_logits"], batch["mask"])

    before = np.mean([loss(s).item() for s in range(1000, 1010)])
    for step in range(80):
        optimiser.zero_grad()
        loss(step).backward()
        optimiser.step()
    assert np.mean([loss(s).item() for s in range(1000, 1010)]) < 0.85 * before
