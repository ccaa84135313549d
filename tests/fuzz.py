"""Every reader on damaged files: seeded mutations of small valid ones, and of those in folders that are named.

Each must end within 10 s and 1 GB of memory: read, with numbers that are numbers, or refused by a ValueError or OSError
that names a file. A case is told by target, number and seed, and runs again by them alone.

    python tests/fuzz.py [--data 1500] [--media 400] [--seed 0] [--only PART-OF-TARGET] [--case TARGET:N] [FOLDER ...]
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import re
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import fuzz_seeds
import records
from fuzz_seeds import DATA, MEDIA, Target
from videomatch.data.subtitles import SUBTITLES
from videomatch.data.walk import EXTENSIONS

#: what a case may take of a processor and of memory, and the address space of a process, where pages that are never
#: touched count
SECONDS, BYTES, ADDRESSES = 10, 1 << 30, 16 << 30
#: seconds after which a process that waits for something is given up; the machine may have other work
PATIENCE = 300
#: bytes of the largest file that is taken from a folder
LARGEST = 1 << 20

#: what stands where a number or a word was
ODD = ["nan", "NaN", "Infinity", "-inf", "1e999", "-1", "-0.5", "1e300", "0", "", "99999999", "4294967296", "x", "null"]
ODD += ["9" * 25, "9" * 400, "9" * 5000, "²", "1_0", "true", '"', "[]", "{}", "\\ud83d", "\u2028", "\0", "a,b", "a\tb"]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1e300,
    -0.5,
    float("nan"),
    float("inf"),
    10**400,
    "",
    "x",
    "\ud83d",
    "a\0b",
    [],
    {},
]
VALUES += [[None], ["x"], [1, 2], {"x": 1}, 2**63, "x" * 100_000, [[]]]


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One to eight bits flipped."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8)) if data else 0):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def spliced(data: bytes, rng: random.Random) -> bytes:
    """A run of bytes removed, repeated, zeroed, or replaced; or the end cut off."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 2, 4, 16, 256, len(data))))
    run = data[start:end]
    new = rng.choice((b"", run * 2, run * 200, bytes(len(run)), rng.randbytes(len(run)), b"\xff" * len(run)))
    return data[:start] + (new if rng.random() < 0.8 else b"") + (data[end:] if rng.random() < 0.8 else b"")


def sized(data: bytes, rng: random.Random) -> bytes:
    """A number of 2, 4 or 8 bytes as no file has it."""
    value = rng.choice((0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 2**31, 2**62, 2**63 - 1, 2**64 - 1))
    size = rng.choice([s for s in (2, 4, 8) if value < 256**s])
    at = rng.randrange(max(1, len(data) - size))
    place = rng.random()
    if place < 0.7:  # headers come first or last
        near = min(rng.randrange(2048), len(data))
        at = near if place < 0.35 else len(data) - near
    return data[:at] + value.to_bytes(size, rng.choice(("little", "big"))) + data[at + size :]


def worded(data: bytes, rng: random.Random) -> bytes:
    """A number or word of a text replaced by an odd one."""
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?|\w+", data)) if len(data) < 4 * LARGEST else []
    if not found:
        return flipped(data, rng)
    match = rng.choice([m for m in found if m[0][-1:].isdigit()] or found) if rng.random() < 0.7 else rng.choice(found)
    return data[: match.start()] + rng.choice(ODD).encode() + data[match.end() :]


def lined(data: bytes, rng: random.Random) -> bytes:
    """Lines removed, repeated, moved, joined, made very long, or with another end."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    kind = rng.randrange(8)
    if kind < 3:
        lines[at : at + 1] = [[], [lines[at]] * 2, [lines[at]] * 500][kind]
    elif kind == 3:
        rng.shuffle(lines)
    elif kind == 4:
        lines[at] += rng.choice((b"x", b"[", b"<i>", b"1 ", b",", b"-", b"\t")) * 100_000
    elif kind == 5:
        lines[at] = b""
    return rng.choice((b"\r\n", b"\r", b" ", b"\n\n")).join(lines) if kind > 5 else b"\n".join(lines)


def coded(data: bytes, rng: random.Random) -> bytes:
    """Another encoding, or bytes that are in none."""
    text = data.decode("utf-8", errors="replace")
    kind = rng.randrange(6)
    if kind < 4:
        return text.encode(("utf-16", "utf-8-sig", "gb18030", "cp1252")[kind], errors="replace")
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"\xff", b"\xc3", b"\0", b"\xed\xa0\x80", b"\x1a")) + data[at:]


def replaced(data: bytes, rng: random.Random) -> bytes:
    """A value of a JSON file, or of a line of it, replaced by another kind of value."""
    lines = data.split(b"\n") if data[:1] == b"{" and data.count(b"\n{") else [data]
    at = rng.randrange(len(lines))
    try:
        tree = [json.loads(lines[at])]
    except ValueError:
        return worded(data, rng)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(child, dict | list):
                walk(child)

    walk(tree)
    node, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.15 and len(places) > 1:
        node, key = rng.choice(places[1:])
        del node[key]
    elif kind < 0.3 and isinstance(node, dict):
        node[rng.choice(("x", "", "a-b-c-d", "a\ud83d", "-" * 50_000))] = node.pop(key)
    elif kind < 0.35:
        lines[at] = b"[" * 100_000
        return b"\n".join(lines)
    else:
        node[key] = rng.choice(VALUES)
    lines[at] = json.dumps(tree[0]).encode() if tree else b""
    return b"\n".join(lines)


def repacked(data: bytes, rng: random.Random) -> bytes:
    """A record of a TFRecord or a member of an archive mutated, with the checksum that it then has."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "x")
        path.write_bytes(data)
        mutate = rng.choice((flipped, spliced, sized, worded))
        if data[:2] == b"PK":
            with zipfile.ZipFile(path) as archive:
                members = {name: archive.read(name) for name in archive.namelist()}
            name = rng.choice(list(members))
            members[name] = rng.choice((mutate(members[name], rng), members[rng.choice(list(members))]))
            with zipfile.ZipFile(path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
                for member, content in members.items():
                    archive.writestr(member, content)
            return path.read_bytes()
        messages, at = [], 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            messages.append(data[at + 12 : at + 12 + length])
            at += length + 16
        chosen = rng.randrange(len(messages))
        messages[chosen] = mutate(messages[chosen], rng)
        return records.write(path, messages).read_bytes()


BYTEWISE = (flipped, spliced, sized)
TEXTS = (*BYTEWISE, worded, worded, worded, lined, coded)
#: ending -> mutations; of other files, those of bytes
KINDS: dict[str, tuple[Callable[[bytes, random.Random], bytes], ...]] = {
    **dict.fromkeys((".json", ".jsonl"), (*TEXTS, *[replaced] * 8)),
    **dict.fromkeys((".npz", ".tfrecords"), (*BYTEWISE, repacked, repacked, repacked)),
    ".npy": (*BYTEWISE, worded),
}
KINDS |= dict.fromkeys((".h5", ".parquet", ".bin", *EXTENSIONS), BYTEWISE)


class Case(NamedTuple):
    """One mutation: the seed and the number tell which."""

    target: str
    number: int
    seed: int


def mutate(case: Case, folder: Path) -> Path:
    """Mutate one file of a folder; which one."""
    rng = random.Random(f"{case.target} {case.number} {case.seed}")
    path = rng.choice([p for p in sorted(folder.rglob("*")) if p.is_file() and p.stat().st_size])
    data = path.read_bytes()
    data = rng.choice(KINDS.get(path.suffix.lower(), TEXTS))(data, rng)
    if rng.random() < 0.2:
        data = rng.choice((flipped, spliced))(data, rng)
    path.write_bytes(data)
    return path


def verdict(target: Target, folder: Path) -> str:
    """``read``, ``refused``, or what is wrong."""
    names = {p.name for p in folder.rglob("*")}
    try:
        target.read(folder)
    except (ValueError, OSError) as error:
        text = str(error)
        if any(name in text for name in names) and len(text) < 3000:
            return "refused"
        return f"message without a file, or too long: {type(error).__name__}: {text[:200]}\n{_where(error)}"
    except BaseException as error:  # polars' PanicException is no Exception
        return f"{type(error).__name__}: {str(error)[:200]}\n{_where(error)}"
    return "read"


def _where(error: BaseException) -> str:
    return "".join(traceback.format_tb(error.__traceback__)[-3:])


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def _work(link: Any, seeds: Path, folders: list[str]) -> None:
    """Answer cases with what became of them, seconds and bytes, until there are no more."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # warnings of readers, messages of libraries
    targets = {**DATA, **MEDIA, **given(folders)}
    while (case := link.recv()) is not None:
        target = targets[case.target]
        with tempfile.TemporaryDirectory(dir=seeds) as scratch:
            folder = Path(scratch) / "case"
            shutil.copytree(seeds / case.target.replace("/", "%"), folder)
            name = mutate(case, folder).name
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
            before, started = _memory("VmRSS"), time.process_time()
            resource.setrlimit(resource.RLIMIT_CPU, (int(started) + 3 * SECONDS, resource.RLIM_INFINITY))
            found = verdict(target, folder)
            seconds, used = time.process_time() - started, _memory("VmHWM") - before
        if seconds > SECONDS or used > BYTES:
            found = f"{seconds:.1f} s, {used >> 20} MB ({found})"
        link.send((name, found, seconds, used))


def given(folders: list[str]) -> dict[str, Target]:
    """Targets of the files in folders: media, and texts beside a video."""
    found = {}
    for root in folders:
        for path in sorted(Path(root).rglob("*")):
            ending = path.suffix.lower()
            if not path.is_file() or path.stat().st_size > LARGEST:
                continue
            if ending in EXTENSIONS:
                found[str(path)] = Target(partial(_copy, [path]), fuzz_seeds.read_media)
            elif ending in (*SUBTITLES, ".json", ".txt"):
                found[str(path)] = Target(partial(_beside, path), DATA["folder"].read)
            elif ending == ".h5":
                found[str(path)] = Target(partial(_as_mmt, path), DATA["mmt_h5"].read)
    return found


def _copy(paths: list[Path], folder: Path) -> None:
    for path in paths:
        shutil.copy(path, folder)


def _beside(path: Path, folder: Path) -> None:
    _copy([path], folder)
    (folder / f"{path.stem}.mp4").touch()


def _as_mmt(path: Path, folder: Path) -> None:
    (folder / "a/b/c").mkdir(parents=True)
    shutil.copy(path, folder / "a/b/c/abc.h5")


class _Worker:
    """A process that is replaced when it dies or takes too long."""

    def __init__(self, seeds: Path, folders: list[str]) -> None:
        self.arguments = (seeds, folders)
        self.process: Any = None

    def __call__(self, case: Case) -> tuple[str, str, float, int]:
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.link, theirs = context.Pipe()
            self.process = context.Process(target=_work, args=(theirs, *self.arguments), daemon=True)
            self.process.start()
            theirs.close()
        self.link.send(case)
        try:
            if self.link.poll(PATIENCE):
                return self.link.recv()
            reason = f"does not end within {PATIENCE} s"
        except EOFError:
            self.process.join()
            reason = f"the process died, status {self.process.exitcode}"
            if self.process.exitcode == -signal.SIGXCPU:
                reason = f"takes more than {3 * SECONDS} s of a processor"
        self.process.kill()
        self.process = None
        return "", reason, 0.0, 0

    def end(self) -> None:
        if self.process is not None:
            self.link.send(None)
            self.process.join()


def cases(kinds: dict[bool, list[str]], amounts: dict[bool, int], seed: int) -> Iterator[Case]:
    """The cases, target after target."""
    for media, names in kinds.items():
        for number in range(amounts[media]) if names else ():
            yield Case(names[number % len(names)], number // len(names), seed)


def run(
    data: int, media: int, seed: int = 0, folders: list[str] | None = None, only: str = "", jobs: int = 1
) -> tuple[Counter[str], list[str]]:
    """How many cases were read and refused, and what was wrong with the others."""
    folders = folders or []
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="videomatch-fuzz-") as scratch:
        kinds: dict[bool, list[str]] = {False: [], True: []}
        for name, target in {**DATA, **MEDIA, **given(folders)}.items():
            folder = Path(scratch) / name.replace("/", "%")
            folder.mkdir()
            is_media = target.read is fuzz_seeds.read_media
            if only not in name or not (media if is_media else data):
                continue
            target.write(folder)
            found = verdict(target, folder)
            if found == "read":
                kinds[is_media].append(name)
            elif name in DATA or name in MEDIA:
                wrong.append(f"{name} as it was made: {found}")
        pending = cases(kinds, {False: data, True: media}, seed)
        done = count(1)

        def work() -> None:
            worker = _Worker(Path(scratch), folders)
            for case in iter(lambda: next(pending, None), None):
                name, found, seconds, used = worker(case)
                counts[found if found in ("read", "refused") else "wrong"] += 1
                if found not in ("read", "refused"):
                    wrong.append(f"{case.target!r} case {case.number} seed {seed}, {name}: {found}")
                if not next(done) % 100:
                    print(dict(counts), f"last {seconds:.2f} s {used >> 20} MB", flush=True)
            worker.end()

        with ThreadPoolExecutor(jobs) as pool:
            for future in [pool.submit(work) for _ in range(jobs)]:
                future.result()
    return counts, wrong


def _one(name: str, number: int, seed: int, folders: list[str]) -> int:
    target = {**DATA, **MEDIA, **given(folders)}[name]
    with tempfile.TemporaryDirectory() as scratch:
        target.write(Path(scratch))
        print(mutate(Case(name, number, seed), Path(scratch)))
        target.read(Path(scratch))
    return 0


def main() -> int:
    """Run; status 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*")
    parser.add_argument("--data", type=int, default=1500)
    parser.add_argument("--media", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="targets with this in their name")
    parser.add_argument("--case", help="TARGET:NUMBER, run alone and without a net")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    logging.disable()  # readers warn of what they leave out
    options = vars(parser.parse_args())
    if chosen := options.pop("case"):
        name, number = chosen.rsplit(":", 1)
        return _one(name, int(number), options["seed"], options["folders"])
    counts, wrong = run(**options)
    for text in sorted(wrong):
        print(text)
    print(f"{counts.total()} mutated files: {counts['read']} read, {counts['refused']} refused, {len(wrong)} wrong")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
