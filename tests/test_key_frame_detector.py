"""Key frames and a detector that learn together: the batch, whose gradients arrive, and what may begin it."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from test_tune import data  # noqa: F401  (the planted corpus)
from videomatch.common.checkpoint import load_weights
from videomatch.data import tables
from videomatch.data.store import Store
from videomatch.examples import Source
from videomatch.examples.copied_frames import CopiedFrames
from videomatch.models import key_frame_detector, key_frames, segment_detector
from videomatch.training.loop import Trainer, Training
from videomatch.training.objective import configured

SMALL = {"width": 8, "levels": 4, "head": 8}
SCORER = {"key_frame_coverage": {}, "key_frame_stability": {}}
LOSSES = {"segment_focal": {}, "segment_giou": {}, "segment_corners": {}, "segment_line": {}, **SCORER}


def examples_of(data):  # noqa: F811
    source = Source(data / "corpus", Store(data / "features/frames"))
    return CopiedFrames(source, expert="frames", split="copies_val", validation="copies_val").parts()


def model_of(dim: int) -> key_frame_detector.Model:
    torch.manual_seed(0)
    return key_frame_detector.Model(key_frame_detector.Config(frame_dim=dim, scorer={"width": 16}, **SMALL))


def test_frames_of_pairs_and_their_segments(data):  # noqa: F811
    train, val = examples_of(data)
    batch = val.batch(np.arange(12), np.random.default_rng(0))
    assert batch["query_frames"].shape[:2] == (12, 44) and batch["reference_frames"].shape[:2] == (12, 60)
    truth = tables.read("segments", data / "corpus").sort("query_id")
    times = truth.select("query_start", "query_end", "reference_start", "reference_end").to_numpy() * 2
    np.testing.assert_allclose(batch["segments"][batch["segments_mask"]], times, atol=1e-5)
    for seed in range(6):  # swapped, backwards, both: what is copied stays alike
        batch = train.batch(np.arange(12), np.random.default_rng(seed))
        unit = [torch.nn.functional.normalize(batch[f"{side}_frames"], dim=-1) for side in ("query", "reference")]
        shown = key_frame_detector.source_frames(batch["query_mask"], batch["segments"], batch["segments_mask"])
        pair, query = (shown >= 0).nonzero(as_tuple=True)
        alike = (unit[0][pair, query] * unit[1][pair, shown[pair, query]]).sum(-1)
        assert len(alike) > 50 and alike.median() > 0.6


def test_what_the_detector_loses_reaches_the_scorer(data):  # noqa: F811
    train, _ = examples_of(data)
    batch = train.batch(np.arange(12), np.random.default_rng(0))
    model = model_of(train.derived_config()["frame_dim"])
    torch.nn.init.normal_(model.scorer.score.weight)  # zero lets nothing through
    outputs = model(**batch)
    assert outputs["keep_probability"].shape[0] == outputs["source_frame"].shape[0] == 24
    chosen = configured({n: o for n, o in LOSSES.items() if n not in SCORER})
    torch.stack([objective({**batch, **outputs})[0] for objective in chosen.values()]).sum().backward()
    slopes = [p.grad for p in model.scorer.parameters()]
    assert all(g is not None and torch.isfinite(g).all() for g in slopes)
    assert max(g.abs().max().item() for g in slopes if g is not None) > 1e-6


def test_it_begins_with_both_and_is_saved_whole(data, tmp_path):  # noqa: F811
    train, _ = examples_of(data)
    dim = train.derived_config()["frame_dim"]
    torch.manual_seed(1)
    parts = [
        key_frames.Model(key_frames.Config(frame_dim=dim, width=16)),
        segment_detector.Model(segment_detector.Config(**SMALL)),
    ]
    model = model_of(dim)
    for number, part in enumerate(parts):
        part.save_pretrained(tmp_path / str(number))
    load_weights(model, *(load_file(tmp_path / name / "model.safetensors") for name in "01"))
    model.save_pretrained(tmp_path / "both")
    again = key_frame_detector.Model.from_pretrained(tmp_path / "both").eval()
    rows, there, values = (
        torch.randn(1, 30, dim),
        torch.ones(1, 30, dtype=torch.bool),
        np.random.default_rng(0).uniform(size=(40, 40)),
    )
    with torch.inference_mode():
        torch.testing.assert_close(again.scorer(rows, there), parts[0].eval().scorer(rows, there))
    found = parts[1].eval().align(values, confidence=0.0)
    np.testing.assert_allclose(again.align(values, confidence=0.0), found, rtol=1e-4, atol=1e-4)


def test_the_loop_trains_it(data):  # noqa: F811
    train, val = examples_of(data)
    model = model_of(train.derived_config()["frame_dim"])
    run = Trainer(model, configured(LOSSES), Training(epochs=12, batch=4, lr=4e-3), seed=0)
    before = run.validate(val)
    run.fit(train)
    after = run.validate(val)
    assert after["segment_line"] < 0.97 * before["segment_line"]


def test_what_is_no_option_is_refused():
    with pytest.raises(ValueError, match="kernel 4"):
        key_frame_detector.Config(scorer={"kernel": 4})
