"""What a person at the terminal sees of a run beside the jobs' own lines: how far it is, and, of a dry run, what would
run and why. Snakemake's log below ``.snakemake/log`` has all of it."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from videomatch.common import files
from videomatch.common.messages import count
from videomatch.pipeline import provenance, rules

#: seconds between two lines of progress
EVERY = 10.0
#: lines of Snakemake that tell no one anything, or what a line before them has told
NOISE = ("Select jobs to execute", "Execute ", "Reasons:", "Complete log", "Elapsed time")
NOISE += ("WorkflowError:\nAt least one job did not complete", "Terminating processes on user request")
INTERRUPTED = "interrupted; `snakemake` goes on with what is finished"
#: where Snakemake's own files cannot be written: the end of a traceback, or in a sentence of its own
UNWRITABLE = re.compile(r"(?:^\w*Error: |\()\[Errno \d+\] ([^:\n]+)(?:: '([^'\n]+)')?", re.M)
FAILED = re.compile(
    r"CalledProcessError.*python -m videomatch (\w+) .*--output (\S+) --log (\S+).*?(returned|died)(.*)", re.S
)


class RunLog(logging.Handler):
    """Shows the events of a run (``event`` and its fields, as Snakemake's interface of log plugins has them).

    Args:
        jobs: manifest -> job of all results that the workflow looked at; it may fill up later.
        is_dry: whether nothing is run: then every job gets a line. It is not known while rules are read.
        stop: starts no further jobs.
    """

    def __init__(
        self, jobs: Mapping[Path, Mapping[str, Any]], *, is_dry: Callable[[], bool], stop: Callable[[], None]
    ) -> None:
        super().__init__()
        self._jobs, self._is_dry, self._stop = jobs, is_dry, stop
        self._counted = False  # Snakemake counts before and after a dry run
        self._started = self._last = time.monotonic()
        self._unwritable = set[str]()  # what was said of it

    def emit(self, record: logging.LogRecord) -> None:
        """Show one event."""
        show = {"progress": self._progress, "job_info": self._would_run, "run_info": self._counts}
        fields = vars(record)
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

    def _would_run(self, fields: Mapping[str, Any]) -> str:
        shown = []
        for output in map(Path, fields["output"] if self._is_dry() else ()):
            why = provenance.why(output, self._jobs[output]) if output in self._jobs else None
            shown.append(f"  {output.parent}: {why or 'an input is made again'}")
        return "\n".join(shown)

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
            folder = Path(output).parent
            record.msg = f"videomatch {stage}: {folder}: the job was ended:{status.rstrip('.')} (log: {log})"
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
