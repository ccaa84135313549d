"""Data sets, backbones and experts: what features are made from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from videomatch.specs import OpenSpec, Spec, listed, option
from videomatch.specs.reports import Row


@dataclass(frozen=True, kw_only=True)
class Dataset(Spec):
    """``datasets.<name>``: videos and their annotations.

    Attributes:
        raw: where the files are; a generated corpus has none.
        seed: of a generated corpus; the seed of all by default.
        shards: into how many parts the videos are split for extraction.
        unlabelled: protocols whose labels are not published; tables leave them out.
        embed: splits whose videos are embedded; all videos by default.
        exact_up_to: references beyond which queries without judged pairs are looked up in inverted lists, whose recall
            is measured; by default every search compares all.
        oracles: rows of all tables on this data set whose systems are of its kind.
    """

    corpus: str = option(room="corpora", what="corpus", has=("read",))
    raw: str | None = option(path=bool, default=None)
    seed: int | None = None
    shards: int = 1
    experts: Sequence[str] = option(section="experts", default=())
    options: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: Sequence[str] = ()
    embed: Sequence[str] = ()
    exact_up_to: int | None = None
    oracles: Sequence[Mapping[str, Any]] = option(spec=Row, default=())

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.shards < 1:
            yield "shards", f"{self.shards!r} is not a whole number of at least 1"
        if self.exact_up_to is not None and self.exact_up_to < 1:
            yield "exact_up_to", f"{self.exact_up_to!r} is not a whole number of at least 1"


def is_path(pretrained: str) -> bool:
    """Whether a name of pretrained weights is that of a folder or file, wherever it is, and not a hub id."""
    return pretrained.startswith((".", "/", "~")) or pretrained.count("/") > 1 or Path(pretrained).exists()


@dataclass(frozen=True, kw_only=True)
class Backbone(Spec):
    """``backbones.<name>``: pretrained weights, or a system that is trained here."""

    pretrained: str | None = option(path=is_path, default=None)
    system: str | None = option(section="systems", trained=True, default=None)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from self.either(pretrained=" (a hub id, a folder or a TorchScript file)", system=" (trained here)")


@dataclass(frozen=True, kw_only=True)
class Expert(OpenSpec):
    """``experts.<name>``: an extractor of features. Further options are its own. Instead of the media it may read the
    frames of another expert, its ``source``."""

    callee = "experts.{extractor}:Expert"
    extractor: str = option(room="experts", what="extractor", has=("Expert",))
    source: str | None = option(
        section="experts",
        without=dict.fromkeys(("source", "key_frames_of"), "reads another's frames itself"),
        default=None,
    )
    backbone: str | None = option(section="backbones", argument="backbone", default=None)
    encoder: str | None = option(section="backbones", argument="encoder", default=None)
    folder: str | None = option(path=bool, argument="folder", default=None)

    @property
    def backbones(self) -> list[str]:
        """The backbones that it needs."""
        return listed(self.backbone) + listed(self.encoder)

    @property
    def comes_with_corpus(self) -> bool:
        """Whether the features are released with the data set, and read by its corpus."""
        return self.extractor == "released" and "format" not in self.further

    @property
    def reads_corpus(self) -> str | None:
        """What it takes of the corpus beside the videos: transcripts or facts."""
        return {"speech": "transcripts", "facts": "facts"}.get(self.extractor)

    @property
    def recognises(self) -> str | None:
        """The kind of texts that it reads in the media."""
        return {"ocr": "ocr", "speech": "asr" if self.backbone else None}.get(self.extractor)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        every = self.further.get("every")
        if every is not None and every <= 0:
            yield "every", f"{every!r} is not a number of seconds above 0"


@dataclass(frozen=True, kw_only=True)
class KeyFrames(OpenSpec):
    """``experts.<name>: {key_frames_of: copy, …}``: the key frames of another expert, by a method or a trained scorer
    of frames. Further options are those of the stage ``select_key_frames``."""

    callee = "stages.select_key_frames:select_key_frames"
    filled = ("features", "output", "expert", "name", "run", "threads")
    key_frames_of: str = option(section="experts", without={"key_frames_of": "is key frames itself"}, workflow=True)
    method: str | None = None
    backbone: str | None = option(section="backbones", workflow=True, default=None)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from self.either(method="", backbone=" (a trained scorer of frames)")
