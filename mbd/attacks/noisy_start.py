"""Tell from a network after noisy fine-tuning where it started: the noise of its steps must drown the start.

Claim 7 holds whatever the start was. So the two farthest are built: opposite points, far outside of the ball that
starts are clipped into. The fine-tuning and its noise are the production code. It knows no certificate.

Source: Koloskova et al. 2025 (the mechanism); Nasr et al. 2023 (worst cases); docs/mechanisms/noisy_finetuning.md.
Legend: D numbers that move, R releases of each arm.
"""

import copy
import time

import numpy as np
import torch
from numpy.typing import NDArray

from mbd.attacks.bounds import hits_above
from mbd.attacks.report import Estimate, Report
from mbd.backbones.base import Backbone
from mbd.cohort.cohort import Cohort
from mbd.deletion.noisy_finetuning import NoisyFineTuning, fine_tune
from mbd.errors import AttackError
from mbd.privacy.gaussian import mu_of
from mbd.privacy.noise import NoiseSource

CONFIDENCE = 0.999

FloatArray = NDArray[np.float64]

_FAR = 10.0  # times the radius of the ball: a start that is not clipped shows at once


def audit_noisy_fine_tuning(
    backbone: Backbone,
    cohort_after: Cohort,
    *,
    options: NoisyFineTuning,
    noise: NoiseSource,
    releases: int,
    seed: int,
    target: str,
) -> Report:
    """Fine-tune from both of two opposite starts many times, and bound mu by how well the releases tell them apart.

    The test is fixed beforehand: on which side of the origin a release lies, along the line through the starts.

    Args:
        backbone: of the attacked kind; its weights are of no account.
        cohort_after: D'.
        options: the line's constants, at a claim that so many releases can decide.
        noise: any stream; an auditor's own.
        releases: R, at least 100.
        seed: of the direction, and of the fine-tuning.
        target: what is attacked, for people.

    Raises:
        AttackError: too few releases.
    """
    if releases < 100:
        raise AttackError(f"{releases} releases an arm decide nothing.", remedy="ask for at least 100")
    started = time.process_time()
    size = sum(p.numel() for p in backbone.parameters())
    direction_D = np.random.default_rng(seed).choice([-1.0, 1.0], size=size) / np.sqrt(size)
    sides: list[FloatArray] = []
    for sign in (1.0, -1.0):
        start = _with_weights(backbone, sign * _FAR * options.start_bound * direction_D)
        side_R = np.empty(releases)
        for number in range(releases):
            done = fine_tune(start, cohort_after, noise=noise, purpose=f"audit/{number}", seed=seed, options=options)
            side_R[number] = direction_D @ _weights(done.backbone)
        sides.append(side_R)
    one_R, two_R = sides
    found = hits_above(one_R, two_R, 0.0).mu(CONFIDENCE)
    claim = mu_of(options.epsilon, options.delta)
    spread = float(np.sqrt((one_R.var() + two_R.var()) / 2))
    return Report(
        attack="noisy-start",
        target=target,
        question="Does the network after noisy fine-tuning tell where it started, beyond what is claimed?",
        verdict="broken" if found > claim else "held",
        estimates=(
            Estimate("lower bound of mu", found, low=found, confidence=CONFIDENCE),
            Estimate(
                "distance of the two means, in measured standard deviations", (one_R.mean() - two_R.mean()) / spread
            ),
        ),
        claim=claim,
        trials=2 * releases,
        seed=seed,
        seconds=time.process_time() - started,
        details={"coordinates": size, "steps": options.steps, "releases_an_arm": releases},
    )


def _with_weights(backbone: Backbone, x_D: FloatArray) -> Backbone:
    changed = copy.deepcopy(backbone)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(x_D).float(), changed.parameters())
    return changed


def _weights(backbone: Backbone) -> FloatArray:
    return np.asarray(torch.nn.utils.parameters_to_vector(backbone.parameters()).detach().double().numpy())
