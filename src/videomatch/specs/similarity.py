"""How the frames of two videos are compared."""

from dataclasses import dataclass
from typing import Literal

from videomatch.specs import Spec, option


@dataclass(frozen=True)
class Noise(Spec):
    """Score normalisation by frames of videos that are not searched: the references of the protocol ``split``. ``drop``
    leaves out the dimension of least variance, so that rows keep their size."""

    split: str
    beta: float = 1.0
    drop: bool = True


@dataclass(frozen=True)
class SimilarityMap(Spec):
    """Options (below ``align:``) of the map ``(Q, R)`` of similarities between the frames of query and reference.

    Attributes:
        expert: whose features are compared.
        similarity: ``cosine``; ``inner`` product of the rows as they are; or ``chamfer`` over rows of regions.
        bias: added to every similarity (VSC 2022: 0.5 after score normalisation).
        every: seconds between frames to which key frames are spread out; None leaves frames where they are.
        query_expert: whose features queries have, where ``expert``'s are the key frames of references.
    """

    expert: str = option(section="experts")
    similarity: Literal["cosine", "inner", "chamfer"] = "cosine"
    bias: float = 0.0
    every: float | None = None
    query_expert: str | None = option(section="experts", default=None)
    noise: Noise | None = option(spec=Noise, default=None)

    @property
    def experts(self) -> list[str]:
        """Whose features are read."""
        return [self.expert, *([self.query_expert] if self.query_expert else [])]
