"""The GRU over packed sequences against PyTorch's own."""

import pytest
import torch
from torch import nn
from torch.nn.utils import rnn

from videomatch.common import precision
from videomatch.models._recurrent import gru_states


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)]
)
def test_states_and_gradients_are_those_of_torch(dtype, tolerance):
    """Of 150 sequences, of which fewer and fewer go on: more than a product of bfloat16 is filled up to, and not a
    multiple of it."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 9, (150,), generator=generator)
    torch.manual_seed(0)
    gru = nn.GRU(6, 10, batch_first=True, bidirectional=True)
    gru = gru.double() if dtype == torch.float64 else gru
    of_gru = next(gru.parameters()).dtype
    frames = torch.randn(150, 8, 6, generator=generator, dtype=of_gru, requires_grad=True)
    packed = rnn.pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
    weights = torch.randn(len(packed.data), 20, generator=generator, dtype=of_gru)
    given = [frames, *gru.parameters()]
    wanted = gru(packed)[0]
    gradients = torch.autograd.grad((wanted.data * weights).sum(), given, retain_graph=True)
    with precision.autocast(torch.device("cpu"), bf16=dtype == torch.bfloat16):
        found = gru_states(gru, packed)
    assert (found.data - wanted.data).norm() <= tolerance * wanted.data.norm()
    assert torch.equal(found.unsorted_indices, wanted.unsorted_indices)
    for value, of_torch in zip(torch.autograd.grad((found.data * weights).sum(), given), gradients, strict=True):
        assert value.dtype == of_gru
        assert (value - of_torch).norm() <= tolerance * of_torch.norm()
