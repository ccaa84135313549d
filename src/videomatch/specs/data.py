"""Data sets, backbones and experts: what features are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videomatch.specs import fields


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """``datasets.<name>``: videos and their annotations.

    Attributes:
        corpus: file of ``corpora/`` that reads them.
        raw: where the files are; a generated corpus has none.
        seed: of a generated corpus; the seed of all by default.
        shards: into how many parts the videos are split for extraction.
        experts: whose features are extracted.
        options: of the corpus.
        unlabelled: protocols whose labels are not published; tables leave them out.
        embed: splits whose videos are embedded; all videos by default.
    """

    corpus: str = fields.file("corpora", "corpus")
    raw: str | None = fields.existing(default=None)
    seed: int | None = None
    shards: int = 1
    experts: Sequence[str] = fields.section("experts", default=())
    options: Mapping[str, Any] | None = None
    unlabelled: Sequence[str] = ()
    embed: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """``backbones.<name>``: pretrained weights.

    Attributes:
        pretrained: a hub id or a folder; or else
        system: a system that is trained here.
    """

    pretrained: str | None = None
    system: str | None = fields.section("systems", trained=True, default=None)


@dataclass(frozen=True, kw_only=True)
class Expert:
    """``experts.<name>``: an extractor of features. Further options are its own.

    Attributes:
        extractor: file of ``experts/``.
        source: expert whose frames are read instead of the media.
        extraction_pass: name of the pass over the videos, where experts of different passes should share one.
        backbone, encoder: pretrained networks.
        folder, detector: local files.
    """

    extractor: str = fields.file("experts", "extractor")
    source: str | None = fields.section("experts", default=None)
    extraction_pass: str | None = None
    backbone: str | None = fields.section("backbones", default=None)
    encoder: str | None = fields.section("backbones", default=None)
    folder: str | None = fields.existing(default=None)
    detector: str | None = fields.existing(default=None)

    #: fields of every expert; the others are arguments of some extractors
    OWN = ("extractor", "source", "extraction_pass")


@dataclass(frozen=True, kw_only=True)
class KeyFrames:
    """``experts.<name>: {key_frames_of: copy, …}``: the key frames of another expert.

    Further options are those of the stage ``select_key_frames``.

    Attributes:
        key_frames_of: whose features.
        method: how they are selected; or else
        backbone: a trained scorer of frames.
    """

    key_frames_of: str = fields.section("experts")
    method: str | None = None
    backbone: str | None = fields.section("backbones", default=None)
