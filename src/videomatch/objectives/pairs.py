"""Cosines of judged pairs against their grades."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from videomatch.common.distributed import all_gather
from videomatch.common.precision import at_least_single


def cosine_mse(similarity: Float[Tensor, " pairs"], grade: Float[Tensor, " pairs"]) -> Float[Tensor, ""]:  # pyright: ignore[reportUndefinedVariable]
    """Mean squared difference of cosine and grade (the winners of AIAC 2021, track 1)."""
    found = at_least_single(similarity)
    return F.mse_loss(found, grade.to(found.dtype))


def pearson(
    similarity: Float[Tensor, " pairs"],  # pyright: ignore[reportUndefinedVariable]
    grade: Float[Tensor, " pairs"],  # pyright: ignore[reportUndefinedVariable]
    *,
    temperature: float = 0.2,
) -> Float[Tensor, ""]:
    """One minus Pearson's correlation of grades with the softmax, over the batch, of cosine / temperature; 0 to 2.

    Source: a note on the winners of AIAC 2021, track 1 ("LBPC": "Pearson on softmax(cos / 0.2)"). It leaves open what
    else is transformed; here the grades are not, and the correlation is over the pairs of the batch (of all processes).
    The softmax's normaliser cancels out: the objective is that exp(cosine / temperature) is linear in the grade. Where
    either side is constant the correlation counts as 0. With a small temperature the most similar pairs count most.
    """
    found = all_gather(at_least_single(similarity))
    found = (found / temperature).softmax(0)
    wanted = all_gather(grade.to(found.dtype))
    found, wanted = found - found.mean(), wanted - wanted.mean()
    return 1 - (F.normalize(found, dim=0) * F.normalize(wanted, dim=0)).sum()
