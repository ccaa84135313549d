"""A tiny project, built by calling the stages: what the tests of find, similar and serve ask."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import clips
from videomatch.app.requests import load_plan
from videomatch.common import named
from videomatch.pipeline import provenance, rules, run_job
from videomatch.pipeline.plan import Plan

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
    model: {name: clip, image_size: 32, channels: [16], blocks: [1], width: 32, text_layers: 1, projection_dim: 16}
    tokenizer: {style: clip, vocab_size: 300}
    examples: {kind: frame_caption, expert: frames, split: train, validation: null}
    objectives: {clip_contrastive: {weight: 1.0}}
    training: {epochs: 1, batch: 8, precision: fp32}
  pooled: {embeddings: {features: clip, pool: mean}}
  zero_shot: {embeddings: {features: clip, text_encoder: clip, texts: [caption]}}
  unbuilt: {embeddings: {features: clip, text_encoder: clip, texts: [query]}}
  title: {embeddings: {texts: [title], dim: 8}}
  whole: {combine: {systems: [zero_shot, tiny_clip], weights: [1, 3]}}
  fine:
    dataset: mine
    model: {name: token_match, backbone: clip}
    tokenizer: {backbone: clip}
    examples: {kind: caption_video, expert: clip, split: train, validation: null, max_length: 24}
    objectives: {neg_nce: {scale: 20.0}}
    training: {epochs: 1, batch: 8, precision: fp32}
  again: {rescore: {system: zero_shot, method: rerank, reranker: fine, top: 3}}
  both: {rescore: {system: zero_shot, method: rerank, reranker: fine, top: 3, weight: 0.25}}
  everything: {rescore: {system: fine, method: rerank, reranker: fine, top: null}}
  not_made: {from: fine}
  never: {rescore: {system: zero_shot, method: rerank, reranker: not_made}}
  rescored: {rescore: {system: zero_shot, method: dual_softmax}}
  aligned: {align: {expert: clip, aligner: dtw, options: {}}}
  projected: {combine: {systems: [title, pooled], dim: 6}}
"""
BUILT = ("tiny_clip", "pooled", "zero_shot", "title", "fine", "whole", "projected")


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
    features = {passage: plan.result("features", "mine", passage, "0") for passage in plan.passes("mine")}
    of_clip = features.pop("clip")
    embeddings = [plan.result("embeddings", "mine", system) for system in BUILT]
    for result in [
        plan.result("corpora", "mine"),
        *features.values(),
        plan.run("tiny_clip"),
        of_clip,
        plan.run("fine"),
        *embeddings,
    ]:
        job = rules.job_of(plan, result)
        made(result, job.stage, job.settings | ({"queries": None} if job.stage == "embed" else {}), job.inputs)
    return plan


def name(number: int) -> str:
    """A video's id."""
    return f"deep/clip {number}.mp4" if number == 1 else f"clip{number}.mp4"


def made(result: str, stage: str, settings: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Make one result by calling its stage."""
    folder, scratch = Path(result).parent, Path("scratch")
    folder.mkdir(parents=True)
    function = vars(named.module("stages", stage))[stage]
    function(**run_job.arguments(function, {"settings": settings, "inputs": inputs}, folder, scratch, 1))
    shutil.rmtree(scratch, ignore_errors=True)
    provenance.seal(folder, {})
