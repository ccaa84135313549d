"""CPU time of starting a job: in a process of its own, which imports torch, and in a fork of the fork server.

    python benchmarks/fork_server.py [--rounds 5]

Prints the median of both in one run, and how many jobs of the demo need torch.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _claims import claim
from videomatch.common import files
from videomatch.pipeline import fork_server, params, rules
from videomatch.pipeline.plan import Plan
from videomatch.pipeline.reached import code_needs

#: a job that only tells the CPU time of its process
JOB = "import time\nopen('cpu', 'w').write(str(time.process_time()))\n"
SERVE = "import sys; from videomatch.pipeline.fork_server import serve; serve(sys.argv[1], job='nothing')"
ASK = "import sys; from videomatch.pipeline import fork_server; sys.exit(fork_server.delegate([]))"


def cpu(command: list[str]) -> float:
    """CPU time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    plan = Plan(params.resolved(*params.load(["params.yaml"])))
    jobs = [job.stage for job in rules.needed(plan).values()]
    needy = sum(code_needs("torch", stage) for stage in jobs)
    os.environ["PYTHONPATH"] = os.pathsep.join([".", str(Path("src").resolve())])
    os.environ["VIDEOMATCH_WORKFLOW"] = files.me()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("nothing.py").write_text(JOB)
        Path(".scratch").mkdir()
        address = fork_server.address()
        assert address is not None
        server = subprocess.Popen([sys.executable, "-c", SERVE, address])
        while not Path(address).exists():
            time.sleep(0.1)
        alone, forked = [], []
        for _ in range(rounds):
            alone.append(cpu([sys.executable, "-c", f"import {', '.join(fork_server.MODULES)}"]))
            forked.append(cpu([sys.executable, "-c", ASK]) + float(Path("cpu").read_text()))
        server.kill()
    saved = needy * (statistics.median(alone) - statistics.median(forked))
    print(f"{needy} of {len(jobs)} jobs of the demo need torch: {saved:.0f} s")
    claim("start of a job, in a fork", forked, "CPU s", peer=("process of its own", alone))


if __name__ == "__main__":
    main()
