"""Architectures, one per file: ``model: {name: clip, …}`` of a system is ``models/clip.py``.

A file has two classes:

``Config``  a ``PretrainedConfig`` whose keyword arguments are the options of the parameters, and what follows from the
            data (vocabulary, labels, dimensions, ids of tokens), which ``train`` fills from the examples.
``Model``   a ``PreTrainedModel`` and a :class:`SystemModel`. ``forward`` takes tensors of a batch by name and returns
            the tensors that objectives and metrics take, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from torch import Tensor
from transformers import AutoConfig, AutoModel


class SystemModel:
    """What a model of this package may have beyond ``forward``.

    Attributes:
        embeds_videos: it has ``embed_videos(**batch) -> (B, D)``; the batch is that of ``Examples.read_videos``.
        embeds_texts: it has ``embed_texts(**batch) -> (B, D)``; the batch is that of ``Examples.read_texts``.
        scores_pairs: it has ``encode_texts(**batch)`` and ``encode_videos(**batch)``, of the same batches, which return
            tensors by name with a row each, and ``match(texts, videos) -> (A, B)``, the scores of all pairs of these.
            One that compares words with frames also has ``best_frames(texts, videos)``, which a search shows.
        scores_frames: it has ``scorer(frames (B, L, D), mask (B, L)) -> (B, L)``, by which key frames are selected.
        detects_segments: it is an aligner (:class:`videomatch.aligners.Aligner`), with ``align`` and ``GRIDS``.
        comparison: how embeddings are compared: by their cosine, or by their inner product as they are.
    """

    embeds_videos: ClassVar[bool]
    embeds_texts: ClassVar[bool]
    scores_pairs: ClassVar[bool]
    scores_frames: ClassVar[bool] = False
    detects_segments: ClassVar[bool]
    comparison: ClassVar[Literal["cosine", "dot"]] = "cosine"

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.embeds_videos, cls.embeds_texts = hasattr(cls, "embed_videos"), hasattr(cls, "embed_texts")
        cls.scores_pairs, cls.detects_segments = hasattr(cls, "match"), hasattr(cls, "align")
        # config.json names the class that the weights belong to, and ``AutoModel`` finds it
        config = vars(cls).get("config_class")
        if config is None:
            cls.__name__ = cls.__bases__[0].__name__
            return
        cls.__name__ = config.model_type.title().replace("_", "")
        AutoConfig.register(config.model_type, config, exist_ok=True)
        AutoModel.register(config, cls, exist_ok=True)

    def initialise(self) -> None:
        """Replace fresh weights by those that training starts from, like a pretrained encoder's."""

    def fit_statistics(self, sample: Callable[[], Mapping[str, Tensor]]) -> None:
        """Set weights or buffers by statistics of the training examples; ``sample`` returns a batch of them."""

    def processor(self) -> Any:
        """The processor of transformers that prepares images or sound for this model; saved beside the weights."""
        return None
