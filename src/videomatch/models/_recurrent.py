"""A bidirectional GRU over packed sequences, whose weights' gradients are one product of matrices each.

PyTorch's own on a CPU adds to them at every moment, which took most of a training step (128 clips of 20 to 60 frames,
512 to 1,024 in both directions, one thread: 3.2 s forward and backward for 1.9 here, in bfloat16 2.1 for 0.8). On a
card cuDNN computes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import rnn

from videomatch.common.precision import ROWS, at_least_single


def gru_states(gru: nn.GRU, packed: rnn.PackedSequence) -> rnn.PackedSequence:
    """The outputs ``(n, 2 hidden)`` of a bidirectional GRU of one layer, packed alike."""
    if packed.data.device.type != "cpu":
        return gru(packed)[0]
    sizes, weights = packed.batch_sizes.tolist(), dict(gru.named_parameters())
    states = []
    for suffix in ("_l0", "_l0_reverse"):
        inputs = F.linear(packed.data, weights[f"weight_ih{suffix}"], weights[f"bias_ih{suffix}"])
        recurrent = weights[f"weight_hh{suffix}"], weights[f"bias_hh{suffix}"]
        states.append(_Direction.apply(at_least_single(inputs), *recurrent, sizes, bool(states)))
    order = packed.sorted_indices, packed.unsorted_indices
    return rnn.PackedSequence(torch.cat(states, dim=1), packed.batch_sizes, *order)


class _Direction(torch.autograd.Function):
    """The states ``(n, hidden)``, from what the gates ``r, z, n`` read of the inputs ``(n, 3 hidden)``. ``sizes`` tells
    how many sequences there are at each moment, the longest first; ``is_reversed``: from the last moment to the first.

    At a moment (Cho et al. 2014, arXiv:1406.1078, as PyTorch has it), with ``u`` = recurrent weights times last state::

        r, z = sigmoid(inputs + u)      n = tanh(inputs + r * u)      state = (1 - z) * n + z * last state

    Products are of bfloat16 within autocast, over a multiple of :data:`ROWS` rows, so that shapes recur.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Float[Tensor, "n gates"],
        weight: Float[Tensor, "gates hidden"],
        bias: Float[Tensor, " gates"],
        sizes: Sequence[int],
        is_reversed: bool,
    ) -> Float[Tensor, "n hidden"]:
        hidden, steps = weight.shape[1], _moments(sizes, is_reversed)
        low = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else inputs.dtype
        weight, given = weight.to(low), weight.dtype
        last = inputs.new_zeros(_filled(sizes[0], low), hidden)
        read = last.to(low)  # what products read: the same, or rounded
        before = inputs.new_empty(len(inputs), hidden, dtype=low)
        reset_update = torch.empty_like(inputs[:, : 2 * hidden])
        new, candidate, states = (torch.empty_like(before, dtype=inputs.dtype) for _ in range(3))
        for at, count in steps:
            before[at] = read[:count]
            product = (read[: _filled(count, low)] @ weight.t())[:count] + bias
            gates = torch.add(inputs[at, : 2 * hidden], product[:, : 2 * hidden], out=reset_update[at]).sigmoid_()
            candidate[at] = product[:, 2 * hidden :]
            torch.addcmul(inputs[at, 2 * hidden :], gates[:, :hidden], candidate[at], out=new[at]).tanh_()
            torch.lerp(new[at], last[:count], gates[:, hidden:], out=states[at])
            last[:count] = states[at]
            read[:count] = states[at]
        ctx.save_for_backward(weight, before, reset_update, new, candidate)
        ctx.steps, ctx.given, ctx.most = steps, given, len(last)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (given,), (weight, before, reset_update, new, candidate) = grad_outputs, ctx.saved_tensors
        hidden, low = weight.shape[1], weight.dtype
        of_inputs = torch.empty(len(given), 3 * hidden, dtype=given.dtype)
        of_product = of_inputs.new_zeros(_filled(len(given), low), 3 * hidden, dtype=low)
        carried = given.new_zeros(ctx.most, hidden)
        read = of_product.new_zeros(ctx.most, 3 * hidden)
        for at, count in reversed(ctx.steps):
            reset, update = reset_update[at].chunk(2, dim=1)
            state = given[at] + carried[:count]
            of_new = state * (1 - update) * (1 - new[at].square())
            of_update = (before[at] - new[at]) * state * update * (1 - update)
            of_reset = of_new * candidate[at] * reset * (1 - reset)
            torch.cat([of_reset, of_update, of_new], dim=1, out=of_inputs[at])
            of_product[at, : 2 * hidden] = of_inputs[at, : 2 * hidden]
            of_product[at, 2 * hidden :] = of_new * reset
            read[:count] = of_product[at]
            filled = _filled(count, low)
            read[count:filled] = 0
            torch.mul(state, update, out=carried[:count]).add_((read[:filled] @ weight)[:count])
        before = F.pad(before, (0, 0, 0, len(of_product) - len(before)))
        of_weight = (of_product.t() @ before).to(ctx.given)
        return of_inputs, of_weight, of_product.sum(0, dtype=ctx.given), None, None


def _moments(sizes: Sequence[int], is_reversed: bool) -> list[tuple[slice, int]]:
    """Where the rows of each moment are, and how many; in the order of reading."""
    found, start = [], 0
    for count in sizes:
        found.append((slice(start, start + count), count))
        start += count
    return found[::-1] if is_reversed else found


def _filled(count: int, dtype: torch.dtype) -> int:
    """Rows of a product: of bfloat16 filled up (:data:`videomatch.common.precision.ROWS` tells why)."""
    return count + (-count % ROWS if dtype == torch.bfloat16 else 0)
