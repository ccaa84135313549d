"""Run the benchmarks and write their page, ``benchmarks/README.md``: ``python benchmarks/page.py [--full] [NAME …]``.

Without ``--full`` the short commands run, for :data:`MINUTES` together at most; with it the long ones, which takes
hours. What was measured is kept in ``benchmarks/measured.json``, one entry for each command: the page shows all of them
with their date, code and machine, and names the commands that were never run. One thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from _claims import FILE, HEADS, Claim, machine

HERE = Path(__file__).resolve().parent
MEASURED, PAGE = HERE / "measured.json", HERE / "README.md"
MINUTES, STOPPED = 15, "stopped"
REAL, PAIRS = "$VIDEOMATCH_REALDATA/videos", "$VIDEOMATCH_REALDATA/derived/shared_video_copy_pairs.tsv"
#: name -> options of the short command (None: there is none) and of the long one
COMMANDS: dict[str, tuple[str | None, str]] = {
    "pretrain": ("--rounds 3", ""),
    "mmt": ("--rounds 3 --kinds 'as in MSR-VTT'", ""),
    "video_text": ("--rounds 3 --sizes '4 layers of 256'", ""),
    "token_match": ("--rounds 3", ""),
    "store": ("", "--full"),
    "search": ("--queries 1000", "--full"),
    "evaluate": ("--videos 1000", ""),
    "combine": ("", "--full"),
    "decode": ("--seconds 10", REAL),
    "extract": ("--seconds 5 --rounds 1", ""),
    "duplicates": (f"{REAL} {PAIRS} --named", f"{REAL} {PAIRS}"),
    "fork_server": ("--rounds 3", ""),
    "scheduler": ("--jobs 40", ""),
    "growth": ("--shards 200 --systems 10 --videos 500", ""),
    "train_memory": ("--gigabytes 1 5 --steps 100", ""),
    "copies": ("--hours 10 --rounds 1 --queries 4", "--full"),
    "index": ("--rows 50000 --queries 100", "--exact"),
    "million": ("", "--full"),
    "dual_encoding": ("--dims 512", "--rounds 3"),
    "resume": (None, ""),
    "detector": (None, "--full"),
    "edits": (None, f"{REAL} --pairs {PAIRS}"),
    "eyes": (None, f"{REAL} $VIDEOMATCH_REALDATA/../cases/queries.tsv"),
    "speech": (None, f"$WHISPER {REAL}"),
    "precision": (None, "results/demo/runs/pretrain_ours/seed0"),
    "importance": (None, "$RUN $CORPUS $FEATURES"),
}
#: of a machine with a card (`benchmarks/gpu.sh`): name -> options of the command, and of a try without a card
CARD: dict[str, tuple[str, str]] = {
    "pretrain": (
        "--device cuda --sizes '24 layers of 1024' --batch 128 --rounds 5",
        "--sizes '2 layers of 64' --batch 8 --rounds 2",
    ),
    "resume": ("--size '24 layers of 1024' --batch 128", "--size '2 layers of 64' --batch 8 --steps 6"),
    "extract": ("--networks clip_b32", "--networks clip_b32 --seconds 1 --rounds 1"),
}
CARD_MINUTES = 10
ABOUT = f"""# Benchmarks

Made by `make bench` ({MINUTES} minutes at most), `make bench OPTIONS=--full` (hours) and, on a machine with a card,
`benchmarks/gpu.sh` ({CARD_MINUTES} minutes); nothing here is written by
hand. A command measures ours and its peer in one run, in turns where there are rounds: the median, and the least and
the most in brackets. CPU time of one thread, unless the unit says otherwise. *Times as good* is the median of the
rounds' ratios: above 1 ours is faster, smaller, or finds more. The floor is what cannot be left out, at the best rate
of this machine (products of large matrices; bytes that are read and written again); its share in ours is 1 where
nothing else is done. Where other programs were at work (*load*: processes
that wanted a core when the command began), CPU time is up to twice what it is alone; ratios suffer less.
"""


def command_line(name: str, options: str) -> str:
    """The command as one types it in the project's folder."""
    return f"python benchmarks/{name}.py {options}".strip()


def missing(options: str) -> str | None:
    """What a command needs that is not there: a variable, or a file or folder."""
    for word in shlex.split(options):
        given = os.path.expandvars(word)
        if ("$" in word or "/" in word) and not (HERE.parent / given).exists():
            return word.partition("/")[0] if "$" in given else word
    return None


def measure(name: str, options: str, seconds: float | None) -> dict[str, Any]:
    """Run a command; what it claims, or what it printed where it claims nothing, or why it failed."""
    with tempfile.TemporaryDirectory() as folder:
        claims, started = Path(folder) / "claims", time.monotonic()
        claims.touch()
        made = {"load": round(os.getloadavg()[0], 1), "date": f"{datetime.now(UTC):%Y-%m-%d}"}
        command = [sys.executable, str(HERE / f"{name}.py"), *map(os.path.expandvars, shlex.split(options))]
        environment = {**os.environ, FILE: str(claims), "OMP_NUM_THREADS": "1"}
        try:
            given = {"capture_output": True, "text": True, "check": False, "timeout": seconds}
            done = subprocess.run(command, cwd=HERE.parent, env=environment, **given)  # pyright: ignore[reportCallIssue, reportArgumentType]
            error = done.stderr.strip().splitlines()[-1:] if done.returncode else []
            printed = done.stdout or done.stderr
        except subprocess.TimeoutExpired:
            error, printed = [f"{STOPPED} after {seconds:.0f} s"], ""
        made |= {"seconds": round(time.monotonic() - started), "error": "".join(error)}
        found = [json.loads(line) for line in claims.read_text(encoding="utf-8").splitlines()]
    return made | {"claims": found, "printed": "" if found else printed[-2000:]}


def text(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The page of what was measured, by command line."""
    machines = list(dict.fromkeys(entry["machine"] for entry in measured.values()))
    rates = {entry["machine"]: entry["rates"] for entry in measured.values()}
    lines = [ABOUT, *(f"Machine {n}: {name}; one thread: {rates[name]}.\n" for n, name in enumerate(machines, 1))]
    left = []
    for name, every in COMMANDS.items():
        for_card = CARD.get(name, ())
        for options in dict.fromkeys(o for o in (*every, *for_card) if o is not None):
            line = command_line(name, options)
            if line not in measured:
                left += [f"- `{line}`"] if options not in for_card[1:] else []
                continue
            entry = measured[line]
            number = machines.index(entry["machine"]) + 1
            about = (
                f"{entry['date']}, code {entry['code']}, machine {number}, load {entry['load']}, {entry['seconds']} s"
            )
            lines.append(f"## {name}\n\n`{line}` ({about})\n")
            lines += [f"**It failed**: {_cell(entry['error'])}\n"] if entry["error"] else []
            rows = [Claim(**found).cells() for found in entry["claims"]]
            if rows:
                shown = [n for n, head in enumerate(HEADS) if n == 0 or any(row[n] for row in rows)]
                table = [
                    [HEADS[n] for n in shown],
                    ["---"] * len(shown),
                    *([_cell(row[n]) for n in shown] for row in rows),
                ]
                lines.append("\n".join(f"| {' | '.join(row)} |" for row in table) + "\n")
            elif entry["printed"]:
                lines.append("\n".join(f"    {row}".rstrip() for row in entry["printed"].strip().splitlines()) + "\n")
    lines += (
        ["## Without an entry\n\nSome were run before entries were kept: `results/LOG.md`.\n", "\n".join(left) + "\n"]
        if left
        else []
    )
    return "\n".join(lines)


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    """Run what is asked for, and write the page after each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(COMMANDS)}; by default all")
    parser.add_argument("--full", action="store_true", help="the long commands: hours")
    parser.add_argument("--card", action="store_true", help="the commands for a card; see benchmarks/gpu.sh")
    parser.add_argument("--tiny", action="store_true", help="with --card: try them small, without a card")
    parser.add_argument("--measured", type=Path, default=MEASURED, help="where the measurements are, the page beside")
    parser.add_argument("--page", action="store_true", help="run nothing, only write the page of what was measured")
    given = parser.parse_args()
    for name in given.names:
        if name not in COMMANDS:
            parser.error(f"no benchmark {name!r}: expected {', '.join(COMMANDS)}")
    if given.card and not given.tiny and not torch.cuda.is_available():
        parser.error("--card: torch finds no card here")
    os.environ.setdefault("VIDEOMATCH_REALDATA", str(HERE.parents[1] / "shared/realdata"))
    file, page = given.measured, given.measured.with_name(PAGE.name)
    measured = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    minutes = CARD_MINUTES if given.card else MINUTES
    until, (here, rates) = time.monotonic() + 60 * minutes, ("", "") if given.page else machine()
    code = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True, check=False
    )
    chosen = {name: every[given.tiny] for name, every in CARD.items()} if given.card else {}
    chosen = chosen or {name: every[given.full] for name, every in COMMANDS.items()}
    for name in [] if given.page else given.names or chosen:
        options, left = chosen.get(name), None if given.full or given.tiny else until - time.monotonic()
        if options is None:
            continue
        if what := missing(options):
            print(f"{name}: not run, it needs {what}", flush=True)
            continue
        if left is not None and left < 10:
            print(f"{name}: not run, {minutes} minutes are over", flush=True)
            continue
        line = command_line(name, options)
        print(line, flush=True)
        made = measure(name, options, left)
        if made["error"].startswith(STOPPED):  # an earlier run says more
            print(f"  {made['error']}", flush=True)
            continue
        measured[line] = {"machine": here, "rates": rates, "code": code.stdout.strip()} | made
        for found in measured[line]["claims"]:
            print(*("  " + cell for cell in Claim(**found).cells() if cell), flush=True)
        print(measured[line]["error"] or f"  {measured[line]['seconds']} s", flush=True)
        file.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    page.write_text(text(measured), encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
