"""CPU time and memory of ``snakemake -n`` by the number of shards, and of a run where one video is new.

The tiny chain of the tests: a dry run where nothing is made; then one where all is current that many systems are made
from (results are faked: small files with whole manifests; the second such run, which knows the files' digests). Then a
folder of many short videos with one more: ``prepare``, and a run that extracts frames, beside one that does not make
the tables before Snakemake's graph is built.

    python benchmarks/growth.py [--shards 2 200 2000] [--systems 100] [--videos 2000]
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

from _claims import claim
from _clips import KINDS, make
from videomatch.common.digests import MEMORY as DIGESTS
from videomatch.common.digests import SCRATCH

ROOT = Path(__file__).resolve().parents[1]
#: files of a store, and what else a pass writes
STORE, BESIDE = ("values-00000.npy", "times-00000.npy", "index.parquet", "store.json"), ("rejected.parquet", "warnings")
MEMORY, DRY = SCRATCH / DIGESTS, ("-m", "snakemake", "-n")
#: to read the options of all modules takes ten seconds and the memory of torch: once, for all that is measured
READ = "from videomatch.pipeline import params; params.resolved(*params.load(['tests/tiny.yaml']))"
#: wanted at 2,000 shards: CPU seconds and megabytes where nothing is made, CPU seconds where all is current
BARS = 20, 400, 60
#: how `workflow/rules/common.smk` judges results; without what makes tables of a data set ahead it is the peer
LOOKS = "State(plan, make_now, tidy)"
#: of the folder of short videos
SHARDS = 16
FOLDER = {
    "datasets": {"mine": {"corpus": "folder", "raw": "raw", "shards": SHARDS, "experts": ["frames"]}},
    "experts": {"frames": {"extractor": "frames", "every": 1.0, "size": 32}},
    "systems": {"title": {"embeddings": {"texts": ["title"], "dim": 16}}},
    "pages": {"near": {"dataset": "mine", "split": "all", "system": "title"}},
}
FEATURES = [f"results/growth/features/mine/media/{shard}/manifest.json" for shard in range(SHARDS)]
RUN = ("-m", "snakemake", *FEATURES, "--cores", "1")


def copy(folder: Path) -> None:
    """A copy of the project, without parameters."""
    folder.mkdir(exist_ok=True)
    for name in ("Snakefile", "workflow", "profiles", "src"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    run(ROOT, "-c", READ)
    (folder / MEMORY).parent.mkdir()
    shutil.copy(ROOT / MEMORY, folder / MEMORY)


def project(folder: Path, shards: int, systems: int) -> Path:
    """A copy of the project with the tiny chain, and so many systems beside those that it has."""
    copy(folder)
    params = yaml.safe_load((ROOT / "tests/tiny.yaml").read_text(encoding="utf-8"))
    params["datasets"]["videos"]["shards"] = shards
    if systems:
        names = [f"mmt_{number}" for number in range(systems)]
        params["systems"] |= {name: {"from": "mmt", "seeds": None} for name in names}
        rows = [{"label": name, "system": name} for name in names]
        table = {"title": "many", "dataset": "videos", "split": "captions_test", "metrics": ["R@1"], "rows": rows}
        (folder / "workflow/tables/growth.yaml").write_text(yaml.safe_dump(table), encoding="utf-8")
        params["tables"].append("growth")
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return folder


def fake() -> int:
    """Write all results of the project in the working folder as if they had been made; their number."""
    from videomatch.app.requests import load_plan
    from videomatch.common.files import write_json
    from videomatch.pipeline import provenance, rules
    from videomatch.specs import listed

    jobs, reads = rules.needed(load_plan()), dict[str, set[str]]()
    outputs = functools.cache(provenance.outputs)
    look = functools.cache(lambda path, patterns: provenance.input_digest(path, patterns, outputs))
    for job in jobs.values():
        patterns = job.request()["reads"]
        for name, paths in job.inputs.items():
            for path in listed(paths):
                reads.setdefault(path, set()).update(patterns.get(name, ()))

    def write(result: str) -> None:
        for above in jobs[result].results:
            if not Path(above).exists():
                write(above)
        folders = [pattern.removesuffix("*") for pattern in reads.get(result, ()) if pattern.endswith("/*")]
        files = {f"{folder}{name}" for folder in folders for name in STORE}
        files |= {pattern.replace("*", "x") for pattern in reads.get(result, ()) if not pattern.endswith("/*")}
        outputs = {}
        for name in sorted(files.union(BESIDE)):
            file = Path(result).with_name(name) if "/" not in name else Path(result).parent / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name, encoding="utf-8")
            outputs[name] = {"size": len(name), "sha256": hashlib.sha256(name.encode()).hexdigest()}
        wanted = provenance.request(jobs[result].request(), look)
        write_json(Path(result), {**wanted, "outputs": outputs}, sort_keys=True)

    for result in jobs:
        if not Path(result).exists():
            write(result)
    return len(jobs)


def run(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """CPU seconds and peak megabytes of Python with some arguments in a project, and what it said."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([sys.executable, *arguments], cwd=folder, env=environment, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}:\n{text[-2000:]}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text


def growth(shards: int, systems: int) -> None:
    """Dry runs at a number of shards."""
    with tempfile.TemporaryDirectory() as given:
        folder = project(Path(given), shards, 0)
        seconds, megabytes, text = run(folder, *DRY)
        jobs, results = re.search(r"^(\d+) jobs", text, re.M), len(re.findall(r"^  results/", text, re.M))
        print(f"{shards} shards, nothing made: {results} results in {jobs[1] if jobs else 0} jobs of Snakemake")
        claim(f"`snakemake -n`, nothing made, {shards} shards", [seconds], "CPU s", peer=("wanted", BARS[:1]))
        claim(f"its memory, {shards} shards", [megabytes], "MB", peer=("wanted", BARS[1:2]))
    with tempfile.TemporaryDirectory() as given:
        folder = project(Path(given), shards, systems)
        print(f"{shards} shards, {systems} systems: {run(folder, __file__, '--fake')[2].strip()} results, faked")
        runs = [run(folder, *DRY) for _ in range(2)]
        if not all("Nothing to be done" in text for _, _, text in runs):
            raise RuntimeError(f"the faked results are not current:\n{runs[0][2][:2000]}")
        print(f"the first look, which reads all files: {runs[0][0]:.1f} CPU s, {runs[0][1]:.0f} MB")
        name = f"`snakemake -n`, all current, {systems} systems, {shards} shards"
        claim(name, [runs[1][0]], "CPU s", peer=("wanted", BARS[2:]))
        claim(f"its memory, {systems} systems, {shards} shards", [runs[1][1]], "MB")


def one_more(videos: int) -> None:
    """``prepare`` of a folder of so many videos, again, and with one more."""
    from videomatch.stages.prepare import prepare

    with tempfile.TemporaryDirectory() as given:
        folder = Path(given)
        os.chdir(folder)
        clip = make(folder / "clip.mp4", next(reversed(KINDS)), 0.2).read_bytes()
        (folder / "params.yaml").touch()  # digests are remembered in this folder
        (folder / "raw").mkdir()
        for number in range(videos):
            (folder / f"raw/{number}.mp4").write_bytes(clip)
        time.sleep(0.1)  # files that were just written are read again
        spent = []
        for number in range(3):
            if number == 2:
                (folder / "raw/new.mp4").write_bytes(clip)
            (folder / str(number)).mkdir()
            started = time.process_time()
            given = {"dataset": "d", "corpus": "folder", "shards": SHARDS, "seed": 0, "options": {}, "raw": "raw"}
            prepare(output=folder / str(number), **given)
            spent.append(time.process_time() - started)
        os.chdir(ROOT)
    print(f"prepare of {videos} videos: {spent[0]:.2f} CPU s, again {spent[1]:.2f}, with one more {spent[2]:.2f}")
    claim(f"`prepare` with one video more than {videos}", spent[2:], "CPU s", peer=("all of them", spent[:1]))


def run_of_one_more(videos: int) -> None:
    """A run with one video more, and which jobs it starts."""
    with tempfile.TemporaryDirectory() as given:
        ahead, peer = Path(given, "ahead"), Path(given, "peer")
        copy(ahead)
        params = {"scale": "growth", "seed": 0, "tables": [], "backbones": {}, "submissions": {}, **FOLDER}
        (ahead / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        clip = make(ahead / "clip.mp4", next(reversed(KINDS)), 0.2)
        (ahead / "raw").mkdir()
        for number in range(videos):
            shutil.copy(clip, ahead / f"raw/{number}.mp4")
        print(f"{videos} videos in {SHARDS} shards: {run(ahead, *RUN)[0]:.1f} CPU s at first")
        shutil.copytree(ahead, peer, ignore=shutil.ignore_patterns("fork_server.[0-9]*"))  # sockets
        common = peer / "workflow/rules/common.smk"
        text = common.read_text(encoding="utf-8")
        common.write_text(text.replace(LOOKS, "State(plan)"), "utf-8")
        assert LOOKS in text, f"{common} has no {LOOKS}"
        spent = []
        for folder in (ahead, peer):
            shutil.copy(clip, folder / "raw/new.mp4")
            seconds, _, text = run(folder, *RUN)
            jobs = re.findall(r"^✓ results/growth/(\w+)\S*  (.+)", text, re.M)
            started = ", ".join(f"{n} {kind}" for kind, n in Counter(kind for kind, _ in jobs).items())
            unchanged = sum(how == "unchanged" for _, how in jobs)
            print(f"  {folder.name}: {len(jobs)} jobs, {unchanged} of them find nothing changed: {started}")
            spent.append(seconds)
    # the server that jobs are forked from is not counted
    what = f"a run with one video more than {videos}, {SHARDS} shards"
    claim(what, spent[:1], "CPU s", peer=("tables made as one of the jobs", spent[1:]))


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, nargs="*", default=[2, 200, 2000])
    parser.add_argument("--systems", type=int, default=100)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--fake", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fake:
        print(fake())
        return
    if options.videos:
        one_more(options.videos)
        run_of_one_more(options.videos)
    for shards in options.shards:
        growth(shards, options.systems)


if __name__ == "__main__":
    main()
