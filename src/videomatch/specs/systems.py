"""The five kinds of systems: trained, embeddings of features as they are, combined, rescored, aligning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from videomatch.data.tables import VALUES
from videomatch.specs import fields
from videomatch.specs.similarity import Noise, SimilarityMap


@dataclass(frozen=True, kw_only=True)
class Folds:
    """``folds: {count: 5, only: [0]}``, or ``folds: 5``: cross-validation over labelled pairs.

    Attributes:
        count: number of folds.
        only: those that are trained on; all by default.
    """

    count: int
    only: Sequence[int] | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """``model:``; further options are those of the model's ``Config``.

    Attributes:
        name: file of ``models/``.
        backbone: weights to start from, where the ``Config`` has ``pretrained``.
    """

    name: str = fields.file("models", "model")
    backbone: str | None = fields.section("backbones", default=None)

    #: fields of every model that can start from pretrained weights
    OWN = ("name", "backbone")


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """``tokenizer:``; further options are those of :func:`videomatch.data.tokenize.tokenizer`.

    Attributes:
        pretrained: a hub id or a folder.
        backbone: the backbone that it belongs to.
    """

    pretrained: str | None = None
    backbone: str | None = fields.section("backbones", default=None)


@dataclass(frozen=True, kw_only=True)
class Examples:
    """``examples:``; further options are those of the kind's class.

    Attributes:
        kind: file of ``examples/``.
        expert, experts: whose features are read.
    """

    kind: str = fields.file("examples", "kind of examples")
    expert: str | None = fields.section("experts", default=None)
    experts: Sequence[str] = fields.section("experts", default=())


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A system with weights of its own.

    Attributes:
        dataset: what it is trained on.
        model: its architecture (:class:`Model`).
        examples: what one training example is (:class:`Examples`).
        objectives: objective -> its options, and its ``weight``.
        tokenizer: of its texts (:class:`Tokenizer`).
        training: options of the loop.
        seeds: one member each; the seed of all by default.
        folds: one member each (:class:`Folds`).
        init: systems whose weights it starts from.
    """

    dataset: str = fields.section("datasets")
    model: Mapping[str, Any]
    examples: Mapping[str, Any]
    objectives: Mapping[str, Any] | None = None
    tokenizer: Mapping[str, Any] | None = None
    training: Mapping[str, Any] | None = None
    seeds: Sequence[int] | None = None
    folds: Mapping[str, Any] | int | None = None
    init: Sequence[str] | str | None = fields.section("systems", trained=True, default=None)


@dataclass(frozen=True, kw_only=True)
class Embeddings:
    """``embeddings:`` features and texts as they are, without training.

    Attributes:
        features: expert whose frames are pooled.
        pool: how.
        texts: kinds of texts of the corpus.
        dim: length of vectors of texts without an encoder.
        text_encoder: backbone that embeds texts into the space of the features.
    """

    features: str | None = fields.section("experts", default=None)
    pool: str = fields.one_of("pooling", "mean", default="mean")
    texts: Sequence[str] = fields.one_of("kind of texts", *VALUES["texts", "kind"], default=())
    dim: int | None = None
    text_encoder: str | None = fields.section("backbones", default=None)


@dataclass(frozen=True, kw_only=True)
class Combine:
    """``combine:`` the embeddings of several systems, joined.

    Attributes:
        systems: their names.
        weights: one each; equal by default.
        dim: length to reduce the joined vectors to.
        by_member: join members of the same name (folds, seeds), one ensemble each.
    """

    systems: Sequence[str] = fields.section("systems", default=())
    weights: Sequence[float] | None = None
    dim: int | None = None
    by_member: bool = False


@dataclass(frozen=True, kw_only=True)
class Rescore:
    """``rescore:`` the scores of another system, changed by a method. Further options are the method's.

    Attributes:
        system: whose embeddings.
        method: function of the stage ``search``.
        frame_texts: system whose texts are compared with frames.
        expert: the frames.
        bank: protocols whose queries are a bank.
    """

    system: str = fields.section("systems")
    method: str
    frame_texts: str | None = fields.section("systems", default=None)
    expert: str | None = fields.section("experts", default=None)
    bank: Sequence[str] | str | None = None


@dataclass(frozen=True, kw_only=True)
class Tune:
    """``tune:`` of an aligner's options.

    Attributes:
        split: protocols whose judged pairs it is tuned on.
        grid: a name of the aligner's grids, or option -> values to try.
    """

    split: Sequence[str] | str
    grid: Mapping[str, Any] | str | None = None

    def settings(self) -> dict[str, Any]:
        """What is given, as JSON values."""
        return {name: value for name, value in vars(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Shortlist:
    """``shortlist:`` align the references that a vote of frames finds, instead of the judged pairs.

    Attributes:
        top: references per query.
        codec, dim: how frames are compressed in the index.
    """

    top: int | None = None
    codec: str | None = None
    dim: int | None = None


@dataclass(frozen=True, kw_only=True)
class Align(SimilarityMap):
    """``align:`` the segments that two videos share, from the similarity map of their frames.

    Attributes:
        aligner: file of ``aligners/``; or else
        detector: a trained system.
        options: of either; or else
        tune: on which pairs they are tuned.
        score: of a segment: ``mean`` or ``max``.
        shortlist: of pairs.
    """

    expert: str = fields.section("experts")
    query_expert: str | None = fields.section("experts", default=None)
    noise: Noise | None = fields.part(Noise)  # noqa: RUF009 (it is a dataclass field)
    aligner: str | None = fields.file("aligners", "aligner", default=None)
    detector: str | None = fields.section("systems", trained=True, default=None)
    options: Mapping[str, Any] | None = None
    tune: Mapping[str, Any] | None = fields.part(Tune)
    score: str = fields.one_of("score", "mean", "max", default="mean")
    shortlist: Mapping[str, Any] | None = fields.part(Shortlist)


#: the key of a system that says which kind it is -> the spec of the system (``model``) or of what is below the key
KINDS = {"model": Trained, "embeddings": Embeddings, "combine": Combine, "rescore": Rescore, "align": Align}
