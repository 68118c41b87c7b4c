"""A selective state-space layer (Mamba: Gu and Dao, arXiv 2312.00752, section 3) in plain torch. It knows no channels.

Legend: B rows, L steps of a sequence, E channels of the layer, N states of each of them, R rank of the step size.
"""

import math
from typing import Any

import torch
import torch.nn.functional as f
from torch import Tensor, nn

_SMALLEST_STEP, _LARGEST_STEP = 0.01, 1.0
"""Initial step sizes are spread between these: the sequences here have from two to some hundred steps."""


class _Recurrence(torch.autograd.Function):
    """Two scans, one for the states and one, backwards in time, for what the states' gradients add up to."""

    @staticmethod
    def forward(ctx: Any, decay_BL: Tensor, drive_BL: Tensor) -> Tensor:
        state_BL = _states(decay_BL, drive_BL)
        ctx.save_for_backward(decay_BL, state_BL)
        return state_BL

    @staticmethod
    def backward(ctx: Any, gradient_BL: Tensor) -> tuple[Tensor, Tensor]:
        decay_BL, state_BL = ctx.saved_tensors
        none_B1 = torch.zeros_like(decay_BL[:, :1])
        next_decay_BL = torch.cat([decay_BL[:, 1:], none_B1], dim=1)
        sum_BL = _reversed(linear_recurrence(_reversed(next_decay_BL), _reversed(gradient_BL)))
        return sum_BL * torch.cat([none_B1, state_BL[:, :-1]], dim=1), sum_BL


def linear_recurrence(decay_BL: Tensor, drive_BL: Tensor) -> Tensor:
    """h_t = decay_t h_{t-1} + drive_t for all t, from h = 0 before the first step, elementwise.

    Work and memory grow with L, the operations one after another with log2(L).

    Args:
        decay_BL: [B,L,...], between 0 and 1.
        drive_BL: of the same shape.

    Returns:
        The states [B,L,...]. The rounding of a state depends on the steps up to it alone, not on L.
    """
    states: Tensor = _Recurrence.apply(decay_BL, drive_BL)  # type: ignore[no-untyped-call]  # torch types it not
    return states


def _states(decay_BL: Tensor, drive_BL: Tensor) -> Tensor:
    """`linear_recurrence` without gradients.

    Two neighbouring steps are one step of the same kind, so the states after every second step come from a recurrence
    of half the length, and the others from their neighbours. Nothing is divided, so that products of decays may
    underflow: they are then zero, as they should be.
    """
    length = decay_BL.shape[1]
    if length == 1:
        return drive_BL.clone()
    decay_even, decay_odd = decay_BL[:, 0::2], decay_BL[:, 1::2]
    drive_even, drive_odd = drive_BL[:, 0::2], drive_BL[:, 1::2]
    pairs = length // 2
    odd = _states(decay_odd * decay_even[:, :pairs], torch.addcmul(drive_odd, decay_odd, drive_even[:, :pairs]))
    state_BL = torch.empty_like(drive_BL)
    state_BL[:, 0] = drive_BL[:, 0]
    state_BL[:, 1::2] = odd
    state_BL[:, 2::2] = torch.addcmul(drive_even[:, 1:], decay_even[:, 1:], odd[:, : (length - 1) // 2])
    return state_BL


def _reversed(x_BL: Tensor) -> Tensor:
    """The steps in the other order; for wide steps this is much faster than flip."""
    return x_BL.index_select(1, torch.arange(x_BL.shape[1] - 1, -1, -1, device=x_BL.device))


def selective_scan(
    *,
    x_BLE: Tensor,
    step_BLE: Tensor,
    rate_EN: Tensor,
    input_BLN: Tensor,
    output_BLN: Tensor,
    observed_BL: Tensor,
    reverse: bool = False,
) -> Tensor:
    """y_t = C_t h_t with h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t (equations 2 and 4 there, B by Euler's rule).

    Args:
        x_BLE: what is scanned.
        step_BLE: dt, not negative.
        rate_EN: the diagonal of A, negative.
        input_BLN: B.
        output_BLN: C.
        observed_BL: steps outside leave the state as it is, and nothing of theirs is read, not even a NaN.
        reverse: from the last step to the first.

    Returns:
        [B,L,E]; zero in steps that were not observed.
    """
    seen_BL1 = observed_BL[..., None]
    x_BLE, step_BLE, input_BLN, output_BLN = (
        torch.where(seen_BL1, each, 0.0) for each in (x_BLE, step_BLE, input_BLN, output_BLN)
    )
    if reverse:
        x_BLE, step_BLE, input_BLN, output_BLN = map(_reversed, (x_BLE, step_BLE, input_BLN, output_BLN))
    decay_BLEN = torch.exp(step_BLE[..., None] * rate_EN)
    drive_BLEN = (step_BLE * x_BLE)[..., None] * input_BLN[:, :, None]
    y_BLE = (linear_recurrence(decay_BLEN, drive_BLEN) @ output_BLN[..., None]).squeeze(-1)
    return _reversed(y_BLE) if reverse else y_BLE


class SelectiveStateSpace(nn.Module):
    """The inside of a Mamba layer, between its projections: dt, B and C from the input, scan, skip, gate.

    The short convolution of Mamba is left out: it would mix neighbours of which one may be missing.
    """

    def __init__(self, width: int, states: int) -> None:
        super().__init__()
        self.rank, self.states = math.ceil(width / 16), states
        self.select = nn.Linear(width, self.rank + 2 * states, bias=False)
        self.step = nn.Linear(self.rank, width)
        self.log_rate = nn.Parameter(torch.arange(1.0, states + 1).log().repeat(width, 1))
        self.skip = nn.Parameter(torch.ones(width))
        low, high = math.log(_SMALLEST_STEP), math.log(_LARGEST_STEP)
        with torch.no_grad():
            first_E = torch.exp(low + (high - low) * torch.rand(width))
            self.step.bias.copy_(first_E + torch.log(-torch.expm1(-first_E)))  # softplus of it is the first step size

    def forward(self, value_BLE: Tensor, gate_BLE: Tensor, observed_BL: Tensor, *, reverse: bool = False) -> Tensor:
        """[B,L,E] -> [B,L,E]; zero in steps that were not observed."""
        seen_BL1 = observed_BL[..., None]
        x_BLE = f.silu(torch.where(seen_BL1, value_BLE, 0.0))
        step_BLR, input_BLN, output_BLN = self.select(x_BLE).split([self.rank, self.states, self.states], dim=-1)
        y_BLE = selective_scan(
            x_BLE=x_BLE,
            step_BLE=f.softplus(self.step(step_BLR)),
            rate_EN=-self.log_rate.exp(),
            input_BLN=input_BLN,
            output_BLN=output_BLN,
            observed_BL=observed_BL,
            reverse=reverse,
        )
        return (y_BLE + self.skip * x_BLE) * f.silu(torch.where(seen_BL1, gate_BLE, 0.0))
