"""CPU time of Snakemake's scheduler over many jobs, with its limit of jobs per second and without.

For the limit, Snakemake looks at all ready jobs again each second, once more for every job that has ended, so its share
grows with the run. `workflow/rules/common.smk` takes the limit away; this measures what that brings.

    python benchmarks/scheduler.py [--jobs 200] [--seconds 0.8]

Measured with 200 jobs of 0.8 s, two at a time: 6.8 s with the limit, 3.0 s without.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

RULES = """
def results(wildcards):
{setting}
    return [f"out/{{number}}" for number in range({jobs})]


rule all:
    input:
        results,


rule wait:
    output:
        "out/{{number}}",
    resources:
        mem_mb=1000,
    shell:
        "sleep {seconds}; touch {{output}}"
"""
WITHOUT = "    workflow.scheduling_settings.max_jobs_per_timespan = None"


def cpu_seconds(setting: str, jobs: int, seconds: float) -> float:
    """CPU time of a run of as many jobs, which themselves take none."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Snakefile").write_text(RULES.format(setting=setting, jobs=jobs, seconds=seconds))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--scheduler", "greedy", "--quiet", "all"]
        subprocess.run(command, cwd=folder, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=0.8)
    options = parser.parse_args()
    for name, setting in (("with the limit", ""), ("without", WITHOUT)):
        print(f"{name}: {cpu_seconds(setting, options.jobs, options.seconds):.1f} s of CPU")


if __name__ == "__main__":
    main()
