"""What several ranks can share of a training step: `python -m benchmarks.data_parallel`.

Processor time of one process, one thread, MBD with its default loss, batches of 32 random rows with three channels. The
forward pass and its gradient are divided by the ranks; the loss of the whole batch and its own gradient are not. What
ranks send each other is not in it.
"""

import time

import torch

from mbd.backbones.base import ChannelShape, Interface, Output
from mbd.backbones.zoo import build
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality

ROWS, WARM, STEPS = 32, 5, 15
CASES = ((1, 64, 32), (50, 64, 32), (500, 64, 32), (100, 768, 128))
"""Frames, numbers a frame, width."""


def milliseconds(frames: int, features: int, width: int) -> tuple[float, float]:
    """Of a step: what is divided, and what every rank does."""
    interface = Interface({m: ChannelShape(features, sequence=frames > 1) for m in Modality}, 1)
    backbone = build("mbd", interface, {"width": width}).train()
    frames_there = {m: torch.ones(ROWS, frames, dtype=torch.bool) for m in Modality}
    batch = Batch(
        features={m: torch.randn(ROWS, frames, features) for m in Modality},
        valid=frames_there,
        observed=frames_there,
        present=torch.ones(ROWS, len(Modality), dtype=torch.bool),
        target=torch.randn(ROWS, 1),
    )
    shared = repeated = 0.0
    for step in range(WARM + STEPS):
        begun = time.process_time()
        output = backbone(batch)
        own = [output.prediction, output.embedding, *output.per_modality.values()]
        passed = time.process_time()
        leaves = [tensor.detach().requires_grad_() for tensor in own]
        gathered = Output(leaves[0], leaves[1], dict(zip(output.per_modality, leaves[2:], strict=True)))
        torch.autograd.backward(torch.stack(list(backbone.losses(gathered, batch).values())).sum())
        lost = time.process_time()
        torch.autograd.backward(own, [leaf.grad for leaf in leaves])
        ended = time.process_time()
        backbone.zero_grad()
        if step >= WARM:
            shared += passed - begun + ended - lost
            repeated += lost - passed
    return 1e3 * shared / STEPS, 1e3 * repeated / STEPS


def main() -> None:
    """Print the table of docs/training.md."""
    torch.set_num_threads(1)
    print("| frames | numbers a frame | width | divided | on every rank | two ranks | four ranks |")
    print("|---|---|---|---|---|---|---|")
    for frames, features, width in CASES:
        shared, repeated = milliseconds(frames, features, width)
        gains = " | ".join(f"{(shared + repeated) / (shared / n + repeated):.2f} times" for n in (2, 4))
        print(f"| {frames} | {features} | {width} | {shared:.1f} ms | {repeated:.1f} ms | {gains} |")


if __name__ == "__main__":
    main()
