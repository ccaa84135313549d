"""Matrix products of bfloat16 on a CPU, filled up to shapes that recur."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videomatch.common.precision import autocast

CPU = torch.device("cpu")


@pytest.mark.parametrize("rows", [1, 63, 64, 70])
def test_rows_that_fill_up_change_neither_results_nor_gradients(rows):
    torch.manual_seed(0)
    layer, x = nn.Linear(32, 24), torch.randn(rows, 32, requires_grad=True)
    found = {}
    for bf16 in (False, True):
        layer.zero_grad()
        x.grad = None
        with autocast(CPU, bf16=bf16):
            result = layer(x)
        assert result.dtype == (torch.bfloat16 if bf16 else torch.float32)
        result.float().square().sum().backward()
        found[bf16] = (result.float(), x.grad, layer.weight.grad, layer.bias.grad)
    for exact, near in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(near, exact, rtol=0.03, atol=0.03 * float(exact.abs().max()))


def test_attention_under_bf16_is_that_of_float32():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 9, 8)
    mask = torch.arange(9)[None] < 7
    with autocast(CPU, bf16=True):
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert torch.equal(found, F.scaled_dot_product_attention(query, key, value, attn_mask=mask))
