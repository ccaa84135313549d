"""The training loop and the stage ``train``."""

import copy
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, AutoTokenizer, VisionTextDualEncoderModel

from toys import CLIP, TAGGER, toy
from videomatch import examples as examples_
from videomatch.common.checkpoint import load_weights
from videomatch.common.precision import reproducible
from videomatch.data import tables, tokenize
from videomatch.data.store import Store, StoreWriter
from videomatch.examples import Source
from videomatch.examples.frame_caption import FrameCaption
from videomatch.examples.frame_tags import FrameTags
from videomatch.models import image_tagger
from videomatch.objectives.tags_and_masks import bce_tags
from videomatch.stages.train import train
from videomatch.training.loop import STATE, Trainer, Training, moving_average, optimiser, rate_factors
from videomatch.training.objective import Objective, configured


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy"))


def run(toys, folder: Path, system, *, seed=0, init=None, fresh=None) -> bytes:
    """Train and return the weights' bytes."""
    corpus, features = toys
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    given = {"corpus": corpus, "features": [features], "output": folder / "out", "scratch": folder / "scratch"}
    train(**given, threads=1, system=system, seed=seed, init=init, fresh=fresh)
    return (folder / "out/model.safetensors").read_bytes()


def changed(system, **training_options):
    system = copy.deepcopy(system)
    system["training"].update(training_options)
    return system


@pytest.mark.parametrize("system", [CLIP, TAGGER], ids=["clip", "tagger"])
def test_same_seed_same_weights(toys, tmp_path, system):
    first, again = run(toys, tmp_path / "a", system), run(toys, tmp_path / "b", system)
    assert first == again
    assert (tmp_path / "a/out/log.csv").read_bytes() == (tmp_path / "b/out/log.csv").read_bytes()
    assert first != run(toys, tmp_path / "c", system, seed=1)


def test_a_checkpoint_loads_by_transformers(toys, tmp_path):
    run(toys, tmp_path, CLIP)
    out = tmp_path / "out"
    assert isinstance(AutoModel.from_pretrained(out), VisionTextDualEncoderModel)
    read = AutoTokenizer.from_pretrained(out)
    assert read.decode(read("A red square").input_ids) == "<|startoftext|> a red square <|endoftext|>"
    assert yaml.safe_load((out / "system.yaml").read_text()) == CLIP
    rows = pl.read_csv(out / "log.csv")
    assert rows.columns == ["epoch", "lr", "train/clip_contrastive", "val/clip_contrastive"]
    assert rows["epoch"].to_list() == [1, 2]


def test_learns_and_overfits_one_batch(toys):
    corpus, features = toys
    drawn = FrameTags(Source(corpus, Store(features / "frames")), per_video=6).on("train")
    batch = drawn.batch(np.arange(8), np.random.default_rng(0))

    class One(type(drawn)):  # one batch for ever
        def batch(self, numbers, rng):
            return batch

    drawn.__class__ = One
    torch.manual_seed(0)
    options = {"image_size": 32, "channels": [16, 32], "blocks": [1, 1]}
    model = image_tagger.Model(image_tagger.Config(**drawn.derived_config(), **options))
    trainee = Trainer(
        model,
        {"bce_tags": Objective(bce_tags)},
        Training(epochs=6, batch=8, lr=1e-2, precision="fp32"),
        seed=0,
    )
    rows = trainee.fit(drawn)
    assert rows[-1]["train/bce_tags"] < 0.1


KILLED = """
import sys
from pathlib import Path
from toys import CLIP
from videomatch.stages.train import train
CLIP["training"]["epochs"] = 6
corpus, features, output, scratch = map(Path, sys.argv[1:])
train(corpus=corpus, features=[features], output=output, scratch=scratch, threads=1, system=CLIP, seed=0)
"""


def test_killed_and_resumed_equals_uninterrupted(toys, tmp_path):
    expected = run(toys, tmp_path / "whole", changed(CLIP, epochs=6))
    corpus, features = toys
    (tmp_path / "out").mkdir()
    (tmp_path / "scratch").mkdir()
    arguments = [corpus, features, tmp_path / "out", tmp_path / "scratch"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    here = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", KILLED, *map(str, arguments)], env=here)
    state, saves, last = tmp_path / "scratch" / STATE, 0, 0
    while process.poll() is None and saves < 3:  # killed after the second epoch, or a little later
        now = state.stat().st_mtime_ns if state.exists() else 0
        saves, last = saves + (now != last), now
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    saved = torch.load(state, weights_only=True)
    assert (saved["epoch"], saved["step"]) != (0, 0) and saved["epoch"] < 6
    assert run(toys, tmp_path, changed(CLIP, epochs=6)) == expected
    assert (tmp_path / "out/log.csv").read_bytes() == (tmp_path / "whole/out/log.csv").read_bytes()


#: TAGGER with everything that a state has to remember
WATCHED = copy.deepcopy(TAGGER)
WATCHED["training"] |= {"ema": 0.7, "keep": "best", "monitor": "val/bce_tags", "validate_every": 0.5, "early_stop": 9}
WATCHED["training"] |= {"plateau": 0.5, "prefetch": 2, "lr_scale": {"classifier": 2.0}, "accumulate": 2}


@pytest.mark.parametrize("stop", [1, 6])
def test_stopped_anywhere_and_resumed_equals_uninterrupted(toys, tmp_path, stop):
    """With BatchNorm's statistics and dropout, without a process of its own."""
    train_examples, validation = FrameTags(
        Source(toys[0], Store(toys[1] / "frames")),
        **{name: value for name, value in WATCHED["examples"].items() if name not in ("kind", "expert")},
    ).parts()
    model_options = {name: value for name, value in WATCHED["model"].items() if name != "name"}

    def trainer(folder):
        torch.manual_seed(0)
        model = image_tagger.Model(image_tagger.Config(**train_examples.derived_config(), **model_options))
        folder.mkdir(exist_ok=True)
        settings = Training(**WATCHED["training"])
        return Trainer(model, configured(WATCHED["objectives"]), settings, seed=0, scratch=folder, save_seconds=0.0)

    with reproducible(1):
        whole = trainer(tmp_path / "whole")
        rows = whole.fit(train_examples, validation)
        cut = trainer(tmp_path / "cut")
        step, done = cut.train_step, []

        def fail(batch, rate):
            if len(done) == stop:
                raise KeyboardInterrupt
            done.append(rate)
            step(batch, rate)

        cut.train_step = fail
        with pytest.raises(KeyboardInterrupt):
            cut.fit(train_examples, validation)
        resumed = trainer(tmp_path / "cut")
        assert resumed.fit(train_examples, validation) == rows
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


class Line(examples_.Examples):
    """Points on a line with noise, for a linear model."""

    def __init__(self, count=32):
        self.per_video, self.videos = 1, [str(n) for n in range(count)]
        self.x = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))

    def _select(self, split):
        pass

    def derived_config(self):
        return {}

    def batch(self, numbers, rng):
        x = self.x[torch.from_numpy(numbers)]
        return {"x": x, "y": x @ torch.tensor([1.0, -2.0, 0.5])}


class Linear(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x):
        return {"guess": self.layer(x)[:, 0]}


def squares(guess, y, *, power=2):
    return (guess - y).abs().pow(power).mean()


def linear(objectives=None, scratch=None, **options) -> Trainer:
    """The trainer of a linear model."""
    settings = Training(**{"epochs": 3, "batch": 16, "lr": 0.05, "precision": "fp32", "warmup": 0.0, **options})
    objectives = objectives or {"squares": Objective(squares)}
    return Trainer(Linear(), objectives, settings, seed=0, scratch=scratch, save_seconds=0.0)


def fitted(*, validation=None, stop=None, **options):
    """The weights of a linear model, and the log; ``stop`` leaves it after so many epochs."""
    trainer = linear(**options)
    if stop is not None:
        trainer.settings = dataclasses.replace(trainer.settings, epochs=stop)
    rows = trainer.fit(Line(), validation)
    return trainer.model.layer.weight.detach(), rows


@pytest.mark.parametrize("accumulate", [2, 3, 16, 99])
def test_accumulation_equals_the_bigger_batch(accumulate):
    (whole, rows), (pieces, others) = fitted(), fitted(accumulate=accumulate)
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-6)
    assert others[-1]["train/squares"] == pytest.approx(rows[-1]["train/squares"], rel=1e-4)


def test_the_loop_fits_a_line():
    weight, rows = fitted(epochs=80, lr=0.1, weight_decay=0.0)
    torch.testing.assert_close(weight, torch.tensor([[1.0, -2.0, 0.5]]), rtol=0, atol=0.02)
    assert rows[-1]["train/squares"] < 1e-3


def test_objectives_are_weighed_and_take_options():
    objectives = {"near": Objective(squares, 0.5), "far": Objective(squares, 2.0, {"power": 3})}
    trainer, data = linear(objectives, epochs=1, batch=32, lr=1e-9, clip_norm=None), Line()
    losses, weight = trainer.losses(data.batch(np.arange(32), np.random.default_rng(0))), trainer.model.layer.weight
    expected = torch.autograd.grad(0.5 * losses["near"][0] + 2.0 * losses["far"][0], weight)[0]
    trainer.fit(data)
    torch.testing.assert_close(weight.grad, expected)


def test_objectives_may_ask_for_the_progress_and_a_number_of_the_step():
    seen = []

    def objective(guess, progress, uniform):
        seen.append((float(progress), float(uniform)))
        return guess.square().mean()

    for options in ({}, {"accumulate": 2}):
        trainer, begin = linear({"o": Objective(objective)}, validate_every=3, **options), len(seen)
        trainer.fit(Line(), Line())
        steps = seen[begin:-2]
        assert seen[-2:] == [(0.0, 0.0)] * 2, "a validation, in two batches"
        each = steps[:: options.get("accumulate", 1)]
        assert [p for p, _ in steps] == [p for p, _ in each for _ in range(len(steps) // 6)]
        np.testing.assert_allclose([p for p, _ in each], np.arange(6) / 6, rtol=1e-6)
        assert len({u for _, u in steps}) == 6 and all(0 <= u < 1 for _, u in steps)
    assert seen[:6] == seen[8:20:2], "the same numbers again"


def test_a_missing_tensor_is_named():
    def objective(guess, absent):
        return guess.mean()

    with pytest.raises(KeyError, match=r"objective asks for 'absent'; there are guess, progress, uniform, x, y"):
        linear({"o": Objective(objective)}).fit(Line())


def test_a_loss_that_is_not_finite_stops_the_run():
    with pytest.raises(FloatingPointError, match="epoch 1, step 1"):
        linear({"o": Objective(lambda guess: guess.mean() / 0)}).fit(Line())


def test_learning_rate():
    settings = Training(lr=2.0, warmup=0.1)
    rates = [settings.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0) and 0 < rates[99] < 0.01
    assert Training(schedule="constant", warmup=0.0).rate(99, 100) == 1e-3
    assert Training(schedule="linear", warmup=0.0).rate(1, 2) == pytest.approx(1e-3 * 1.0)


def test_learning_rate_falls_with_the_epochs():
    settings = Training(epochs=4, lr=2.0, warmup=0.0, schedule="constant", decay=0.5)
    assert [settings.rate(step, 12) for step in range(12)] == [2.0] * 3 + [1.0] * 3 + [0.5] * 3 + [0.25] * 3


@pytest.mark.parametrize("options", [{"epochs": 0}, {"decay": 1.5}, {"ema": 1.0}, {"early_stop": 0}])
def test_settings_are_checked(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Training(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"keep": "best"},
        {"early_stop": 2},
        {"plateau": 0.5},
        {"keep": "best", "monitor": "val/x", "validate_every": 0},
    ],
)
def test_watching_needs_a_monitor(options):
    with pytest.raises(ValueError, match="monitor"):
        Training(**options)


def test_a_monitor_that_is_not_measured_is_named():
    with pytest.raises(ValueError, match=r"'val/Spearman' is not measured; there are val/squares$"):
        fitted(validation=Line(9), monitor="val/Spearman")
    with pytest.raises(ValueError, match="there are none"):
        fitted(keep="best", monitor="val/squares")


NAMES = [
    "encoder.embeddings.word.weight",
    "encoder.encoder.layer.0.a.weight",
    "encoder.encoder.layer.1.a.weight",
    "encoder.encoder.layer.1.b.bias",
    "vision.layers.0.weight",
    "vision.patch_embed.weight",
    "projection.weight",
    "tag_head.weight",
]


def test_the_first_pattern_scales(caplog):
    pairs = [("encoder", 0.1), (r"layer\.1", 7.0), ("bias$", 3.0), ("head", 2.0), ("absent", 9.0)]
    assert list(rate_factors(NAMES, pairs).values()) == [0.1, 0.1, 0.1, 0.1, 1.0, 1.0, 1.0, 2.0]
    assert "'absent' is in no parameter's name" in caplog.text
    in_order = {r"b_second": 5.0, r"a_first": 2.0}
    assert rate_factors(["a_first.b_second"], in_order) == {"a_first.b_second": 2.0}
    assert set(rate_factors(NAMES, {}).values()) == {1.0}


def test_scaled_parameters_step_by_their_own_rate():
    before = Linear().layer.bias.detach().clone()
    options = {"epochs": 1, "weight_decay": 0.0, "clip_norm": None, "schedule": "constant"}
    trainer = linear(**options, lr_scale={"bias": 0.0})
    trainer.fit(Line())
    assert torch.equal(trainer.model.layer.bias, before)
    first = {}
    for factor in (1.0, 0.5):  # AdamW's first step is the rate, for any gradient
        weight, _ = fitted(**options, batch=32, lr=0.1, lr_scale={"weight": factor})
        first[factor] = weight - Linear().layer.weight.detach()
    torch.testing.assert_close(first[1.0], 2 * first[0.5], rtol=1e-4, atol=1e-6)


def test_the_average_of_the_weights():
    """Against the recursion written out, with BatchNorm's statistics and its counter."""
    model = torch.nn.BatchNorm1d(2)
    average = moving_average(model, 0.6)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1, 9):
        model(torch.randn(4, 2, generator=torch.Generator().manual_seed(step)))
        with torch.no_grad():
            model.weight += step
        average.update_parameters(model)
        keep = min(0.6, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * value if value.is_floating_point() else value.clone()
    for name, value in average.module.state_dict().items():
        torch.testing.assert_close(value, expected[name])


def test_the_result_is_the_average():
    (plain, _), (averaged, rows) = fitted(), fitted(ema=0.8, validation=Line(9))
    trainer, average = linear(), moving_average(Linear(), 0.8)
    model, step = trainer.model, trainer.train_step
    trainer.train_step = lambda batch, rate: (step(batch, rate), average.update_parameters(model))[0]
    trainer.fit(Line())
    assert torch.equal(model.layer.weight, plain)
    assert torch.equal(average.module.layer.weight, averaged) and not torch.equal(plain, averaged)
    batch = Line(9).batch(np.arange(9), np.random.default_rng(0))
    measured = squares(average.module(batch["x"])["guess"], batch["y"])
    assert rows[-1]["val/squares"] == pytest.approx(float(measured), rel=1e-5)


class Scored(Line):
    """Validation whose metric has given values, one per validation."""

    def __init__(self, name, values):
        super().__init__(9)
        self.values = iter(values)
        self.metrics = {name: lambda y, guess: next(self.values) + 0 * len(y)}


@pytest.mark.parametrize("name, best", [("Spearman", 4), ("t2v/R@5", 4), ("mAP", 4), ("MSE", 2), ("spearman", 2)])
def test_the_best_weights_are_kept(name, best):
    """After validations 1, 0, 3, 5, 5: the highest is the fourth, the lowest the second."""
    scored = Scored(name, [1.0, 0.0, 3.0, 5.0, 5.0])
    options = {"schedule": "constant", "epochs": 5}
    weight, rows = fitted(**options, keep="best", monitor=f"val/{name}", validation=scored)
    assert torch.equal(weight, fitted(**options, stop=best)[0])
    worst = [1.0, 0.0, 0.0, 0.0, 0.0] if best == 2 else [1.0, 1.0, 3.0, 5.0, 5.0]
    assert [row[f"best/{name}"] for row in rows] == worst


def test_training_ends_when_nothing_improves():
    scored = Scored("MSE", [3.0, 2.0, 2.0, 2.5, 9.0])
    options = {"epochs": 9, "schedule": "constant"}
    weight, rows = fitted(**options, early_stop=2, monitor="val/MSE", validation=scored)
    assert [row["val/MSE"] for row in rows] == [3.0, 2.0, 2.0, 2.5]
    assert torch.equal(weight, fitted(**options, stop=4)[0])


def test_learning_rate_falls_when_nothing_improves():
    """Not before a rate was kept for three validations; what improves does not start the count again."""
    scored = Scored("R@sum", [1.0, 2.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0])
    options = {"epochs": 10, "schedule": "constant", "lr": 8.0, "plateau": 0.5, "decay": 0.9}
    _, rows = fitted(**options, monitor="val/R@sum", validation=scored)
    halved = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3]
    assert [row["lr"] for row in rows] == pytest.approx([8 * 0.5**n * 0.9**e for e, n in enumerate(halved)])


def test_the_best_and_its_age_survive_a_kill(tmp_path):
    """Stopped in the fourth epoch, after the best: it is not forgotten, and patience is not renewed."""
    scored = Scored("MSE", [3.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0])
    options = {"schedule": "constant", "epochs": 9, "keep": "best", "monitor": "val/MSE", "early_stop": 3}

    class Cut(Line):
        drawn = 0

        def batch(self, numbers, rng):
            self.drawn += 1
            if self.drawn == 8:
                raise KeyboardInterrupt
            return super().batch(numbers, rng)

    with pytest.raises(KeyboardInterrupt):
        linear(scratch=tmp_path, **options).fit(Cut(), scored)
    trainer = linear(scratch=tmp_path, **options)
    rows = trainer.fit(Line(), scored)
    assert [row["val/MSE"] for row in rows] == [3.0, 1.0, 2.0, 2.0, 2.0]
    assert {row["best/MSE"] for row in rows[1:]} == {1.0}
    assert torch.equal(trainer.model.layer.weight, fitted(epochs=9, schedule="constant", stop=2)[0])


def test_validations_inside_an_epoch():
    scored = Scored("MSE", range(100))
    _, rows = fitted(epochs=3, batch=4, validate_every=0.5, monitor="val/MSE", validation=scored)  # 8 steps an epoch
    assert [(row["val/MSE"], row["best/MSE"]) for row in rows] == [(1, 0), (3, 0), (5, 0)]
    assert [d for d in range(1, 21) if Training(epochs=2, validate_every=0.3).validates(d, 10)] == [
        3, 6, 9, 12, 15, 18, 20,
    ]  # fmt: skip
    assert [d for d in range(1, 31) if Training(epochs=3, validate_every=2).validates(d, 10)] == [20, 30]
    assert not Training(validate_every=0).validates(640, 64)


def test_validation_sees_every_example_once_in_order():
    found = {}

    class Whole(Line):
        metrics: ClassVar = {"seen": lambda x, guess: found.update(x=x, guess=guess) or 1.0}

    data = Whole(21)  # two batches of 16 would be 11 examples short
    trainer = linear()
    row = trainer.validate(data)
    assert torch.equal(found["x"], data.x)
    everything = trainer.losses(data.batch(np.arange(21), np.random.default_rng(0)))["squares"][0].detach()
    assert row == {"squares": pytest.approx(float(everything), rel=1e-5), "seen": 1.0}


def test_batches_drawn_ahead_change_nothing(toys, tmp_path):
    first, ahead = (run(toys, tmp_path / str(n), changed(CLIP, prefetch=n)) for n in (0, 2))
    assert first == ahead
    assert (tmp_path / "0/out/log.csv").read_bytes() == (tmp_path / "2/out/log.csv").read_bytes()


def test_an_error_while_sampling_ahead_is_raised():
    class Broken(Line):
        def batch(self, numbers, rng):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        linear(prefetch=3).fit(Broken())


def test_norms_and_biases_do_not_decay():
    groups = optimiser(Linear(), lr=0.1, weight_decay=0.3).param_groups
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.3, 1), (0.0, 1)]


def test_init_continues_from_weights_and_tokenizer(toys, tmp_path):
    run(toys, tmp_path / "a", CLIP)
    still = changed(CLIP, lr=0.0, epochs=1)
    still["tokenizer"] = {"style": "clip", "vocab_size": 280}  # not used: weights go with their own vocabulary
    again = run(toys, tmp_path / "b", still, init=[tmp_path / "a/out"])
    before, after = (load_file(tmp_path / name / "out/model.safetensors") for name in "ab")
    counted = re.compile("running_|num_batches")  # batch norms follow their batches at any rate of learning
    assert again and [n for n, w in before.items() if not (counted.search(n) or torch.equal(after[n], w))] == []
    wider = changed(CLIP, lr=0.0, epochs=1)
    wider["model"]["text_layers"] = 2
    with pytest.raises(
        ValueError, match=r"text_model.encoder.layer.1.attention.self.query.weight \(64, 64\), which no checkpoint"
    ):
        run(toys, tmp_path / "c", wider, init=[tmp_path / "a/out"])
    run(toys, tmp_path / "d", wider, init=[tmp_path / "a/out"], fresh=[r"^text_model\.encoder\.layer\.1\."])
    began, wide = (load_file(tmp_path / name / "out/model.safetensors") for name in "ad")
    assert [n for n, w in began.items() if not (counted.search(n) or torch.equal(wide[n], w))] == []
    with pytest.raises(ValueError, match=r"logit_scale \(\), which the model does not have; .*; and \d+ more"):
        run(toys, tmp_path / "e", TAGGER, init=[tmp_path / "a/out"])


class Positions(nn.Module):
    """Tables of positions as BERT (none is padding) and RoBERTa (row 1 is) have them, and one of something else."""

    def __init__(self, rows: int, width: int = 2):
        super().__init__()
        self.positions = nn.Embedding(rows, width)
        self.position_embeddings = nn.Embedding(rows + 2, width, padding_idx=1)
        self.words = nn.Embedding(4, width)


def test_tables_of_positions_are_repeated_or_cut_and_nothing_else_is(tmp_path):
    few, many = Positions(3), Positions(8)
    load_weights(many, few.state_dict())
    assert torch.equal(many.positions.weight, few.positions.weight[[0, 1, 2, 0, 1, 2, 0, 1]])
    rows = few.position_embeddings.weight[[0, 1, 2, 3, 4, 2, 3, 4, 2, 3]]  # the first two are no positions
    assert torch.equal(many.position_embeddings.weight, rows)
    load_weights(few, many.state_dict())
    assert torch.equal(few.positions.weight, many.positions.weight[:3])
    weights = few.state_dict() | {"words.weight": torch.zeros(5, 2)}
    with pytest.raises(ValueError, match=r"words.weight \(5, 2\), the model's is \(4, 2\).*fresh: \[regex\]"):
        load_weights(few, weights)
    before = few.words.weight.clone()
    load_weights(few, weights, fresh=["^words"])
    assert torch.equal(few.words.weight, before)
    with pytest.raises(ValueError, match=r"positions.weight \(3, 2\), the model's is \(3, 5\)"):
        load_weights(Positions(3, width=5), few.state_dict())


def test_an_epoch_visits_every_video_equally(toys):
    corpus, features = toys
    drawn = FrameTags(Source(corpus, Store(features / "frames")), per_video=3).on("train")
    order = drawn.epoch(np.random.default_rng(0))
    assert len(order) == len(drawn) == 24
    assert all(sorted(order[n : n + 8]) == list(range(8)) for n in (0, 8, 16))


def test_frame_tags_are_those_of_the_video(toys):
    corpus, features = toys
    store = Store(features / "frames")
    drawn = FrameTags(Source(corpus, store)).on("train")
    assert drawn.labels == ["tag:blue", "tag:green", "tag:red", "tag:yellow", "category:left", "category:right"]
    batch = drawn.batch(np.array([0, 5]), np.random.default_rng(0))
    named = [{drawn.labels[n] for n in row.nonzero()[:, 0]} for row in batch["labels"]]
    assert named == [{"tag:red", "category:left"}, {"tag:green", "category:right"}]
    for video, frame in zip((drawn.videos[0], drawn.videos[5]), batch["frames"], strict=True):
        assert any(np.array_equal(frame, own) for own in store[video])
    assert drawn.on("val").labels == drawn.labels and set(drawn.on("val").videos).isdisjoint(drawn.videos)


def test_captions_with_times_draw_frames_between_them(tmp_path):
    corpus = tmp_path / "corpus"
    rows = [("v-0", 0.0, 1.0), ("v-1", 1.0, 2.0), ("w-0", None, None)]
    table = [
        {"text_id": i, "video_id": i[0], "kind": "caption", "language": "en", "start": start, "end": end}
        | {"text": f"caption {n}"}
        for n, (i, start, end) in enumerate(rows)
    ]
    tables.write("texts", pl.DataFrame(table, schema=tables.SCHEMAS["texts"]), corpus)
    tables.write("splits", tables.frame("splits", [("train", "reference", i) for i in "vwx"]), corpus)
    with StoreWriter(tmp_path / "frames", shape=(1, 1, 3), dtype="uint8", times=True) as store:
        for video in "vw":
            start = np.arange(4) * 0.5
            pixels = np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(3, 3)
            store.add(video, pixels, times=np.stack([start, start + 0.5], 1))
    words = tokenize.tokenizer(texts=[f"caption {n}" for n in range(3)], style="clip", vocab_size=280)
    drawn = FrameCaption(Source(corpus, Store(tmp_path / "frames"), words)).on("train")
    assert drawn.videos == ["v", "w"]
    seen = set()
    for draw in range(60):
        batch = drawn.batch(np.array([0, 1]), np.random.default_rng(draw))
        for ids, frame in zip(batch["input_ids"], batch["frames"], strict=True):
            seen.add((str(words.decode(ids, skip_special_tokens=True)).strip(), int(frame[0, 0, 0])))
    of = {caption: {frame for c, frame in seen if c == caption} for caption, _ in seen}
    assert of == {"caption 0": {0, 1}, "caption 1": {2, 3}, "caption 2": {0, 1, 2, 3}}
