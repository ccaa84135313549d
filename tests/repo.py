"""A small copy of the project to run the engines in."""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Self

import yaml

import engines
from paths import ROOT
from videomatch.common import digests

KEPT = ("Snakefile", "workflow", "profiles", "src", ".gitignore", ".dvcignore", "params.yaml", "pyproject.toml")
TOY = Path(__file__).parent / "toy"
#: what the project remembers of its code (by digest): to read the options of all modules costs ten seconds
MEMORY = digests.SCRATCH / digests.MEMORY


def remember(known: Path, folder: Path) -> None:
    """Let a copy of a project know what that project has read of its code."""
    if (known / MEMORY).exists():
        (folder / MEMORY).parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(known / MEMORY)) as source, closing(sqlite3.connect(folder / MEMORY)) as copy:
            source.backup(copy)


class Repo:
    """A git and DVC repository with the project's rules and source, and toy stages where ``toy``."""

    def __init__(self, folder: Path, *, toy: bool = True, dvc: bool = True) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            source = ROOT / name
            ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=ignore)
            else:
                shutil.copy(source, folder / name)
        remember(ROOT, folder)
        if toy:
            self._use_toy_stages()
        if dvc:
            self("git", "init", "-q", "-b", "main")
            self("dvc", "init", "-q")
            self("dvc", "config", "core.analytics", "false")
            self("dvc", "config", "core.autostage", "false")
            self.describe()
            self.commit("start")

    @classmethod
    def at(cls, folder: Path) -> Self:
        """A repository that is there already."""
        repo = cls.__new__(cls)
        repo.folder = folder
        return repo

    def _use_toy_stages(self) -> None:
        package = self.folder / "src" / "videomatch"
        kept = {"tabulate.py", "__init__.py"}
        for file in (package / "stages").glob("*.py"):
            if file.name not in kept:
                file.unlink()
        for file in (TOY / "stages").glob("*.py"):
            shutil.copy(file, package / "stages")
        shutil.copy(TOY / "toy.py", package)
        shutil.copy(TOY / "params.yaml", self.folder)
        for file in (TOY / "tables").glob("*.yaml"):
            shutil.copy(file, self.folder / "workflow/tables")

    def describe(self) -> None:
        """Write dvc.yaml anew: the results may lie elsewhere since the parameters changed."""
        self(sys.executable, "-m", "videomatch.cli", "dvc")

    def commit(self, message: str) -> None:
        """git add and commit everything that is not ignored."""
        self("git", "add", "-A")
        self("git", "commit", "-q", "--allow-empty", "-m", message)

    def environment(self) -> dict[str, str]:
        bin_folder = str(Path(sys.executable).parent)
        quiet = {f"GIT_{who}_{what}": "t" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        extra = {
            "PATH": bin_folder + os.pathsep + os.environ["PATH"],
            "PYTHONPATH": str(self.folder / "src"),
            "DVC_NO_ANALYTICS": "1",
            "OMP_NUM_THREADS": "1",
        }
        # jobs find what others compiled
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**inherited, **quiet, **extra}

    def run(self, *command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository and return what it did."""
        environment = self.environment()
        environment["PATH"] = engines.folder() + os.pathsep + environment["PATH"]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def __call__(self, *command: str, timeout: float = 900) -> str:
        """Run a command that must succeed; its output."""
        done = self.run(*command, timeout=timeout)
        assert done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def is_quiet(self) -> bool:
        """Whether a dry run finds nothing to do."""
        return "Nothing to be done" in self("snakemake", "-n")

    def build(self) -> dict[str, str]:
        """Run `snakemake`; result folder -> what its job said (``unchanged``, or how long it took)."""
        # where Python's output is unbuffered, Snakemake writes a line and its end one after the other, and a job's line
        # may come between the two
        return dict(re.findall(r"✓ [^/\s]+/[^/\s]+/(\S+)  (.+)", self("snakemake")))

    def made(self) -> set[str]:
        """The result folders that `snakemake` makes anew, those left out whose job finds nothing changed."""
        return {folder for folder, outcome in self.build().items() if outcome != "unchanged"}

    def set(self, path: str, value: object, params_file: str = "params.yaml") -> None:
        """Set a dotted parameter."""
        file = self.folder / params_file
        params = yaml.safe_load(file.read_text())
        *parents, last = path.split(".")
        entry = params
        for name in parents:
            entry = entry[name]
        entry[last] = value
        file.write_text(yaml.safe_dump(params, sort_keys=False))

    def metrics(self) -> dict[str, object]:
        """Every metrics.json of the repository."""
        found = sorted((self.folder / "results").glob("*/metrics/**/metrics.json"))
        return {str(p.relative_to(self.folder)): json.loads(p.read_text()) for p in found}
