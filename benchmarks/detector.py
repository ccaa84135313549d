"""The segment detector against the four aligners, all tuned: ``python benchmarks/detector.py``.

Two trials, both with the same maps for all systems:

``synthetic``  maps of :mod:`localisation.synthetic_maps`; the detector is trained on others of them.
``generated``  videos and edited copies of the synthetic corpus, drawn without files at 64 pixels; frames are described
    by a copy descriptor that has seen the training side's library and edits of its own, never a copy. Sources and
    copies of validation and test show other videos than those of training. The detector once as it comes from
    synthetic maps, and once finetuned on the pairs of ``copies_train`` as well.

Aligners are tuned with their grid ``ours`` and the detector's with its own, by F1 on the validation part. Prints F1,
precision, recall (VCSL's overall, %), FRR and FAR, and the CPU time of a map (medians): of all on the same
synthetic maps of 128 x 128, and of the detector on other sizes. A detector that has not trained finds nothing, which
takes less time: train it, or take one that was trained before (``--maps 0 --run FOLDER``). One thread; some four
minutes of CPU with the options as they are; ``--full`` trains and tests on more.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from _claims import claim
from _clips import regular
from videomatch import aligners
from videomatch.common import named
from videomatch.data import tables
from videomatch.data.store import Store, StoreWriter
from videomatch.examples import Source
from videomatch.examples.edited_views import EditedViews
from videomatch.examples.similarity_map import SimilarityMap
from videomatch.localisation import synthetic_maps
from videomatch.metrics import segments
from videomatch.models import copy_descriptor, segment_detector
from videomatch.stages.align import align
from videomatch.stages.evaluate import segment_metrics
from videomatch.stages.tune import combined, tune
from videomatch.synthetic import annotations, copies, pictures, video
from videomatch.synthetic.latent import library_latent
from videomatch.synthetic.options import SyntheticOptions
from videomatch.training.loop import Trainer, Training
from videomatch.training.objective import configured

RATE, SIZE, SEED = 4.0, 64, 0
LOSSES: dict[str, Any] = {
    "segment_focal": {},
    "segment_giou": {},
    "segment_corners": {"weight": 0.3},
    "segment_line": {},
}
log = logging.getLogger("benchmark")


def trained(model: Any, examples: Any, losses: dict[str, Any], **options: Any) -> Any:
    """A model after training, in evaluation mode."""
    settings = Training(precision="fp32", validate_every=0, **options)
    Trainer(model, configured(losses), settings, seed=SEED).fit(examples)
    return model.eval()


def saved(model: Any, folder: Path) -> Path:
    """A detector as ``train`` leaves it."""
    model.save_pretrained(folder)
    (folder / "system.yaml").write_text(yaml.safe_dump({"model": {"name": "segment_detector"}}))
    return folder


def milliseconds(function: Any, maps: list[np.ndarray], repeats: int = 5) -> list[float]:
    """CPU time of each map, the median of some calls."""
    function(maps[0])
    found = []
    for values in maps:
        spent = []
        for _ in range(repeats):
            start = time.process_time()
            function(values)
            spent.append(time.process_time() - start)
        found.append(1000 * float(np.median(spent)))
    return found


def square(side: int, count: int) -> list[np.ndarray]:
    """Synthetic maps of so many frames on both sides."""
    rng, found = np.random.default_rng([SEED, 9]), []
    while len(found) < count:  # edits may leave a shorter query
        values = synthetic_maps.drawn(rng, shortest=side + 1, longest=side + 1)[0][:side, :side]
        if values.shape == (side, side):
            found.append(np.ascontiguousarray(values))
    return found


def speed(detector: Any, names: list[str]) -> None:
    """CPU time of a map of all aligners, one thread."""
    maps = square(128, 40)
    todo = {name: aligners.load(name).align for name in names} | {"detector": detector.align}
    for name, function in todo.items():
        spent = milliseconds(function, maps)
        log.info("  %-28s 128 x 128: %6.1f ms, at most %6.1f", name, np.median(spent), max(spent))
    for side in (64, 300, 1000):
        spent = milliseconds(detector.align, square(side, 5))
        log.info("  %-28s %d x %d: %6.1f ms", "detector", side, side, np.median(spent))


def claim_best(what: str, scores: dict[str, float], mine: str) -> None:
    """F1 (%) of a detector beside that of the best of the aligners."""
    best = max((name for name in scores if not name.startswith("detector")), key=lambda name: scores[name])
    claim(f"{what}: F1 of the {mine}", [100 * scores[mine]], "%", peer=(best, [100 * scores[best]]), more=True)


def report(name: str, scores: dict[str, float], more: str = "") -> float:
    """One line of results; F1."""
    values = " ".join(f"{key} {100 * scores[key]:5.1f}" for key in ("F1", "precision", "recall", "FRR", "FAR"))
    log.info("  %-28s %s %s", name, values, more)
    return scores["F1"]


def synthetic(detector: Any, count: int, names: list[str]) -> None:
    """All aligners on synthetic maps."""
    rng = np.random.default_rng([SEED, 7])
    maps = [synthetic_maps.drawn(rng) for _ in range(count + count // 2)]
    val, test = maps[: count // 2], maps[count // 2 :]
    todo = {name: aligners.load(name) for name in names} | {"detector": detector}
    found: dict[str, float] = {}
    for name, aligner in todo.items():
        tried = []
        for options in combined(aligner.GRIDS["ours"]):
            pairs = [(aligner.align(values, **options), boxes) for values, boxes in val]
            tried.append((segments.overall(segments.per_pair(pairs))["F1"], options))
        best = max(tried, key=lambda one: one[0])[1]
        start = time.process_time()
        pairs = [(aligner.align(values, **best), boxes) for values, boxes in test]
        spent = (time.process_time() - start) / len(test)
        found[name] = report(name, segments.overall(segments.per_pair(pairs)), f"{1000 * spent:6.1f} ms a map  {best}")
    claim_best(f"segments in {count} synthetic maps", found, "detector")


def synthetic_corpus(root: Path, videos: int) -> tuple[Path, Path]:
    """Corpus and frames of a synthetic corpus."""
    options = SyntheticOptions(videos=videos, size=SIZE, copies=0.5, silent=0.9, speech=False)
    rows = annotations.annotate(seed=SEED, shards=1, options=options)
    for name in ("splits", "relevance", "segments"):
        tables.write(name, rows[name], root / "corpus")
    with StoreWriter(root / "features/frames", shape=(SIZE, SIZE, 3), dtype="uint8", times=True) as writer:
        for index in range(options.num_library):
            latent = library_latent(SEED, index, options)
            moments = (np.arange(int(latent.duration * RATE)) + 0.5) / RATE
            frames = [pictures.frame(latent, float(moment), SIZE, SIZE) for moment in moments]
            writer.add(video.library_id(index), np.array(frames), times=regular(len(frames), RATE))
        for index in range(options.num_queries):
            copy = copies.copy_of(SEED, index, options)
            latents = {s.source: library_latent(SEED, s.source, options) for s in copy.segments}
            moments = (np.arange(int(copy.duration * RATE)) + 0.5) / RATE
            frames = [copies.query_frame(copy, latents, float(moment), SIZE, SIZE) for moment in moments]
            writer.add(video.query_id(index), np.array(frames), times=regular(len(frames), RATE))
    return root / "corpus", root / "features"


def described(corpus: Path, features: Path, epochs: int) -> None:
    """The expert ``copy`` of all videos: a descriptor trained on frames of the training side's library."""
    frames = Store(features / "frames")
    examples = EditedViews(Source(corpus, frames), split="copies_train", validation=None, per_video=4).parts()[0]
    torch.manual_seed(SEED)
    model = copy_descriptor.Model(copy_descriptor.Config())
    start = time.process_time()
    trained(
        model, examples, {"info_nce_views": {}, "entropy_spread": {"weight": 0.3}}, epochs=epochs, batch=48, lr=2e-3
    )
    log.info("  descriptor: %.0f s of CPU", time.process_time() - start)
    dim = copy_descriptor.Config().hidden_sizes[-1]  # pyright: ignore[reportOptionalSubscript]
    with StoreWriter(features / "copy", shape=(dim,), dtype="float32", times=True) as writer:
        for video in frames.ids:
            with torch.inference_mode():
                rows = model(torch.from_numpy(frames[video])[:, None])["view_embeds"][:, 0].numpy()
            writer.add(video, rows, times=frames.times(video))


def generated(corpus: Path, features: Path, runs: dict[str, Path], names: list[str], work: Path) -> None:
    """All aligners on the copies of a synthetic corpus, through the stages."""
    common = {"corpus": corpus, "features": [features]}
    scores: dict[str, float] = {}
    for name, how in [(n, {"aligner": n}) for n in names] + [(n, {"run": run}) for n, run in runs.items()]:
        for folder in ("tuned", "aligned"):
            (work / folder / name).mkdir(parents=True)
        given = {**common, "similarity_map": {"expert": "copy"}, **how}
        tune(**given, output=work / "tuned" / name, split="copies_val")  # pyright: ignore[reportArgumentType]
        run = {"run": how["run"]} if "run" in how else {}
        align(**common, output=work / "aligned" / name, split="copies_test", tuned=work / "tuned" / name, **run)  # pyright: ignore[reportArgumentType]
        found = tables.read("segments", work / "aligned" / name)
        best = json.loads((work / "tuned" / name / "tuned.json").read_text())["options"]
        scores[name] = report(name, segment_metrics(corpus, "copies_test", found)[0]["overall"], str(best))
    for name in runs:
        claim_best("segments of generated copies", scores, name)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--maps", type=int, default=8000, help="synthetic maps that the detector trains on")
    parser.add_argument("--run", type=Path, help="a trained detector to begin with")
    parser.add_argument("--keep", type=Path, help="where to keep the detector")
    parser.add_argument("--test", type=int, default=120, help="synthetic maps that are tested")
    parser.add_argument("--videos", type=int, default=320, help="of the synthetic corpus")
    parser.add_argument("--epochs", type=int, default=20, help="of the descriptor")
    parser.add_argument("--full", action="store_true", help="16,000 maps to train on, 400 to test on, 600 videos")
    args = parser.parse_args()
    if args.full:
        args.maps, args.test, args.videos = 16000, 400, 600
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    log.setLevel(logging.INFO)
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    names = named.names("aligners")
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = segment_detector.Model(segment_detector.Config())
        if args.run:
            model = segment_detector.Model.from_pretrained(args.run)
        if args.maps:
            options = {"validation": None, "synthetic": args.maps, "longest": 96}
            examples = SimilarityMap(Source(work), **options).parts()[0]
            trained(model, examples, LOSSES, epochs=1, batch=32, lr=4e-3, ema=0.995)
        model.eval()
        run = saved(model, args.keep or work / "synthetic")
        size = sum(p.numel() for p in model.parameters())
        log.info("detector: %d weights, %.0f s of CPU", size, time.process_time() - begun)
        log.info("CPU time of a synthetic map, medians")
        speed(model, names)
        if args.test:
            log.info("synthetic maps, %d, tuned on %d others", args.test, args.test // 2)
            synthetic(model, args.test, names)
        if args.videos:
            log.info("synthetic corpus, %d videos", args.videos)
            corpus, features = synthetic_corpus(work, args.videos)
            described(corpus, features, args.epochs)
            real = SimilarityMap(
                Source(corpus, Store(features / "copy")),
                expert="copy", validation=None, synthetic=args.maps // 8, per_pair=3, longest=96,
            ).parts()[0]  # fmt: skip
            finer = segment_detector.Model.from_pretrained(run)
            trained(finer, real, LOSSES, epochs=2, batch=16, lr=1e-3)
            runs = {"detector, synthetic": run, "detector, finetuned": saved(finer, work / "finetuned")}
            generated(corpus, features, runs, names, work)
    log.info("%.0f s of CPU", time.process_time() - begun)


if __name__ == "__main__":
    main()
