"""A tiny project, built by calling the stages: what the tests of find, similar and serve ask."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import clips
from videomatch.app.config import load_plan
from videomatch.pipeline import jobs, provenance
from videomatch.pipeline.plan import Plan
from videomatch.specs.systems import Combine
from videomatch.stages.combine import combine
from videomatch.stages.embed import embed
from videomatch.stages.extract import extract
from videomatch.stages.prepare import prepare
from videomatch.stages.train import train

NASTY = '<script>alert("1")</script>&'
WORDS = ("alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel")
COUNT = len(WORDS)
PARAMS = """
scale: tiny
seed: 0
datasets:
  mine: {corpus: folder, raw: raw, experts: [frames, clip]}
backbones:
  clip: {system: tiny_clip}
experts:
  frames: {extractor: frames, every: 0.5, size: 32}
  clip: {extractor: image, backbone: clip, source: frames}
systems:
  tiny_clip:
    dataset: mine
    model: {name: clip, image_size: 32, patch_size: 16, width: 64, vision_layers: 1, text_layers: 1, projection_dim: 16}
    tokenizer: {style: clip, vocab_size: 300}
    examples: {kind: frame_caption, expert: frames, split: train, validation: null}
    objectives: {clip_contrastive: {weight: 1.0}}
    training: {epochs: 1, batch: 8, precision: fp32}
  pooled: {embeddings: {features: clip, pool: mean}}
  zero_shot: {embeddings: {features: clip, text_encoder: clip, texts: [caption]}}
  unbuilt: {embeddings: {features: clip, text_encoder: clip, texts: [query]}}
  title: {embeddings: {texts: [title], dim: 8}}
  whole: {combine: {systems: [zero_shot, tiny_clip], weights: [1, 3]}}
  rescored: {rescore: {system: zero_shot, method: dual_softmax}}
  aligned: {align: {expert: clip, aligner: dtw, options: {}}}
  projected: {combine: {systems: [title, pooled], dim: 6}}
"""
BUILT = ("tiny_clip", "pooled", "zero_shot", "title", "whole", "projected")


def built(folder: Path) -> Plan:
    """Write the project into a folder, which becomes the working folder; its plan."""
    os.chdir(folder)
    raw = folder / "raw"
    (raw / "deep").mkdir(parents=True)
    rows = ["path,title,captions,split"]
    for n in range(COUNT):
        # the numbers in the pictures go on from video to video, so that no two look alike
        clips.write(raw / name(n), range(30 + 6 * n))
        title = NASTY if n == 0 else f"film {WORDS[n]} number {n % 3}"
        rows.append('{},"{}",a {} film|{} bars,train'.format(name(n), title.replace('"', '""'), n, "xyz"[n % 3]))
    (raw / "videos.csv").write_text("\n".join(rows) + "\n")
    (folder / "params.yaml").write_text(PARAMS)
    plan = load_plan()
    corpus = made(plan.corpus("mine"), prepare, **jobs.prepare(plan, "mine").settings)
    for passage, experts in sorted(plan.passes("mine").items(), key=lambda item: item[0] == "clip"):
        if passage == "clip":
            features = [Path(m).parent for m in plan.features("mine", "frames")]
            run = made(
                plan.run("tiny_clip"), train, corpus=corpus, features=features, scratch=folder, threads=1,
                **jobs.train(plan, "tiny_clip", "seed0").settings,
            )  # fmt: skip
        job = jobs.extract(plan, "mine", passage, "0")
        made(
            plan.features("mine", next(iter(experts)))[0],
            extract,
            corpus=corpus,
            features=[Path(m).parent for m in job.inputs["features"]],
            runs=[Path(m).parent for m in job.inputs["runs"]],
            **job.settings,
        )
    for system in BUILT:
        manifest = plan.embedding("mine", system)
        if isinstance(plan.systems[system], Combine):
            job = jobs.combine(plan, "mine", system)
            made(manifest, combine, embeddings=[Path(m).parent for m in job.inputs["embeddings"]], **job.settings)
        else:
            job = jobs.embed(plan, "mine", system)
            features = [Path(m).parent for m in job.inputs["features"]]
            settings = job.settings | {"queries": None}
            made(
                manifest, embed, corpus=corpus, features=features, threads=1, run=[run] * bool(job.inputs["run"]),
                **settings,
            )  # fmt: skip
    return plan


def name(number: int) -> str:
    """A video's id."""
    return f"deep/clip {number}.mp4" if number == 1 else f"clip{number}.mp4"


def made(manifest: str, stage: Callable[..., None], **arguments: Any) -> Path:
    """The folder of a result that a stage has made."""
    folder = Path(manifest).parent
    folder.mkdir(parents=True)
    stage(output=folder, **arguments)
    provenance.seal(folder, {})
    return folder
