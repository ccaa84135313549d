"""Several processes: what they exchange, and that two of them train as one does."""

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videomatch.common import distributed
from videomatch.examples import Examples
from videomatch.objectives.contrast import clip_contrastive, info_nce_views, lvwm, mil_nce
from videomatch.objectives.hard_negatives import neg_nce
from videomatch.objectives.margins import max_margin, pearson, triplet
from videomatch.objectives.tags_and_masks import bce_tags, mfm_nce
from videomatch.pipeline import reached
from videomatch.pipeline.run_job import main
from videomatch.training.loop import Trainer, Training
from videomatch.training.objective import Objective


class Points(Examples):
    """Pairs of views of points, some of whose coordinates are hidden: for a contrastive and a masked objective."""

    metrics: ClassVar = {
        "first": lambda number, left: float((number.float() * left[:, 0]).sum()),
        "ordered": lambda number: float((number.diff() >= 0).all()),
    }

    def __init__(self, count: int, stop: int | None = None) -> None:
        self.per_video, self.videos, self.sampled, self.stop = 1, [str(n) for n in range(count)], 0, stop
        self.x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))

    def _select(self, split):
        pass

    def derived_config(self):
        return {}

    def batch(self, numbers, rng):
        self.sampled += 1
        if self.sampled == self.stop:
            raise KeyboardInterrupt
        at = torch.from_numpy(numbers)
        noise = torch.from_numpy(rng.normal(size=(len(at), 6))).float()
        hidden = torch.from_numpy(rng.random((len(at), 6)) < 0.3) & (at[:, None] % 3 > 0)  # uneven, and none in some
        return {"x": self.x[at], "y": self.x[at] + 0.3 * noise, "hidden": hidden, "number": at, "video": at // 2}


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left, self.right = nn.Linear(6, 5), nn.Linear(6, 5)
        self.fill, self.unused = nn.Linear(6, 6), nn.Linear(2, 2)
        self.logit_scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, x, y, hidden):
        left, right = F.normalize(self.left(x), dim=-1), F.normalize(self.right(y), dim=-1)
        filled = self.fill(x.masked_fill(hidden, 0.0))[hidden]
        return {
            "image_embeds": left,
            "text_embeds": right,
            "logit_scale": self.logit_scale,
            "left": left,
            "filled": filled,
            "truth": x[hidden],
        }


def masked(filled, truth, progress, uniform):
    """The mean over hidden coordinates, 0 where there are none; in ever more steps it counts twice."""
    return (filled - truth).square().sum() / max(1, len(filled)) * (1 + (uniform < progress))


def trained(folder: Path | None = None, stop: int | None = None, **options):
    """Rows of the log and weights; batches of 9 cannot be halved."""
    model = Towers()
    weighed = {"contrastive": Objective(clip_contrastive), "masked": Objective(masked, 0.5)}
    settings = {"epochs": 3, "batch": 9, "lr": 0.02, "precision": "fp32", "clip_norm": 0.5, "ema": 0.9, **options}
    run = Trainer(model, weighed, Training(**settings), seed=0, scratch=folder, save_seconds=0.0)
    rows = run.fit(Points(37, stop), Points(11))
    return rows, model.state_dict()


VARIANTS = {
    "plain": {},
    "pieces": {"accumulate": 2, "ema": None},
    "best": {"keep": "best", "monitor": "val/contrastive", "validate_every": 0.5, "early_stop": 4, "prefetch": 2},
}


def losses_of(rows: slice) -> dict[str, torch.Tensor]:
    """Objectives on some of seven rows; :func:`videomatch.common.distributed.all_gather` brings the others."""
    g = torch.Generator().manual_seed(5)
    left, right = F.normalize(torch.randn(2, 7, 4, generator=g, dtype=torch.float64), dim=-1)
    levels = F.normalize(torch.randn(7, 3, 4, generator=g, dtype=torch.float64), dim=-1)
    scores, labels = torch.rand(7, 7, generator=g, dtype=torch.float64), torch.rand(7, 4, generator=g) < 0.5
    video, is_tagged = torch.tensor([3, 1, 3, 0, 1, 3, 2]), torch.tensor([True, False, True, False, False, True, True])
    targets = torch.tensor([2, 0, 3, 1, 5, 6, 4])[rows] - (rows.start or 0)
    found = {
        "clip_contrastive": clip_contrastive(left[rows], right[rows], torch.tensor(0.5), video[rows]).double(),
        "pearson": pearson(scores[rows, 0], scores[rows, 1]),
        "bce_tags": bce_tags(left[rows], labels[rows].double(), is_tagged[rows]),
        "mfm_nce": mfm_nce(left[rows], right[rows], targets),
        "info_nce_views": info_nce_views(levels[rows], video[rows]),
        "lvwm": lvwm(levels[rows], levels[rows].flip(1)),
    }
    for same in (False, True):
        found[f"neg_nce {same}"] = neg_nce(scores[rows], video[rows], scale=10.0, same_video=same)
        found[f"mil_nce {same}"] = mil_nce(left[rows], levels[rows], scores[rows, 0], all_pairs=same)
        found[f"max_margin {same}"] = max_margin(scores[rows], video[rows], margin=0.2, same_video=same)
        for mean in (False, True):
            loss = triplet(levels[rows], left[rows], video[rows], hardest=not same, mean=mean)
            found[f"triplet {same} {mean}"] = loss
    return found


def in_a_group(folder: Path) -> None:
    """What each of two processes does: the exchanges by themselves, then training, and training that was stopped."""
    rank = distributed.rank()
    x = torch.arange(3 + rank, dtype=torch.float32)[:, None].requires_grad_()
    rows = distributed.all_gather(x)
    assert rows[:, 0].tolist() == [0, 1, 2, 0, 1, 2, 3] and distributed.rank_offset(x) == 3 * rank
    ((rank + 1) * rows.square()).sum().backward()  # both losses reach every row: 2 x (1 + 2)
    assert x.grad is not None and torch.equal(x.grad, 6 * x.detach())
    assert distributed.all_gather(torch.ones(rank, 2, dtype=torch.bool)).tolist() == [[True, True]]
    half = distributed.all_gather(torch.full((1,), rank, dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16 and half.tolist() == [0, 1]
    norm = nn.BatchNorm1d(1)
    norm(torch.full((2, 1), 10.0 * rank))
    distributed.average_batch_norms(norm)
    assert norm.running_mean is not None and norm.running_mean.tolist() == pytest.approx([0.5])
    losses = torch.stack(list(losses_of(slice(4) if rank == 0 else slice(4, 7)).values()))
    weighted = distributed.all_reduce_sum(losses * (4 - rank) / 7)
    if rank == 0:
        torch.save(weighted, folder / "losses.pt")
    for name, options in VARIANTS.items():
        found = trained(**options)
        if rank == 0:
            torch.save(found, folder / f"{name}.pt")
    scratch = folder / "scratch"
    with pytest.raises(KeyboardInterrupt):
        trained(scratch, stop=7, **VARIANTS["best"])
    distributed.barrier()  # process 0 has written its state: killed ones have, or never will
    resumed = trained(scratch, **VARIANTS["best"])
    if rank == 0:
        torch.save(resumed, folder / "resumed.pt")
    distributed.barrier()
    if rank == 1:
        raise ValueError("the last word")
    distributed.barrier()  # waits for one that failed


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    folder = tmp_path_factory.mktemp("group")
    (folder / "scratch").mkdir()
    with pytest.raises(RuntimeError) as failure:
        distributed.start(in_a_group, 2, folder)
    found = {path.stem: torch.load(path, weights_only=True) for path in folder.glob("*.pt")}
    return {**found, "failure": str(failure.value)}


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_processes_train_as_one(group, variant):
    """The same batch, shared by two: same losses, metrics and weights."""
    rows, weights = trained(**VARIANTS[variant])
    together, others = group[variant]
    assert [row.keys() for row in rows] == [row.keys() for row in together]
    for row, other in zip(rows, together, strict=True):
        assert other == pytest.approx(row, abs=1e-5)
    assert rows[0]["val/ordered"] == 1.0
    for name, value in weights.items():
        torch.testing.assert_close(others[name], value, rtol=0, atol=1e-5, msg=name)
    assert not torch.equal(weights["left.weight"], Towers().left.weight)


def test_a_loss_of_two_processes_is_that_of_one(group):
    whole = losses_of(slice(7))
    for (name, value), weighted in zip(whole.items(), group["losses"], strict=True):
        torch.testing.assert_close(weighted, value, rtol=1e-6, atol=1e-6, msg=name)


def test_two_processes_resume_to_the_same_bits(group):
    (rows, weights), (others, resumed) = group["best"], group["resumed"]
    assert rows == others
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


def test_a_failure_is_reported(group):
    assert group["failure"] == "process 2 of 2: ValueError: the last word"


def test_launched_by_another(monkeypatch, tmp_path):
    """torchrun and the like say by the environment who is who; only process 0 logs and writes."""
    assert not distributed.launched() and distributed.local_size() == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**launcher, "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))
    assert distributed.launched()
    with distributed.group():
        assert torch.distributed.is_initialized() and (distributed.rank(), distributed.size()) == (0, 1)
        x = torch.ones(2)
        assert distributed.all_gather(x) is x
    assert not torch.distributed.is_initialized()


def test_a_helper_leaves_result_and_log_alone(monkeypatch, tmp_path):
    calls = []

    def train(*, output, scratch, rate):
        calls.append((output.exists(), scratch.exists(), rate))

    monkeypatch.setattr(importlib.import_module("videomatch.stages.train"), "train", train)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    code = reached.code_digest("stages.train")
    job = {"stage": "train", "settings": {"rate": 3}, "inputs": {}, "modules": [], "code": code}
    (tmp_path / "settings.json").write_text(json.dumps(job))
    options = ["--settings", "settings.json", "--output", "out/manifest.json", "--log", "log.txt"]
    assert main(["train", *options]) == 0
    assert calls == [(False, True, 3)]
    assert not (tmp_path / "out").exists() and not (tmp_path / "log.txt").exists()


ORPHAN = """
import os, sys, time
from pathlib import Path
from videomatch.common import distributed

def wait(file):
    Path(file).write_text(str(os.getpid()))
    time.sleep(60)

if __name__ == "__main__":
    distributed.start(wait, 1, sys.argv[1])
"""


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script, file = tmp_path / "orphan.py", tmp_path / "id"
    script.write_text(ORPHAN)
    process = subprocess.Popen([sys.executable, str(script), str(file)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    until = time.monotonic() + 60
    while not (file.exists() and file.read_text()) and time.monotonic() < until:
        time.sleep(0.05)
    stat = Path(f"/proc/{file.read_text()}/stat")
    assert running(stat)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while running(stat) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(stat)


def running(stat: Path) -> bool:
    """Whether a process still runs (one that ended and waits for its parent does not)."""
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
