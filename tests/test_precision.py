"""Matrix products of bfloat16 on a CPU, filled up to shapes that recur; and what a card computes in another way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from videomatch.common.precision import autocast, running_sum
from videomatch.localisation.corners import bilinear
from videomatch.models._packed import encode

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


@pytest.mark.parametrize("some_keys", [False, True])
@pytest.mark.parametrize("some_wanted", [False, True])
def test_an_encoder_of_rows_that_are_filled_up_is_that_of_float32(some_keys, some_wanted):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
    layers = nn.ModuleList(BertLayer(BertConfig(**sizes)) for _ in range(2)).eval()
    present = torch.arange(9) < torch.tensor([[4], [9], [1]])
    keys, wanted = (torch.arange(9) % n == 0 for n in (2, 3))
    given = {"keys": keys & present} if some_keys else {}
    given |= {"wanted": wanted & present} if some_wanted else {}
    rows, weights = torch.randn(int(present.sum()), 32, requires_grad=True), torch.randn(32)
    found = {}
    for bf16 in (False, True):
        rows.grad = None
        layers.zero_grad()
        with autocast(CPU, bf16=bf16):
            states = encode(list(layers), rows, present, **given)
        (states.float() @ weights).sum().backward()
        assert len(states) == int((wanted & present if some_wanted else present).sum())
        found[bf16] = (states.float(), rows.grad, layers[0].output.dense.weight.grad)
    for exact, near in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(near, exact, rtol=0.05, atol=0.05 * float(exact.abs().max()))


def with_gradients(function, *inputs):
    """What a function returns, and the gradients of its squares."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    found = function(*inputs)
    found.square().sum().backward()
    return [found.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_a_card_sums_by_products_as_a_cpu_does(dim):
    x = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    both = (with_gradients(lambda x, m=m: running_sum(x, dim, multiplies=m), x) for m in (False, True))
    for plain, product in zip(*both, strict=True):
        torch.testing.assert_close(product, plain)


def test_a_card_samples_by_gathering_as_a_cpu_does():
    random = torch.Generator().manual_seed(0)
    fine = torch.randn(2, 3, 5, 7, generator=random, dtype=torch.float64)
    points = torch.rand(2, 4, 9, 2, generator=random, dtype=torch.float64) * 24 - 5  # of 14 x 10 frames: also beyond
    both = (with_gradients(lambda *given, g=g: bilinear(*given, gathers=g), fine, points) for g in (False, True))
    for sampled, gathered in zip(*both, strict=True):
        torch.testing.assert_close(gathered, sampled)
    assert not bilinear(fine, torch.full((2, 1, 1, 2), -3.0, dtype=torch.float64), gathers=True).any()
