"""Run one job: how a rule runs a stage.

A stage is a function of files. This module reads the job's settings file, checks that inputs and code are what the
workflow saw, gives the stage an empty folder to write into, and puts that folder into place, manifest last. A job whose
result turns out to be current already ends at once; one whose work another process does waits for that.

Under torchrun or accelerate several processes call the stage together; process 0 alone writes the log and the result.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from videomatch.common import files, named, progress
from videomatch.common.digests import SCRATCH, digest, dumps
from videomatch.pipeline import compiled, fork_server, provenance, reached

log = logging.getLogger("videomatch")
#: seconds between two looks at whether another process has ended
WAIT = 2.0


def main(argv: list[str] | None = None) -> int:
    """Run one job; 0 when its result stands, 1 with one clear line on standard error when it does not."""
    parser = argparse.ArgumentParser(prog="python -m videomatch", description=__doc__)
    parser.add_argument("stage", help="a file of videomatch/stages")
    parser.add_argument("--settings", required=True, type=Path, help="the job's settings, written by the workflow")
    parser.add_argument("--output", required=True, type=Path, help="the manifest of the result")
    parser.add_argument("--log", type=Path, help="where the job's log goes (default: standard error)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cards", type=int, default=0, help="graphics cards that it may use, where there are so many")
    options = parser.parse_args(argv)
    owner = fork_server.workflow()  # the job's parent is a shell, which outlives a workflow that is killed
    if owner is not None:  # else it was started by hand, or on another machine of a cluster
        files.end_with(owner)
    file = None if _is_helper() else options.log
    if file is None:
        _log_to(None)
    else:
        progress.terminal = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding, errors=sys.stderr.errors)
    status = _run(options.stage, options.settings, options.output, options, file)
    for manifest in map(Path, _together(options.settings)):
        if status == files.FULL:
            break
        log_file = file and file.with_name(f"{manifest.parent.name}.log")
        settings = provenance.settings_file(manifest)
        status = max(status, _run(options.stage, settings, manifest, options, log_file))
    return status


def _together(settings: Path) -> list[str]:
    """The manifests of further results that a job makes one after the other, whose shards are many."""
    try:
        return json.loads(settings.read_text(encoding="utf-8")).get("together", [])
    except (OSError, ValueError):
        return []  # the job itself has said so


def _run(stage: str, settings: Path, manifest: Path, options: argparse.Namespace, log_file: Path | None) -> int:
    """:func:`run`, with one clear line where it fails; the exit status."""
    try:
        with cards(options.cards):
            run(stage, settings, manifest, options.threads, log_file)
    except Exception as error:
        if log.hasHandlers():  # its log file could be made
            log.exception("%s failed", stage)
        if files.is_full(error) and fork_server.workflow() is not None:
            return files.FULL  # the workflow says so, once
        where = f" (log: {log_file or options.log})" if options.log else ""
        text = error.args[0] if isinstance(error, KeyError) and error.args else error  # str() puts it in quotes
        text = compiled.mend(error) or text
        _tell(f"videomatch {stage}: {text or type(error).__name__}{where}")
        return 1
    return 0


def run(stage: str, settings: Path, manifest: Path, threads: int, log_file: Path | None = None) -> None:
    """Make the result that a settings file asks for, unless it stands already. The log begins when it is this job's
    turn: until then another process may write it."""
    job = json.loads(settings.read_text(encoding="utf-8"))
    if reached.code_digest(f"stages.{stage}", *job["modules"]) != job["code"]:
        raise RuntimeError("the source code changed while the workflow was running; start it again")
    wanted = provenance.request(job)
    scratch = provenance.WORK / digest(wanted)
    with contextlib.nullcontext() if _is_helper() else _alone(scratch, manifest):
        if log_file is not None:
            _log_to(log_file)
        _make(stage, job, wanted, manifest, scratch, threads)


@contextlib.contextmanager
def cards(number: int) -> Iterator[None]:
    """Within the context this process has some graphics cards for itself, of those that it may use; all of them where
    there are not more."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        usable = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    else:
        usable = visible.split(",") if visible else []
    if number < 1 or len(usable) <= number or "WORLD_SIZE" in os.environ:
        yield
        return
    held: list[str] = []
    with contextlib.ExitStack() as stack:
        while len(held) < number:  # the workflow starts no more jobs than there are cards
            for card in usable:
                # two allocations on one node may both call theirs 0
                name = f"card.{files.HOST}.{os.environ.get('SLURM_JOB_ID', '')}.{card}"
                if len(held) < number and card not in held and (lock := files.lock(SCRATCH / name)) is not None:
                    stack.enter_context(lock)
                    held.append(card)
            time.sleep(0 if len(held) == number else WAIT)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(held)
        yield


@contextlib.contextmanager
def _alone(scratch: Path, manifest: Path) -> Iterator[None]:
    """Within the context no other process does the same work: one that a killed workflow left at work on another
    machine ends first. What a killed process left unfinished is removed."""
    waited = False
    while (lock := files.lock(scratch.with_suffix(".lock"))) is None:
        if not waited:
            _tell(f"{manifest.parent}: another process does this work already: waiting for it")
        waited = True
        time.sleep(WAIT)
    with lock:
        files.sweep(manifest.parent.parent, f".{manifest.parent.name}.*.*")
        if lock.before is not None:
            files.sweep(manifest.parent.parent, f".{manifest.parent.name}.*.{lock.before}", locked=True)
        yield


def _make(
    stage: str, job: Mapping[str, Any], wanted: Mapping[str, Any], manifest: Path, scratch: Path, threads: int
) -> None:
    if provenance.restore(manifest, wanted):
        if not _is_helper():
            _report(manifest, "unchanged")
        return
    for folder in (Path(entry["path"]).parent for entries in wanted["inputs"].values() for entry in entries):
        record = provenance.standing(folder / provenance.MANIFEST)
        problem = "it has no manifest" if record is None else provenance.damage(folder, record)
        if problem:
            raise provenance.Damaged(f"{stage} cannot use {folder}: {problem}; run `snakemake` to mend it")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    function = vars(named.module("stages", stage))[stage]
    if "threadpoolctl" in sys.modules:  # libraries that were imported before this job was known
        sys.modules["threadpoolctl"].threadpool_limits(threads)
    folder = manifest.parent
    given = arguments(function, job, files.unfinished(folder), scratch, threads)
    if _is_helper():
        function(**given)
        return
    started, cpu = time.monotonic(), time.process_time()
    log.info("%s started: %s", stage, dumps(job["settings"]))
    with files.replacing(folder) as temporary:
        temporary.mkdir()
        function(**given)
        reached.forget()
        if reached.code_digest(f"stages.{stage}", *job["modules"]) != job["code"] or provenance.request(job) != wanted:
            raise RuntimeError("its code or inputs changed while it worked; start the workflow again")
        provenance.seal(temporary, wanted)
        provenance.remember(manifest, temporary / provenance.MANIFEST)
    shutil.rmtree(scratch, ignore_errors=True)
    log.info("%s finished: %.1f s, %.1f s of CPU", stage, time.monotonic() - started, time.process_time() - cpu)
    _report(manifest, f"{time.monotonic() - started:.1f} s")


def _is_helper() -> bool:
    """Whether torchrun or the like started this process beside the one that writes the result."""
    return "WORLD_SIZE" in os.environ and os.environ.get("RANK", "0") != "0"


def _report(manifest: Path, outcome: str) -> None:
    """One line on the terminal, beside the log."""
    log.info("%s: %s", manifest.parent, outcome)
    _tell(f"✓ {manifest.parent}  {outcome}")


def _tell(line: str) -> None:
    progress.terminal.write(line + "\n")
    progress.terminal.flush()


def arguments(function: Any, job: Mapping[str, Any], output: Path, scratch: Path, threads: int) -> dict[str, Any]:
    """Inputs become folders, settings stay as they are, and what else the stage declares is filled in."""
    declared = inspect.signature(function).parameters
    given: dict[str, Any] = {**job["settings"], "output": output}
    for name, paths in job["inputs"].items():
        given[name] = Path(paths).parent if isinstance(paths, str) else [Path(p).parent for p in paths]
    if "threads" in declared:
        given["threads"] = threads
    if "scratch" in declared:
        scratch.mkdir(parents=True, exist_ok=True)
        given["scratch"] = scratch
    return given


def _log_to(path: Path | None) -> None:
    """Send all that is written to standard error into the log, what libraries write there included; a person at the
    terminal sees the bars and one line a job."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            os.dup2(file.fileno(), 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.captureWarnings(True)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
