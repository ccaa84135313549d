"""A random walk over everything that a person does with two engines, and the judge after every build.

Steps: set a parameter, edit a stage, `snakemake`, `dvc repro`, `dvc exp run -S`, queue + run-all, `dvc exp apply`, git
and dvc checkout, commit, delete a result, kill -9. After each build the metrics must equal those of a cold run in an
empty copy with the same parameters and code, and a dry run must have nothing to do.

    python tests/walk.py --steps 40 [--seed 0] [--link copy|hardlink|symlink] [--real]

`--real` walks over the project's own stages at the test scale instead of toy stages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parent))
from repo import Repo, remember

#: dotted parameter -> values to choose from
CHOICES = {
    "seed": [0, 1, 2],
    "systems.tiny_clip.training.epochs": [1, 2, 3],
    "systems.tiny_scene.training.epochs": [1, 2],
    "systems.title.embeddings.dim": [16, 24, 32],
    "experts.frames.every": [0.5, 1.0],
    "datasets.videos.options.videos": [30, 36],
    "pages.neighbours.top": [3, 5],
}
EDITED = ["train", "extract", "embed", "combine", "search", "evaluate", "prepare", "render", "illustrate"]


class Walk:
    """One walk in a folder of its own."""

    def __init__(self, folder: Path, *, seed: int, link: str = "copy", real: bool = False, params: str | None = None):
        self.random = random.Random(seed)
        self.real = real
        self.base = folder
        self.repo = Repo(folder / "walk", toy=not real)
        if params is not None:
            (self.repo.folder / "params.yaml").write_text(params)
            self.repo.describe()
        self.repo("dvc", "config", "cache.type", link)
        self.cold_metrics: dict[str, dict[str, object]] = {}
        self.experiments: list[str] = []
        self.commits: list[str] = []
        self.repo("snakemake")
        self.cold_metrics[self.state()] = self.metrics(self.repo.folder)  # nothing was there before
        self.commit()

    def metrics(self, folder: Path) -> dict[str, object]:
        """All digits of all tables."""
        return {str(p.relative_to(folder)): p.read_text() for p in self.wanted(folder) if p.exists()}

    def wanted(self, folder: Path) -> list[Path]:
        described = yaml.safe_load((folder / "dvc.yaml").read_text())["metrics"]
        return [(folder / metrics).with_name("table.csv") for metrics in described]

    def state(self) -> str:
        """The digest of the parameters and code of now."""
        params = yaml.safe_load((self.repo.folder / "params.yaml").read_text())
        stages = sorted((self.repo.folder / "src/videomatch/stages").glob("*.py"))
        text = json.dumps(params, sort_keys=True) + "".join(s.read_text() for s in stages)
        return hashlib.sha256(text.encode()).hexdigest()

    def cold(self) -> dict[str, object]:
        """Metrics of a run in an empty copy with the parameters and code of now."""
        state = self.state()
        if state not in self.cold_metrics:
            copy = self.base / "cold"
            shutil.rmtree(copy, ignore_errors=True)
            copy.mkdir()
            for name in ("Snakefile", "workflow", "profiles", "src", "params.yaml", "dvc.yaml"):
                source = self.repo.folder / name
                shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy(source, copy / name)
            remember(self.repo.folder, copy)
            Repo.at(copy)("snakemake")
            self.cold_metrics[state] = self.metrics(copy)
        return self.cold_metrics[state]

    def judge(self, after: str) -> None:
        assert self.metrics(self.repo.folder) == self.cold(), f"after {after}: the metrics are not those of a cold run"
        dry = self.repo("snakemake", "-n")
        assert "Nothing to be done" in dry, f"after {after}: a dry run wants to work\n{dry}"

    def build(self, how: str) -> None:
        self.repo(*{"snakemake": ["snakemake"], "repro": ["dvc", "repro", "-q"]}[how])
        self.judge(how)

    def snakemake(self) -> None:
        self.build("snakemake")

    def repro(self) -> None:
        self.build("repro")

    def choice(self) -> tuple[str, object]:
        key = self.random.choice(list(CHOICES))
        return key, self.random.choice(CHOICES[key])

    def set_param(self) -> None:
        key, value = self.choice()
        self.repo.set(key, value)

    def edit_stage(self) -> None:
        file = self.repo.folder / f"src/videomatch/stages/{self.random.choice(EDITED)}.py"
        text = file.read_text()
        if self.real:  # a change that the code digest sees and the result does not
            mark = f"\n_EDITED = {self.random.randrange(3)}\n"
            file.write_text(re.sub(r"\n_EDITED = \d\n", "", text) + mark)
        else:
            file.write_text(re.sub(r"EDITED = \d", f"EDITED = {self.random.randrange(3)}", text, count=1))

    def exp_run(self) -> None:
        key, value = self.choice()
        self.repo("dvc", "exp", "run", "-q", "-S", f"{key}={value}")
        self.judge(f"dvc exp run -S {key}={value}")
        self.note_experiments()

    def queue(self) -> None:
        for _ in range(2):
            key, value = self.choice()
            self.repo("dvc", "exp", "run", "-q", "--queue", "-S", f"{key}={value}")
        self.repo("dvc", "exp", "run", "-q", "--run-all", "-j", "1")
        self.note_experiments()
        self.apply(newest=True)

    def note_experiments(self) -> None:
        self.experiments = self.repo("dvc", "exp", "list", "--name-only", "-A").split()

    def apply(self, newest: bool = False) -> None:
        if self.experiments:
            name = self.experiments[0] if newest else self.random.choice(self.experiments)
            self.repo("git", "checkout", "-q", "--force", ".")
            self.repo("dvc", "exp", "apply", "-q", name)
            # what an experiment brings back is a whole build: it has to be right before anything has run
            self.judge(f"dvc exp apply {name}")

    def commit(self) -> None:
        self.build("snakemake")
        self.repo("dvc", "repro", "-q")
        self.repo.commit("step")
        self.commits.append(self.repo("git", "rev-parse", "HEAD").strip())
        status = self.repo("dvc", "status")
        assert "up to date" in status, status

    def checkout(self) -> None:
        self.repo("git", "checkout", "-q", "--force", self.random.choice(self.commits))
        self.repo("dvc", "checkout", "-q", "--force")
        self.judge("git and dvc checkout")

    def checkout_without_dvc(self) -> None:
        self.repo("git", "checkout", "-q", "--force", self.random.choice(self.commits))

    def delete(self) -> None:
        files = sorted(p for p in (self.repo.folder / "results").rglob("*") if p.is_file() and p.name != ".gitignore")
        if files:
            self.random.choice(files).unlink()

    def kill(self) -> None:
        process = subprocess.Popen(
            ["snakemake", "--quiet", "all"],
            cwd=self.repo.folder,
            env=self.repo.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=self.random.random() < 0.5,
        )
        time.sleep(self.random.uniform(1.5, 6.0))
        process.send_signal(signal.SIGKILL)
        process.wait()

    STEPS = (
        (set_param, 4),
        (edit_stage, 2),
        (snakemake, 3),
        (repro, 3),
        (exp_run, 2),
        (queue, 1),
        (apply, 1),
        (checkout, 2),
        (checkout_without_dvc, 1),
        (commit, 2),
        (delete, 2),
        (kill, 2),
    )

    def step(self) -> str:
        """One random step; its name."""
        functions, weights = zip(*self.STEPS, strict=True)
        step = self.random.choices(functions, weights)[0]
        step(self)
        return step.__name__


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--link", default="copy", choices=["copy", "hardlink", "symlink", "reflink"])
    parser.add_argument("--real", action="store_true")
    options = parser.parse_args()
    tiny = (Path(__file__).parent / "tiny.yaml").read_text() if options.real else None
    with tempfile.TemporaryDirectory(prefix="walk-") as folder:
        walk = Walk(Path(folder), seed=options.seed, link=options.link, real=options.real, params=tiny)
        for number in range(options.steps):
            started = time.monotonic()
            name = walk.step()
            print(f"{number + 1:3d} {name:22s} {time.monotonic() - started:6.1f} s", flush=True)
        walk.build("snakemake")
    print(f"{options.steps} steps, every build equal to a cold run ({len(walk.cold_metrics)} different states)")
    os.sync()


if __name__ == "__main__":
    main()
