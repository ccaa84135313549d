"""How the frames of two videos are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Noise:
    """Score normalisation by frames of videos that are not searched.

    Attributes:
        split: protocol whose references are these videos.
        beta: weight of the bias.
        drop: leave out the dimension of least variance, so that rows keep their size.
    """

    split: str
    beta: float = 1.0
    drop: bool = True


@dataclass(frozen=True)
class SimilarityMap:
    """Options of the map ``(Q, R)`` of similarities between the frames of a query and of a reference.

    In ``params.yaml`` they stand below ``align:``. Stages take them as one argument.

    Attributes:
        expert: whose features are compared.
        similarity: ``cosine``; ``inner`` product of the rows as they are; or ``chamfer`` over rows of regions.
        bias: added to every similarity (VSC 2022: 0.5 after score normalisation).
        every: seconds between frames to which key frames are spread out; None leaves frames where they are.
        query_expert: whose features queries have, where ``expert``'s are the key frames of references.
        noise: normalise scores; None does not.
    """

    expert: str
    similarity: Literal["cosine", "inner", "chamfer"] = "cosine"
    bias: float = 0.0
    every: float | None = None
    query_expert: str | None = None
    noise: Noise | None = None

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> SimilarityMap:
        """The options out of a mapping that may hold others too, as the entry below ``align:``."""
        names = {field.name for field in dataclasses.fields(cls)}
        given = {name: value for name, value in entry.items() if name in names}
        if isinstance(given.get("noise"), Mapping):
            given["noise"] = Noise(**given["noise"])
        return cls(**given)

    def settings(self) -> dict[str, Any]:
        """The options as JSON values, those at their defaults left out; :meth:`read` takes them back."""
        values = dataclasses.asdict(self)
        return {f.name: values[f.name] for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}

    @property
    def experts(self) -> list[str]:
        """Whose features are read."""
        return [self.expert, *([self.query_expert] if self.query_expert else [])]
