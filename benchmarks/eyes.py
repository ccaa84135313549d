"""Questions in words about real clips: how often a right clip is first and among the first five, by pictures alone and
by all that an index knows, in an index that is made for it.

    python benchmarks/eyes.py FOLDER QUERIES [--model conse] [--column query]

QUERIES is a tab-separated file with the columns ``query`` (or ``--column``) and ``clips``: a pattern of the paths that
are right. Printed are both numbers, the chance of the first place, and the CPU time of an hour of video.
"""

from __future__ import annotations

import argparse
import csv
import re
import tempfile
import time
from pathlib import Path

import numpy as np

from _claims import claim
from videomatch.app.search import search
from videomatch.folders._eyes import PACKAGED, Eyes
from videomatch.folders.folder_index import FolderIndex
from videomatch.folders.folder_search import FolderCatalogue


def main() -> None:
    """Index the folder and ask all questions."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--model", default=PACKAGED)
    parser.add_argument("--column", default="query")
    options = parser.parse_args()
    with options.queries.open(encoding="utf-8") as file:
        asked = [(row[options.column], row["clips"]) for row in csv.DictReader(file, delimiter="\t")]
    with tempfile.TemporaryDirectory(prefix="videomatch-") as scratch:
        place = Path(scratch) / "index"
        index = FolderIndex.open(place, options.folder, Eyes(options.model).name)
        before = time.process_time()
        index.refresh(1)
        spent = time.process_time() - before
        videos = index.videos()
        hours = float(videos["duration"].sum()) / 3600
        claim("index of an hour of video, by " + options.model, [spent / hours], "CPU s")
        catalogue = FolderCatalogue(place)
        chance = np.mean([np.mean([bool(re.search(clips, p)) for p in videos["path"]]) for _, clips in asked])
        for within in ("pictures", None):
            found = [search(catalogue, "find", text, top=len(videos), within=within).hits for text, _ in asked]
            ranks = np.array([
                next((n for n, hit in enumerate(hits, 1) if re.search(clips, hit["path"])), len(videos))
                for hits, (_, clips) in zip(found, asked, strict=True)
            ])  # fmt: skip
            what = f"{len(ranks)} questions about {len(videos)} real clips, by {within or 'all'}"
            claim(f"{what}: right at first", [np.mean(ranks == 1)], "", peer=("chance", [chance]), more=True)
            claim(f"{what}: right among five", [np.mean(ranks <= 5)], "")
            print(
                f"{within or 'all'}: first {np.sum(ranks == 1)} of {len(ranks)}, among five {np.sum(ranks <= 5)}, mean "
                f"reciprocal rank {np.mean(1 / ranks):.3f} (chance of the first place {chance:.3f})"
            )


if __name__ == "__main__":
    main()
