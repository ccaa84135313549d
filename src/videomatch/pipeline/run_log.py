"""What a person at the terminal sees of a run beside the jobs' own lines: how far it is, of a dry run what would run
and why, and of jobs on a cluster, which have no terminal, which ended and how. Snakemake's log below ``.snakemake/log``
has all of it."""

from __future__ import annotations

import errno
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from videomatch.common import files
from videomatch.common.messages import count
from videomatch.pipeline import provenance, rules
from videomatch.pipeline.state import AGAIN

#: seconds between two lines of progress
EVERY = 10.0
#: lines of Snakemake that tell no one anything, or what a line before them has told
NOISE = ("Select jobs to execute", "Execute ", "Reasons:", "Complete log", "Elapsed time", "Group jobs: inactive")
NOISE += ("WorkflowError:\nAt least one job did not complete", "Terminating processes on user request")
NOISE += ("--keep-incomplete mode is set",)
# of the executor for SLURM
RUN_ID = "SLURM run ID: "
NOISE += (RUN_ID, "Cleaning up SLURM log", "Trying to restart job", "Could not retrieve node information")
NOISE += ("No SLURM account given", "No account was given", "Unable to guess SLURM account")
SUBMITTED = re.compile(r"Job \S+ has been submitted with SLURM jobid \S+ \(log: (.*)\)\.")
#: lines of a log that are shown of a job that failed on a cluster, and of jobs that were submitted together
LINES, NAMED = 5, 3
#: seconds between two looks at what jobs on a cluster do, and the usual reasons for which they wait
LOOKS, USUAL = 20.0, ("", "None", "Priority", "Resources", "BeginTime")
#: events that this module shows in its own words
SHOWN = ("progress", "job_finished", "run_info", "resources_info")
INTERRUPTED = "interrupted; `snakemake` goes on with what is finished"
#: where Snakemake's own files cannot be written: the end of a traceback, or in a sentence of its own
UNWRITABLE = re.compile(r"(?:^\w*Error: |\()\[Errno \d+\] ([^:\n]+)(?:: '([^'\n]+)')?", re.M)
FAILED = re.compile(
    r"CalledProcessError.*python -m videomatch (\w+) .*--output (\S+) --log (\S+).*?(returned|died)(.*)", re.S
)


class RunLog(logging.Handler):
    """Shows the events of a run (``event`` and its fields, as Snakemake's interface of log plugins has them).

    Args:
        jobs: manifest by which Snakemake knows a job -> the results that it has to make, and why; it may fill up later.
        is_dry: whether nothing is run: then every job gets a line. It is not known while rules are read.
        stop: starts no further jobs.
        on_cluster: whether jobs run on other machines.
    """

    def __init__(
        self,
        jobs: Mapping[Path, Mapping[str, str]],
        *,
        is_dry: Callable[[], bool],
        stop: Callable[[], None],
        on_cluster: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__()
        self._jobs, self._is_dry, self._stop, self._on_cluster = jobs, is_dry, stop, on_cluster
        self._results: dict[int, list[str]] = {}  # of each job
        self._run_id = ""
        self._logs: dict[str, None] = {}  # of what was submitted
        self._told = set[str]()
        self._ended = threading.Event()
        self._counted = False  # Snakemake counts before and after a dry run
        self._started = self._last = time.monotonic()
        self._unwritable = set[str]()  # what was said of it

    def emit(self, record: logging.LogRecord) -> None:
        """Show one event."""
        show = {"progress": self._progress, "job_info": self._would_run, "run_info": self._counts}
        show |= {"job_finished": self._finished, "job_error": self._failed, "group_error": self._failed}
        fields, text = vars(record), str(record.msg)
        if text.startswith(RUN_ID):
            self._run_id = text.removeprefix(RUN_ID)
            threading.Thread(target=self._watch, daemon=True).start()
        elif submitted := SUBMITTED.match(text):
            self._logs[submitted[1]] = None
        if fields.get("event") in show:
            line = show[str(fields["event"])](fields)
            if line:
                sys.stderr.write(line + "\n")

    def _progress(self, fields: Mapping[str, Any]) -> str:
        done, total, now = fields["done"], fields["total"], time.monotonic()
        if now - self._last < EVERY and done < total:
            return ""
        self._last = now
        left = (now - self._started) / max(done, 1) * (total - done)
        return f"  {done} of {count(total, 'job')}" + (f", about {_duration(left)} left" if done < total else "")

    def _counts(self, fields: Mapping[str, Any]) -> str:
        if self._counted:
            return ""
        self._counted = True
        counts = {rule.name: fields["stats"][rule.name] for rule in rules.RULES if rule.name in fields["stats"]}
        return f"{count(sum(counts.values()), 'job')}: " + ", ".join(f"{n} {rule}" for rule, n in counts.items())

    def _finished(self, fields: Mapping[str, Any]) -> str:
        made = [f"✓ {Path(result).parent}" for result in self._results.get(fields["job_id"], ())]
        return "\n".join(line for line in made if line not in self._told) if self._on_cluster() else ""

    def _failed(self, fields: Mapping[str, Any]) -> str:
        """What is said of jobs that failed on a cluster: their names, how SLURM ended them, and what they said last."""
        if not self._on_cluster() or fields.get("indent"):  # other jobs have said it; those of a group follow it
            return ""
        jobs = fields.get("job_error_info") or [fields]
        left = [
            (job, part) for job in jobs for part in self._parts(job["output"][0]) if not provenance.is_made(Path(part))
        ]
        left = left or [(job, job["output"][0]) for job in jobs]
        names = [f"{job['rule_name']} {Path(part).parent}" for job, part in left[:NAMED]]
        more = f" and {len(left) - NAMED} more" * (len(left) > NAMED)
        number = fields.get("external_jobid") or fields.get("aux", {}).get("external_jobid")
        if number is None:
            how = fields.get("rule_msg") or "SLURM did not take it; `snakemake --verbose` shows how it was asked"
            return f"videomatch {', '.join(names)}{more}: {how}"
        state = _ask("squeue", f"--jobs={number}", "--states=all", "--noheader", "--format=%T on %N")
        log = (fields.get("aux_logs") or fields["log"])[-1]
        said = [line for line in _lines(log) if line.startswith("videomatch ")]
        logs = [_log_of(part, job["output"][0], own) for job, part in left for own in job["log"] if own != log]
        own = sorted((own for own in logs if own.exists()), key=_time)
        last = said or (_lines(own[-1]) if own else []) or _lines(log)
        head = f"videomatch {', '.join(names)}{more}: SLURM job {number} is {state or 'unknown to SLURM'} (log: {log})"
        return "\n  ".join([head, *last[-LINES:]])

    def _watch(self) -> None:
        """Say what jobs that were submitted together have made so far, and, once of each job, that it waits for
        something else than its turn: it may wait for ever."""
        while not self._ended.wait(LOOKS):
            waiting = _ask("squeue", f"--name={self._run_id}", "--states=PENDING", "--noheader", "--format=%i: %r")
            odd = [line for line in waiting.splitlines() if line.partition(": ")[2] not in USUAL]
            lines = {f"videomatch: SLURM job {line} (it waits for that)": line for line in odd}
            said = [line for log in list(self._logs) for line in _lines(log)]
            lines |= {line: line.partition("  ")[0] for line in said if line.startswith("✓")}
            for line, key in lines.items():
                if key not in self._told:
                    self._told.add(key)
                    sys.stderr.write(line + "\n")

    def close(self) -> None:
        """Look no longer."""
        self._ended.set()
        super().close()

    def cancel(self) -> None:
        """End the jobs that this run has on a cluster, those too that were being submitted when it was interrupted."""
        if self._run_id:
            _ask("scancel", f"--name={self._run_id}")

    def _would_run(self, fields: Mapping[str, Any]) -> str:
        parts = {part: why for output in fields["output"] for part, why in self._parts(output).items()}
        self._results[fields.get("jobid", 0)] = list(parts)
        return "\n".join(f"  {Path(part).parent}: {why}" for part, why in parts.items()) if self._is_dry() else ""

    def _parts(self, output: str) -> Mapping[str, str]:
        """The results that a job has to make, known by one of them, and why."""
        return self._jobs.get(Path(output)) or {str(output): AGAIN}

    def attach(self, logger: logging.Logger) -> None:
        """Listen to a logger, and keep what is repeated off the terminal."""
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(self.terse)
        logger.addHandler(self)
        logging.raiseExceptions = False  # Snakemake's log file may be on a full disk

    def terse(self, record: logging.LogRecord) -> bool:
        """Whether a record is worth a line on the terminal; of a job that failed, one that the job did not write."""
        text = record.getMessage()
        if vars(record).get("event") in SHOWN or SUBMITTED.match(text):
            return False
        failed, unwritable = FAILED.search(text), UNWRITABLE.search(text)
        if failed:
            stage, output, log, _, status = failed.groups()
            if re.search(r"exit status (1|130)\.|SIGINT", status):
                return False  # the job has said why, or the workflow says that it was interrupted
            if f"exit status {files.FULL}." in status:
                is_new = self._say_unwritable(record, cannot_write(Path(), os.strerror(errno.ENOSPC)))
                if is_new:
                    self._stop()  # no other job can succeed
                return is_new
            part = next((part for part in self._parts(output) if not provenance.is_made(Path(part))), output)
            ended = f"the job was ended:{status.rstrip('.')} (log: {_log_of(part, output, log)})"
            record.msg = f"videomatch {stage}: {Path(part).parent}: {ended}"
        elif unwritable:
            return self._say_unwritable(record, cannot_write(Path(unwritable[2] or "").parent, unwritable[1]))
        elif text.startswith("Terminating processes on user request") and not self._unwritable:
            record.msg = INTERRUPTED
        else:
            return not text.startswith(NOISE)
        record.args = ()
        return True

    def _say_unwritable(self, record: logging.LogRecord, text: str) -> bool:
        record.msg, record.args = text, ()
        is_new = text not in self._unwritable
        self._unwritable.add(text)
        return is_new


def _log_of(result: str, output: str, log: str) -> Path:
    """The log of a result, by that of the result by which Snakemake knows the job that makes both."""
    return Path(log) if result == output else Path(log).with_name(f"{Path(result).parent.name}.log")


def _time(path: Path) -> float:
    return path.stat().st_mtime


def _lines(log: str | Path) -> list[str]:
    """The lines of a log with something in them; none where it cannot be read."""
    try:
        return [line for line in Path(log).read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError:
        return []


def _ask(*command: str) -> str:
    """What a command of SLURM says; nothing where it cannot."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def cannot_write(folder: Path, reason: str) -> str:
    """What to say of a full disk, or of a folder that may not be written."""
    return f"{folder.resolve()}: {reason}; mend that, and `snakemake` goes on with what is finished"


def end_interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For ``sys.excepthook``: one line where Ctrl-C comes before there are jobs."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write(INTERRUPTED + "\n")
    else:
        sys.__excepthook__(kind, error, trace)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"
