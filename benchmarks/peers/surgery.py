"""The published surgery of Missing-by-Design, and our repair of what can be repaired. Neither proves anything.

The paper reports, for everyone's voice on MOSI: a white-box attack down from 78.4 % to 49.9 %, Acc-2 from 89.9 to
88.9 at a stated epsilon of 1, 39 seconds against 2.9 hours of retraining. Here the operated network predicts by itself.
"""

from functools import partial

from benchmarks.peers.setting import Peer, Setting, Stopwatch, Unlearned, network_outputs
from mbd.deletion.surgical import Surgical, operate


def unlearn(setting: Setting, *, corrected: bool) -> Unlearned:
    """Algorithm 1."""
    watch = Stopwatch()
    with watch.running():
        closure = setting.cohort.closure(setting.pairs)
        options = Surgical(corrected=corrected)
        done = operate(
            setting.network, setting.cohort, closure, noise=setting.noise, purpose="benchmark", options=options
        )
    network, measured = done.backbone, done.report["modalities"]
    details = {m: {"candidates": found["candidates"], "rows": found["rows"]} for m, found in measured.items()}
    return Unlearned(lambda rows: network_outputs(network, rows), watch.seconds, None, network, details=details)


_SOURCE = "arXiv 2602.16144, Algorithm 1 (`mbd.deletion.surgical`)"

SURGERY = Peer(
    name="MBD surgery, as published",
    family="network",
    source=_SOURCE,
    deviations=("thresholds and ratio are ours, the paper gives none; also for single people",),
    unlearn=partial(unlearn, corrected=False),
)

SURGERY_CORRECTED = Peer(
    name="MBD surgery, corrected",
    family="network",
    source=_SOURCE,
    deviations=("secret noise always, and the withdrawn modality's generators become zero",),
    unlearn=partial(unlearn, corrected=True),
)
