"""TRECVID's ad-hoc video search (AVS): a run of shots as XML, written, and checked by NIST's rules."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from videomatch.data import tables
from videomatch.data.corpus import pooled_ids
from videomatch.specs.reports import AVS_RUN, avs_run_mistakes

#: shots that a run may name for a topic
MAX_SHOTS = 1000
#: of the runs of 2021
DTD = "https://www-nlpir.nist.gov/projects/tv2021/dtds/videoAdhocSearchResults.dtd"


def submit(corpus: Path, output: Path, split: str, rankings: Path, run: dict[str, Any], elapsed: int) -> dict[str, Any]:
    """Write and check the run of a split (queries are the topics, references the shots); returns what it holds."""
    searched = json.loads((rankings / "search.json").read_text(encoding="utf-8"))
    if searched["split"] != split:
        raise ValueError(f"{rankings}: ranks split {searched['split']!r}, to submit is {split!r}")
    queries, shots = (pooled_ids(corpus, split, [role]) for role in ("query", "reference"))
    best = tables.ranked(tables.read("rankings", rankings), MAX_SHOTS, searched["counts"]["references"])
    found = dict(best.group_by("query_id", maintain_order=True).agg("reference_id").iter_rows())
    absent = [topic for topic in queries if topic not in found]
    if absent:
        raise ValueError(f"{rankings}: {len(absent)} of {len(queries)} topics have no ranking, first {absent[0]!r}")
    file = write(output, {topic: found[topic] for topic in queries}, run, elapsed)
    check(file, queries, shots)
    return {"file": file.name, "topics": len(queries), "shots": len(best), "run": run}


def write(folder: Path, topics: Mapping[str, list[str]], attributes: Mapping[str, Any], elapsed: int) -> Path:
    """Write ``run.xml`` of topics (number -> its shots, best first) and values of :data:`AVS_RUN`."""
    ordered = sorted(attributes, key=[*AVS_RUN, *attributes].index)
    given = " ".join(f"{name}={quoteattr(str(attributes[name]))}" for name in ordered)
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', f'<!DOCTYPE videoAdhocSearchResults SYSTEM "{DTD}">']
    lines += ["<videoAdhocSearchResults>", f"<videoAdhocSearchRunResult {given}>"]
    for topic, shots in topics.items():
        lines.append(f'<videoAdhocSearchTopicResult tNum={quoteattr(topic)} elapsedTime="{elapsed}">')
        lines += [f'<item seqNum="{n}" shotId={quoteattr(shot)} />' for n, shot in enumerate(shots, start=1)]
        lines.append("</videoAdhocSearchTopicResult>")
    lines += ["</videoAdhocSearchRunResult>", "</videoAdhocSearchResults>", ""]
    file = folder / "run.xml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def check(file: Path, topics: Collection[str], shots: Collection[str]) -> None:
    """Check an AVS run by what NIST's own program checks, and by the DTD's attributes. It must answer each of
    ``topics`` exactly once, with at most :data:`MAX_SHOTS` of ``shots``."""
    text = file.read_bytes()
    if b"<!ENTITY" in text:  # an entity could grow without end while it is read
        raise ValueError(f"{file}: declares an entity, which a run has no use for")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is not XML ({error})") from error
    runs = list(root)
    if root.tag != "videoAdhocSearchResults" or not runs or {r.tag for r in runs} != {"videoAdhocSearchRunResult"}:
        raise ValueError(f"{file}: {root.tag} of {sorted({r.tag for r in runs})}, expected videoAdhocSearchRunResult")
    wanted, there = set(topics), set(shots)
    for run in runs:
        for _, text in avs_run_mistakes(run.attrib):
            raise ValueError(f"{file}: {text}")
        seen: set[str] = set()
        for answer in run:
            topic = answer.get("tNum", "")
            where = f"{file}, topic {topic!r}"
            if answer.tag != "videoAdhocSearchTopicResult" or topic not in wanted:
                raise ValueError(f"{where}: {answer.tag}, expected one of the {len(wanted)} topics")
            if topic in seen:
                raise ValueError(f"{where} occurs twice")
            seen.add(topic)
            _check_answer(where, answer, there)
        if missing := sorted(wanted - seen):
            raise ValueError(f"{file}: {len(missing)} of {len(wanted)} topics are missing, first {missing[0]!r}")


def _check_answer(where: str, answer: ElementTree.Element, there: Collection[str]) -> None:
    elapsed = answer.get("elapsedTime", "")
    if not _is_whole(elapsed):
        raise ValueError(f"{where}: elapsedTime {elapsed!r}, expected a whole number of seconds")
    if len(answer) > MAX_SHOTS:
        raise ValueError(f"{where} names {len(answer)} shots, expected at most {MAX_SHOTS}")
    places: set[int] = set()
    shots: set[str] = set()
    for item in answer:
        place, shot = item.get("seqNum", ""), item.get("shotId", "")
        if item.tag != "item" or not _is_whole(place) or not 1 <= int(place) <= MAX_SHOTS:
            raise ValueError(f"{where}: {item.tag} with seqNum {place!r}, expected 1 to {MAX_SHOTS}")
        if int(place) in places:
            raise ValueError(f"{where}: seqNum {place} occurs twice")
        if shot not in there:
            raise ValueError(f"{where}, seqNum {place}: there is no shot {shot!r}")
        if shot in shots:
            raise ValueError(f"{where}: shot {shot} occurs twice")
        places.add(int(place))
        shots.add(shot)


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) < 1 << 31
