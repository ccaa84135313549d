"""``submit``: a challenge's own file of one system's results of one split, checked by the challenge's rules."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, TypeVar

from videomatch.common import files
from videomatch.reports import submission_aiac, submission_avs, submission_vsc2022

log = logging.getLogger(__name__)

FORMATS = ("aiac", "avs", "vsc2022_matching", "vsc2022_descriptors")
Given = TypeVar("Given")


def submit(
    *,
    corpus: Path,
    member: str,
    output: Path,
    split: str,
    embeddings: list[Path] | None = None,
    rankings: Path | None = None,
    segments: Path | None = None,
    features: list[Path] | None = None,
    expert: str | None = None,
    noise: dict[str, Any] | None = None,
    format: str = "aiac",
    missing: str = "error",
    run: dict[str, Any] | None = None,
    elapsed: int = 1,
) -> None:
    """Write the file of a challenge, and ``submission.json`` (what it holds).

    Args:
        split: what to submit: its references, its queries, or both, as the format asks.
        embeddings: results of ``embed`` or ``combine``, for format ``aiac``; several are one, with disjoint ids.
        rankings: result of ``search`` over the split, for format ``avs``.
        segments: result of ``align``, for format ``vsc2022_matching``.
        features, expert, noise: for format ``vsc2022_descriptors``: results of ``extract``, and with ``{split, beta,
            drop}`` scores are normalised by the references of that split.
        format: one of :data:`FORMATS`.
        missing: what becomes of a video without an embedding (its file cannot be read) in format ``aiac``: ``error``,
            or ``zeros``, since the challenge wants every id. The cosine of zeros is 0 with anything.
        run, elapsed: for format ``avs``: ``submission_avs.ATTRIBUTES``, and whole seconds that a query took.
    """
    if missing not in ("error", "zeros"):
        raise ValueError(f"missing {missing!r}, expected error or zeros")

    def needed(given: Given | None, what: str) -> Given:
        if given is None:
            raise ValueError(f"format {format!r} is written from {what}, and none are given")
        return given

    if format == "aiac":
        folders = [folder / member for folder in needed(embeddings, "embeddings")]
        about = submission_aiac.submit(corpus, output, split, folders, missing)
    elif format == "avs":
        about = submission_avs.submit(corpus, output, split, needed(rankings, "rankings") / member, run or {}, elapsed)
    elif format == "vsc2022_matching":
        about = submission_vsc2022.submit_matching(corpus, output, split, needed(segments, "segments"))
    elif format == "vsc2022_descriptors":
        frames = needed(features, "frames"), needed(expert, "frames"), noise
        about = submission_vsc2022.submit_descriptors(corpus, output, split, *frames)
    else:
        raise ValueError(f"no format named {format!r}; there are {', '.join(FORMATS)}")
    log.info("%s: %s", format, {name: value for name, value in about.items() if name != "zeros"})
    about = {"format": format, "split": split, "member": member} | about
    files.write_json(output / "submission.json", about)
