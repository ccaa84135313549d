"""The seven kinds of systems: trained, embeddings of features, combined, rescored, aligning, probes, filters."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from videomatch.data.tables import VALUES
from videomatch.specs import OpenSpec, Spec, listed, option
from videomatch.specs.similarity import SimilarityMap

#: a system without embeddings has one of these keys
WITHOUT_EMBEDDINGS = {
    "rescore": "has no embeddings: it rescores another",
    "align": "has no embeddings: it aligns",
    "probe": "has no embeddings: it probes an expert",
    "filter": "has no embeddings: it filters pairs",
}
#: a filter of pairs has none of these keys
NO_FILTER = ("model", "embeddings", *(key for key in WITHOUT_EMBEDDINGS if key != "filter"), "combine")


@dataclass(frozen=True, kw_only=True)
class Folds(Spec):
    """``folds: {count: 5, only: [0]}``: cross-validation over labelled pairs; ``only`` those are trained on."""

    count: int
    only: Sequence[int] | None = None

    @property
    def numbers(self) -> list[int]:
        """The folds that are trained on."""
        return list(self.only or range(self.count))

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.count < 2:
            yield "", f"{self.count!r} is not a number of folds of at least 2"
        elif self.only is not None and not (self.only and set(self.only) <= set(range(self.count))):
            yield "only", f"{self.only!r} is not a list of folds from 0 to {self.count - 1}"


@dataclass(frozen=True, kw_only=True)
class Model(OpenSpec):
    """``model:``; further options are those of the model's ``Config``. Its weights start from the ``backbone``,
    those of its image network from ``vision``."""

    callee = "models.{name}:Config"
    name: str = option(room="models", what="model", has=("Config", "Model"))
    backbone: str | None = option(section="backbones", argument="pretrained", workflow=True, default=None)
    vision: str | None = option(section="backbones", argument="vision", workflow=True, default=None)


@dataclass(frozen=True, kw_only=True)
class Tokenizer(OpenSpec):
    """``tokenizer:`` of a hub id, a folder or a backbone; further options are those of
    :func:`videomatch.data.tokenize.tokenizer`."""

    callee = "data.tokenize:tokenizer"
    filled = ("folder",)
    pretrained: str | None = None
    backbone: str | None = option(section="backbones", workflow=True, default=None)

    @property
    def is_trained(self) -> bool:
        """Whether its vocabulary is learned from texts of the examples."""
        return self.pretrained is None and self.backbone is None


@dataclass(frozen=True, kw_only=True)
class Examples(OpenSpec):
    """``examples:``; further options are those of the kind's class."""

    callee = "examples.{kind}"
    filled = ("source",)
    kind: str = option(room="examples", what="kind of examples")
    expert: str | None = option(section="experts", argument="expert", default=None)
    experts: Sequence[str] = option(section="experts", argument="experts", default=())
    filter: str | None = option(
        section="systems", argument="filter", without=dict.fromkeys(NO_FILTER, "is no `filter:`"), default=None
    )

    @property
    def all_experts(self) -> list[str]:
        """Whose features are read."""
        return [self.expert] if self.expert else list(self.experts)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        keep = self.further.get("keep")
        if keep is not None and self.filter is None:
            yield "keep", "a share of the texts is kept by the scores of a `filter:`, and there is none"
        elif keep is not None and not 0 < keep <= 1:
            yield "keep", f"{keep!r} is not a share above 0, at most 1"


@dataclass(frozen=True, kw_only=True)
class Init(Spec):
    """``init: {from: pretrained, fresh: ['_head\\.']}``, or ``init: pretrained``: systems whose weights another starts
    from. Every weight is taken, but those that a regular expression of ``fresh`` finds by their names: these start as
    without `init`, or are left behind where the model has none (:func:`videomatch.common.checkpoint.load_weights`)."""

    from_: Sequence[str] | str = option(section="systems", trained=True, acyclic="starts from itself", default=())
    fresh: Sequence[str] = ()

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not self.from_:
            yield "from", "expected a system, or a list of systems"
        for number, pattern in enumerate(self.fresh):
            try:
                re.compile(pattern)
            except re.error as error:
                yield f"fresh.{number}", f"{pattern!r} is no regular expression: {error}"


def needs_validation(training: Mapping[str, Any]) -> bool:
    """Whether validations decide on the weights that these options of ``training:`` lead to."""
    stops, reduces = training.get("early_stop") is not None, training.get("plateau", 1.0) < 1
    return training.get("keep") == "best" or stops or reduces


@dataclass(frozen=True, kw_only=True)
class Trained(Spec):
    """A system with weights of its own.

    Attributes:
        objectives: objective -> its options, and its ``weight``.
        seeds, folds: one member each; by default the seed of all.
        init: the weights it starts from.
        nodes: machines of a cluster on which the processes of ``training`` run, equally many on each.
    """

    dataset: str = option(section="datasets", workflow=True)
    model: Model = option(spec=Model)
    examples: Examples = option(spec=Examples)
    objectives: Mapping[str, Any] | None = None
    tokenizer: Tokenizer | None = option(spec=Tokenizer, default=None)
    training: Mapping[str, Any] | None = option(callee="training.loop:Training", default=None)
    seeds: Sequence[int] | None = option(workflow=True, default=None)
    folds: Folds | None = option(spec=Folds, workflow=True, default=None)
    init: Init | None = option(spec=Init, workflow=True, default=None)
    nodes: int = option(workflow=True, default=1)

    @property
    def processes(self) -> int:
        """How many processes train it together."""
        return dict(self.training or {}).get("processes", 1)

    @property
    def backbones(self) -> list[str]:
        """The backbones whose weights and whose tokenizer it starts from."""
        parts = [self.model.backbone, self.model.vision, self.tokenizer.backbone if self.tokenizer else None]
        return sorted({backbone for backbone in parts if backbone})

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not self.objectives:
            yield "", "expected `objectives:`, at least one: nothing would be learned"
        if self.seeds is not None and not (self.seeds and all(type(seed) is int for seed in self.seeds)):
            yield "seeds", f"{self.seeds!r} is not a list of whole numbers"
        if self.nodes < 1 or self.processes % self.nodes:
            yield (
                "nodes",
                f"{self.processes} processes of `training:` cannot be shared by {self.nodes} machines equally",
            )


@dataclass(frozen=True, kw_only=True)
class Embeddings(Spec):
    """``embeddings:`` pooled frames of the expert ``features``, and texts, without training. Texts are embedded into
    the space of the features by a backbone (``text_encoder``), else in ``dim`` dimensions of their own; or texts and
    features meet in a third space (``bridge``: :mod:`videomatch.experts._conse`, for ``efficientnet_lite``). An oracle
    has ``facts`` instead: the factors of generated videos that it knows, or ``all``."""

    features: str | None = option(section="experts", default=None)
    pool: Literal["mean"] = "mean"
    texts: Sequence[str] = option(values=tuple(VALUES["texts", "kind"]), what="kind of texts", default=())
    dim: int | None = None
    text_encoder: str | None = option(section="backbones", default=None)
    bridge: Literal["conse"] | None = None
    facts: Sequence[str] | str | None = None

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.facts is not None:
            if self.settings().keys() != {"facts"} or not self.facts:
                yield "facts", "expected a list of factors, or `all`, and no other option: an oracle knows nothing else"
        elif self.features is None and not self.texts:
            yield "", "expected `features:` (an expert), `texts:` (kinds of texts), or both with a text_encoder"
        if self.text_encoder is not None and self.features is None:
            yield "text_encoder", "a text encoder needs `features:` of its own space"
        if self.bridge is not None and (self.features is None or self.text_encoder is not None):
            yield "bridge", "expected `features:` of the extractor efficientnet_lite, and no text encoder"


@dataclass(frozen=True, kw_only=True)
class Combine(Spec):
    """``combine:`` the embeddings of several systems, joined with ``weights`` (equal by default) and reduced to ``dim``
    dimensions; ``by_member`` joins members of the same name (folds, seeds), one ensemble each."""

    systems: Sequence[str] = option(
        section="systems", without=WITHOUT_EMBEDDINGS, acyclic="is made of itself", workflow=True, default=()
    )
    weights: Sequence[float] | None = option(workflow=True, default=None)
    dim: int | None = None
    by_member: bool = option(workflow=True, default=False)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not self.systems:
            yield "", "expected `systems:`, a list of at least one"
        if len(self.weights or self.systems) != len(self.systems):
            yield "weights", f"{len(self.weights or ())} weights for {len(self.systems)} systems"


@dataclass(frozen=True, kw_only=True)
class Rescore(OpenSpec):
    """``rescore:`` the scores of another system, changed by a method. Further options are the method's. The texts of
    ``frame_texts`` are compared with the frames of ``expert``; ``bank`` are protocols whose queries are a bank;
    ``reranker`` is a trained system whose scores of pairs replace those of the best."""

    callee = "retrieval.rescoring:{method}"
    system: str = option(section="systems", without=WITHOUT_EMBEDDINGS, workflow=True)
    method: str = option(functions="retrieval.rescoring", what="method")
    frame_texts: str | None = option(section="systems", without=WITHOUT_EMBEDDINGS, workflow=True, default=None)
    expert: str | None = option(section="experts", default=None)
    bank: Sequence[str] | str | None = None
    reranker: str | None = option(section="systems", trained=True, method="match", workflow=True, default=None)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if (self.method == "rerank") != (self.reranker is not None):
            yield "", "`method: rerank` and `reranker:` (a trained system that scores pairs) belong together"


@dataclass(frozen=True, kw_only=True)
class Tune(Spec):
    """``tune:`` an aligner's options on the judged pairs of protocols; ``grid`` is a name of the aligner's grids, or
    option -> values to try."""

    split: Sequence[str] | str
    grid: Mapping[str, Any] | str | None = None


@dataclass(frozen=True, kw_only=True)
class Shortlist(Spec):
    """``shortlist:`` align the ``top`` references of a query that a vote of frames finds, instead of judged pairs, with
    their frames as the index has them: compressed by ``codec`` and to ``dim`` dimensions. Queries are looked up with
    the features of ``query_expert``, by default as references are kept, in ``nprobe`` lists of the index; references
    with ``min_votes`` or less are not aligned."""

    top: int | None = None
    query_expert: str | None = option(section="experts", default=None)
    codec: str | None = None
    dim: int | None = None
    nprobe: int | None = None
    min_votes: float | None = None


@dataclass(frozen=True, kw_only=True)
class Align(SimilarityMap):
    """``align:`` the segments that two videos share, from the similarity map of their frames, by an ``aligner`` or a
    ``detector``, whose options are given or tuned. ``follow`` seeks their ends in all frames of the query."""

    aligner: str | None = option(room="aligners", what="aligner", has=("align", "GRIDS"), default=None)
    detector: str | None = option(section="systems", trained=True, workflow=True, default=None)
    options: Mapping[str, Any] | None = option(callee="aligners.{aligner}:align", default=None)
    tune: Tune | None = option(spec=Tune, workflow=True, default=None)
    score: Literal["mean", "max", "sum"] = "mean"
    follow: bool = False
    shortlist: Shortlist | None = option(spec=Shortlist, workflow=True, default=None)

    @property
    def searched(self) -> list[str]:
        """Whose features its shortlist reads."""
        return [self.expert, *listed(self.shortlist.query_expert)] if self.shortlist else []

    def settings(self) -> dict[str, Any]:
        given = super().settings()
        similarity_map = {name: given.pop(name) for name in SimilarityMap.fields() if name in given}
        return {"similarity_map": similarity_map} | given

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from self.either(aligner=" (a file of aligners/)", detector=" (a trained system)")
        if self.options is not None and self.tune is not None:
            yield "options", "options are either given or tuned (`tune:`)"
        if self.follow and self.similarity != "cosine":
            yield "follow", f"similarity {self.similarity!r}, expected 'cosine'"
        if self.shortlist is not None and self.tune is not None and not isinstance(self.tune.split, str):
            yield "tune.split", f"{self.tune.split!r}: expected one protocol, as each has an index of its own"
        if self.options is None and self.tune is None and self.aligner is not None:
            yield "", "expected `options:` of the aligner (`{}`: its own defaults), or `tune: {split: …}`"


@dataclass(frozen=True, kw_only=True)
class Probe(Spec):
    """``probe:`` how often a linear classifier tells the facts of generated videos from the features of an ``expert``.
    It reads the means of as many equal ``parts`` of the time as given, so that several tell the order of frames."""

    expert: str = option(section="experts")
    parts: int = 1

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.parts < 1:
            yield "parts", f"{self.parts!r} is not a whole number of at least 1"


@dataclass(frozen=True, kw_only=True)
class Filter(Spec):
    """``filter:`` scores of texts of some kinds against the frames of their videos, by the space that an ``expert``
    shares with a ``text_encoder``: the mean over the ``top`` frames that are most similar."""

    expert: str = option(section="experts")
    text_encoder: str = option(section="backbones", workflow=True)
    texts: Sequence[str] = option(values=tuple(VALUES["texts", "kind"]), what="kind of texts")
    top: int = 3

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not self.texts:
            yield "texts", "expected a list of kinds of texts"
        if self.top < 1:
            yield "top", f"{self.top!r} is not a whole number of at least 1"


System = Trained | Embeddings | Combine | Rescore | Align | Probe | Filter

#: the key of a system that says which kind it is -> the spec of the system (``model``) or of what is below the key
KINDS: dict[str, type[System]] = {
    "model": Trained,
    "embeddings": Embeddings,
    "combine": Combine,
    "rescore": Rescore,
    "align": Align,
    "probe": Probe,
    "filter": Filter,
}


def read_system(entry: Mapping[str, Any]) -> System:
    """The spec of a checked entry of ``systems``."""
    kind = next(kind for kind in KINDS if kind in entry)
    return KINDS[kind].read(entry if kind == "model" else entry[kind])
