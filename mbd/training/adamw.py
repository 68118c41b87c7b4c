"""AdamW (Loshchilov and Hutter 2019, algorithm 2), with a state that is nothing but named tensors.

Why not torch's: its optimisers import torch's compiler, four seconds in every process that trains. It knows no network.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

FIRST_DECAY, SECOND_DECAY, EPSILON = 0.9, 0.999, 1e-8


class AdamW:
    """The optimiser of some parameters.

    Args:
        parameters: by groups; each group has its own learning rate at each step.
        weight_decay: decoupled from the gradient, scaled by the learning rate.
    """

    def __init__(self, parameters: Sequence[Sequence[nn.Parameter]], *, weight_decay: float) -> None:
        self.weight_decay = weight_decay
        self.steps = 0
        self._groups = [
            [(parameter, torch.zeros_like(parameter), torch.zeros_like(parameter)) for parameter in group]
            for group in parameters
        ]

    @torch.no_grad()
    def step(self, learning_rates: Sequence[float]) -> None:
        """One update from the gradients at hand, which are then cleared; a parameter without one stays as it is."""
        self.steps += 1
        first_correction = 1 - FIRST_DECAY**self.steps
        second_correction = 1 - SECOND_DECAY**self.steps
        for group, rate in zip(self._groups, learning_rates, strict=True):
            for parameter, first, second in group:
                if parameter.grad is None:
                    continue
                first.lerp_(parameter.grad, 1 - FIRST_DECAY)
                second.mul_(SECOND_DECAY).addcmul_(parameter.grad, parameter.grad, value=1 - SECOND_DECAY)
                parameter.mul_(1 - rate * self.weight_decay)
                scale = (second / second_correction).sqrt_().add_(EPSILON)
                parameter.addcdiv_(first, scale, value=-rate / first_correction)
                parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, by name."""
        moments = [moment for group in self._groups for _, *pair in group for moment in pair]
        return {"steps": torch.tensor(self.steps), **{str(i): moment for i, moment in enumerate(moments)}}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a `state` of an optimiser of the same parameters."""
        self.steps = int(state["steps"])
        for name, moment in self.state().items():
            if name != "steps":
                moment.copy_(state[name])
