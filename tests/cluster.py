"""The tiny chain on a real SLURM of two nodes on this machine: the results are those of a local run, byte for byte,
also after jobs are cancelled and the head and a node are killed; and how long it takes beside the local run.

Nothing is installed or left: needed are root, the packages slurm-wlm and munge of Debian or Ubuntu, and
``pip install -e '.[slurm]'``. All files of SLURM are in a temporary folder; each node is a namespace with a host name
and processes of its own.
"""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import inspect
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Self

from paths import ROOT
from repo import Repo
from videomatch.common.digests import file_digest

COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "unshare")
CONFIG = """
ClusterName=two
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,bf_interval=1
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
SlurmdTimeout=15
MpiDefault=none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODES = ("n1", "n2")
CPUS = 2
#: with which a tiny chain is submitted in many parts
PARTS = ("SMALL, SMALL_RUN = 1.0, 15.0", "SMALL, SMALL_RUN = 0.1, 0.0")


class Cluster:
    """SLURM with two nodes, as long as the context lasts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._running = folder, {}
        for name in ("munge", "state", *NODES):
            (folder / name).mkdir(mode=0o700)
        key = folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host, port = platform.node().partition(".")[0], 17000
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 // len(NODES) - 1000
        about = f"CPUS={CPUS} RealMemory={memory} NodeHostname={host} NodeAddr=127.0.0.1 State=UNKNOWN"
        nodes = [f"NodeName={name} Port={port + 1 + n} {about}" for n, name in enumerate(NODES)]
        config = CONFIG.format(host=host, port=port, folder=folder).strip().splitlines()
        (folder / "slurm.conf").write_text("\n".join([*config[:-1], *nodes, config[-1], ""]))
        hosts = Path("/etc/hosts").read_text() + "".join(f"127.0.0.1 {name}\n" for name in NODES)
        (folder / "hosts").write_text(hosts)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _begin(self) -> None:
        files = ("socket", "key-file", "pid-file", "log-file", "seed-file")
        options = [f"--{name}={self.folder}/munge/{name.partition('-')[0]}" for name in files]
        self._start("munged", "munged", "--force", "--foreground", *options)
        until(lambda: (self.folder / "munge/socket").exists(), 30)
        self._start("slurmctld", "slurmctld", "-D")
        for name in NODES:
            self.start(name)
        until(lambda: ask("sinfo", "--noheader", "--format=%T %D") == f"idle {len(NODES)}", 60)

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._running.values()):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, *command: str) -> None:
        out = (self.folder / f"{name}.out").open("w")
        self._running[name] = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)

    def start(self, node: str) -> None:
        """Start a node."""
        own = ("--uts", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child")
        mounts = {self.folder: "/etc/slurm", self.folder / "hosts": "/etc/hosts"}
        bound = "".join(f"mount --bind {source} {place} && " for source, place in mounts.items())
        begin = f"hostname {node} && {bound}exec slurmd -D -N {node}"
        self._start(node, "unshare", *own, "sh", "-c", begin)

    def kill(self, node: str) -> None:
        """Kill a node with all that runs on it."""
        self._running[node].kill()
        self._running[node].wait()


def ask(*command: str) -> str:
    """What a command says."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout.strip()


def until(condition: Callable[[], object], seconds: float = 3600) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition.__code__.co_filename}:{condition.__code__.co_firstlineno}")
        time.sleep(0.2)


def running() -> list[tuple[str, str]]:
    """(number, node) of the jobs that run now."""
    lines = ask("squeue", "--noheader", "--states=RUNNING", "--format=%i %N").splitlines()
    return [(number, node) for number, node in map(str.split, lines)]


def tiny(folder: Path, *, in_parts: bool = False) -> Repo:
    """A project with the tiny chain as its parameters, whose cluster's logs stay."""
    repo = Repo(folder, toy=False, dvc=False)
    shutil.copy(ROOT / "tests/tiny.yaml", folder / "params.yaml")
    changes = {"profiles/slurm/config.yaml": ("retries: 2", "retries: 2\nslurm-keep-successful-logs: true")}
    if in_parts:
        changes["src/videomatch/pipeline/resources.py"] = PARTS
    for file, (before, after) in changes.items():
        text = (folder / file).read_text()
        assert before in text, f"{file}: {before}"
        (folder / file).write_text(text.replace(before, after))
    return repo


def results(repo: Repo) -> dict[str, str]:
    """File of the results -> its digest. What was measured, and so the manifest beside it, differs from run to run."""
    files = [p for p in sorted((repo.folder / "results/tiny").rglob("*")) if p.is_file()]
    measured = {p.parent for p in files if p.name == "measured.json"}
    return {
        str(p.relative_to(repo.folder)): file_digest(p)
        for p in files
        if p.name != "measured.json" and not (p.name == "manifest.json" and p.parent in measured)
    }


def head(repo: Repo, said: Path, *targets: str) -> subprocess.Popen[str]:
    """Start Snakemake on the cluster; what it says goes to a file. It is killed at the end."""
    environment = {**repo.environment(), "SNAKEMAKE_PROFILE": "profiles/slurm"}
    process = subprocess.Popen(
        ["snakemake", *targets],
        cwd=repo.folder,
        env=environment,
        stdout=said.open("a"),
        stderr=subprocess.STDOUT,
        text=True,
    )
    atexit.register(process.kill)
    return process


def timed(work: Callable[[], object]) -> float:
    """Seconds on the clock."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def as_shipped(folder: Path, local: Repo) -> None:
    """A run on the cluster in which nothing goes wrong."""
    remote = tiny(folder / "remote")
    seconds = timed(lambda: head(remote, folder / "said").wait())
    print((folder / "said").read_text())
    same(local, remote)
    print(f"{seconds:.0f} s on the clock")


def same(one: Repo, other: Repo) -> None:
    """Two projects have the same results."""
    found = results(one), results(other)
    differing = [name for name in found[0].keys() | found[1].keys() if found[0].get(name) != found[1].get(name)]
    assert found[0] and not differing, f"{len(differing)} of {len(found[0])} differ: {sorted(differing)[:10]}"
    print(f"{len(found[0])} files are the same byte for byte")


def killed(folder: Path, local: Repo, cluster: Cluster) -> None:
    """A run whose job is cancelled, whose head is killed, and one of whose nodes is."""
    remote, said = tiny(folder / "remote", in_parts=True), folder / "said"
    first = head(remote, said)
    until(lambda: running() or first.poll() is not None)
    cancelled, _ = running()[0]
    ask("scancel", cancelled)
    until(lambda: f"SLURM job {cancelled} is CANCELLED" in said.read_text())
    until(lambda: running() or first.poll() is not None)
    first.kill()
    first.wait()
    left = {number for number, _ in running()}
    second = head(remote, said)
    until(lambda: {n for n, _ in running()} - left or second.poll() is not None)
    lost, node = next(job for job in running() if job[0] not in left)
    cluster.kill(node)
    until(lambda: f"SLURM job {lost} is NODE_FAIL" in said.read_text())
    cluster.start(node)
    status = second.wait()
    print(said.read_text())
    assert status == 0, status
    same(local, remote)
    logs = [p.read_text() for p in (remote.folder / ".snakemake/slurm_logs").rglob("*.log")]
    done = Counter(folder for log in logs for folder, how in re.findall(r"✓ (\S+)  (.+)", log) if how != "unchanged")
    assert max(done.values()) == 1, f"done twice: {[name for name, times in done.items() if times > 1]}"


def interrupted(folder: Path) -> None:
    """A run that is told to end: no job of it stays at work."""
    remote = tiny(folder / "remote")
    process = head(remote, folder / "said")
    until(lambda: running() or process.poll() is not None)
    process.terminate()
    print(f"ended {timed(process.wait):.0f} s after SIGTERM")
    until(lambda: not ask("squeue", "--noheader"), 300)
    said = (folder / "said").read_text()
    assert "interrupted; `snakemake` goes on" in said, said


def spread(folder: Path, local: Repo) -> None:
    """Training by two processes, one on each node, beside the same on one machine."""
    here, there = (tiny(folder / name) for name in ("here", "there"))
    for repo in (here, there):
        shutil.copytree(local.folder / "results", repo.folder / "results")
        repo.set("systems.tiny_clip.nodes", 2)
        repo.set("systems.tiny_clip.training.processes", 2)
    run, said = "results/tiny/runs/tiny_clip/seed0/manifest.json", folder / "said"
    print(f"the local run: {timed(lambda: here('snakemake', run)):.0f} s on the clock")
    process, used = head(there, said, run), set[str]()
    seconds = timed(lambda: until(lambda: used.update(node for _, node in running()) or process.poll() is not None))
    print(said.read_text())
    assert used == {f"n[1-{len(NODES)}]"}, used
    same(here, there)
    assert len(results(there)) == len(results(local)), "nothing else was made"
    print(f"{seconds:.0f} s on the clock")


TRIALS = {"as_shipped": as_shipped, "interrupted": interrupted, "killed": killed, "spread": spread}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trials", nargs="*", choices=[*TRIALS, []], help="those to make (default: all)")
    parser.add_argument("--folder", type=Path, help="where to work; it stays (default: a temporary folder)")
    options = parser.parse_args()
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if missing:
        sys.exit(f"no {', '.join(missing)}: `apt-get install slurm-wlm munge` (util-linux for unshare)")
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        sys.exit("no executor for SLURM: `pip install -e '.[slurm]'`")
    if os.geteuid() != 0:
        sys.exit("run it as root: nodes get a host name and processes of their own")
    folder = Path(tempfile.mkdtemp(prefix="cluster-")) if options.folder is None else options.folder.resolve()
    try:
        if (folder / "local").exists():
            local = Repo.at(folder / "local")
        else:
            local = tiny(folder / "local")
            print(f"the local run: {timed(local.build):.0f} s on the clock", flush=True)
        for name in options.trials or TRIALS:
            (folder / name / "slurm").mkdir(parents=True)
            with Cluster(folder / name / "slurm") as cluster:
                print(f"== {name}", flush=True)
                given = {"folder": folder / name, "local": local, "cluster": cluster}
                function = TRIALS[name]
                function(**{name: given[name] for name in inspect.signature(function).parameters})
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
