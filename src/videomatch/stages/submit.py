"""``submit``: a challenge's own file of one system's results of one split, checked by the challenge's rules."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from videomatch.common import files
from videomatch.reports import submission_aiac, submission_avs, submission_vsc2022

log = logging.getLogger(__name__)


def submit(
    *,
    corpus: Path,
    member: str,
    output: Path,
    split: str,
    results: list[Path],
    expert: str = "",
    noise: dict[str, Any] | None = None,
    format: Literal["aiac", "avs", "vsc2022_matching", "vsc2022_descriptors"] = "aiac",
    missing: Literal["error", "zeros"] = "error",
    run: dict[str, Any] | None = None,
    elapsed: int = 1,
) -> None:
    """Write the file of a challenge, and ``submission.json`` (what it holds).

    Args:
        split: what to submit: its references, its queries, or both, as the format asks.
        results: of ``embed`` or ``combine`` (format ``aiac``), ``search`` over the split (``avs``), ``align``
            (``vsc2022_matching``), or of ``extract``, one per shard (``vsc2022_descriptors``).
        expert, noise: for format ``vsc2022_descriptors``: with ``{split, beta, drop}`` scores are normalised by the
            references of that split.
        missing: what becomes of a video without an embedding (its file cannot be read) in format ``aiac``: ``error``,
            or ``zeros``, since the challenge wants every id. The cosine of zeros is 0 with anything.
        run, elapsed: for format ``avs``: ``specs.reports.AVS_RUN``, and whole seconds that a query took.
    """
    if format == "aiac":
        about = submission_aiac.submit(corpus, output, split, results[0] / member, missing)
    elif format == "avs":
        about = submission_avs.submit(corpus, output, split, results[0] / member, run or {}, elapsed)
    elif format == "vsc2022_matching":
        about = submission_vsc2022.submit_matching(corpus, output, split, results[0])
    else:
        about = submission_vsc2022.submit_descriptors(corpus, output, split, results, expert, noise)
    log.info("%s: %s", format, {name: value for name, value in about.items() if name != "zeros"})
    about = {"format": format, "split": split, "member": member} | about
    files.write_json(output / "submission.json", about)
