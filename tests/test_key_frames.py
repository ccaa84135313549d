"""The trained scorer of key frames: its contract, its objectives, its examples, and that it learns."""

import numpy as np
import pytest
import torch

from test_examples import corpus_of
from videomatch.data.store import Store, StoreWriter
from videomatch.examples import Source
from videomatch.examples.edited_frames import EditedFrames
from videomatch.models import key_frames
from videomatch.objectives.segments import key_frame_coverage, key_frame_stability

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
        found = model.scorer(rows * mask[..., None], mask)
        alone = model.scorer(rows[1:2, :7], mask[1:2, :7])
        torch.testing.assert_close(found[1:2, :7], alone, rtol=1e-4, atol=1e-5)
        assert not found[1, 7:].any()
        junk = torch.where(mask[..., None], rows, 77.0)
        torch.testing.assert_close(model.scorer(junk, mask), found)
        assert model.scorer(3 * rows, mask).allclose(model.scorer(rows, mask), atol=1e-4)


def test_saved_is_loaded_equal_and_starts_without_preferences(tmp_path):
    model, rows = build(), frames(4, 40)
    mask = torch.ones(4, 40, dtype=torch.bool)
    assert not model.scorer(rows, mask).any()
    torch.nn.init.normal_(model.scorer.score.weight)
    model.save_pretrained(tmp_path)
    again = key_frames.Model.from_pretrained(tmp_path).eval()
    with torch.inference_mode():
        found = model.scorer(rows, mask)
        assert torch.equal(found, again.scorer(rows, mask)) and found.std() > 0.01
    with pytest.raises(ValueError, match="kernel 4"):
        key_frames.Config(kernel=4)


def test_short_videos():
    for length in (1, 2, 3):
        assert build().scorer(frames(2, length), torch.ones(2, length, dtype=torch.bool)).shape == (2, length)


def test_stability_counts_what_is_shown():
    kept = torch.tensor([[0.5, 0.5, 0.5, 1.0], [0.5, 0.5, 1.0, 1.0]])
    shown = torch.tensor([[2, -1], [1, 0]])
    edited = torch.tensor([[1.0, 0], [0.5, 0.5]])
    assert key_frame_stability(edited, kept, shown).item() == pytest.approx(0.25)


def test_coverage_is_what_key_frames_leave_out():
    rows = torch.eye(DIM)[None, [0, 0, 0, 1, 1, 1]]
    mask = torch.tensor([[True] * 5 + [False]])
    assignment = torch.zeros(1, 6, 6)
    assignment[0, :3, 1] = 1
    assignment[0, 3:5, 4] = 1
    assert key_frame_coverage(assignment, 3 * rows, mask).item() == pytest.approx(0, abs=1e-6)
    assignment[0, 3:5] = torch.tensor([0.0, 0.5, 0, 0, 0.5, 0])
    assert key_frame_coverage(assignment, rows, mask).item() == pytest.approx(0.2, abs=1e-6)


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
    return Source(corpus, Store(folder / "long"))


def test_a_made_copy_shows_what_it_says(source):
    examples = EditedFrames(source, num_frames=32).on("train")
    assert examples.derived_config() == {"frame_dim": DIM} and len(examples) == 4  # those with features
    batch = examples.batch(np.array([0, 1, 2, 3]), RNG(1))
    shown, there = batch["source_frame"], batch["edited_mask"]
    assert batch["frames"].shape == batch["edited"].shape == (4, 32, DIM)
    assert (shown[~there] == -1).all() and 0 < (shown[there] < 0).float().mean() < 0.5
    for row in range(4):
        at = shown[row][shown[row] >= 0]
        assert (at.diff() >= 0).all() and at.max() < batch["mask"][row].sum()
        copied = batch["edited"][row][shown[row] >= 0]
        assert (copied * batch["frames"][row][at]).sum(1).median() > 0.5
    again = examples.batch(np.array([0, 1, 2, 3]), RNG(1))
    assert all(torch.equal(batch[name], again[name]) for name in batch)


def test_it_learns_to_choose_the_same_in_a_copy(source):
    examples = EditedFrames(source, num_frames=48).on("train")
    torch.manual_seed(0)
    model = key_frames.Model(key_frames.Config(frame_dim=DIM, width=32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)

    def losses(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        batch = examples.batch(np.arange(4).repeat(3), RNG(seed))
        found = model(**batch)
        lost = key_frame_coverage(found["assignment"], batch["frames"], batch["mask"])
        return lost, key_frame_stability(
            found["edited_keep_probability"], found["keep_probability"], batch["source_frame"]
        )

    def mean() -> tuple[float, float]:
        with torch.no_grad():
            found = [[x.item() for x in losses(s)] for s in range(1000, 1006)]
        lost, apart = np.mean(found, axis=0)
        return float(lost), float(apart)

    before = mean()
    for step in range(60):
        optimiser.zero_grad()
        lost, apart = losses(step)
        (lost + apart).backward()
        optimiser.step()
    after = mean()
    assert after[1] < 0.9 * before[1] and sum(after) < sum(before)
