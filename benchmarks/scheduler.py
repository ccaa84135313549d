"""CPU and wall time of Snakemake's scheduler over many short jobs, by the timespan of its limit of jobs.

For the limit (``--max-jobs-per-timespan``, 100 per second by default) Snakemake looks at all ready jobs again after
each timespan, once more for every job that has ended, so its share grows with the run. ``profiles/default`` sets a
longer timespan, and the timers that are left at the end are cancelled.

    python benchmarks/scheduler.py [--jobs 200] [--seconds 0.8]

Measured with 150 jobs of 0.4 s, two at a time, beside other work: 3.8 s of CPU with 100/1s, 3.6 s with 300/3s, 2.8 s
with 1000000/10m.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _claims import claim

RULES = """
from videomatch.common import files

files.cancel_timers_at_the_end()


rule all:
    input:
        [f"out/{{number}}" for number in range({jobs})],


rule wait:
    output:
        "out/{{number}}",
    resources:
        mem_mb=1000,
    shell:
        "sleep {seconds}; touch {{output}}"
"""


def measure(limit: str, jobs: int, seconds: float) -> tuple[float, float]:
    """CPU and wall time of a run of as many jobs, which themselves take no CPU time."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Snakefile").write_text(RULES.format(jobs=jobs, seconds=seconds))
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--scheduler", "greedy", "--quiet", "all"]
        subprocess.run([*command, "--max-jobs-per-timespan", limit], cwd=folder, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.monotonic() - started


def main() -> None:
    """Print one line per limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.8)
    options = parser.parse_args()
    spent = {}
    for limit in ("100/1s", "300/3s", "1000000/10m"):
        spent[limit], wall = measure(limit, options.jobs, options.seconds)
        print(f"{limit}: {spent[limit]:.1f} s of CPU, {wall:.1f} s")
    theirs, _, mine = spent.values()
    claim(f"Snakemake beside {options.jobs} jobs", [mine], "CPU s", peer=("its default limit", [theirs]))


if __name__ == "__main__":
    main()
