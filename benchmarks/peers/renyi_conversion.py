"""What a Renyi-to-DP conversion says that takes the same divergence for every order, beside the exact curve.

    python -m benchmarks.peers.renyi_conversion

The code released with Koloskova et al. 2025 (stair-lab/certified-unlearning-neural-networks-icml-2025 on GitHub, commit
9fdf670, src/training/trainer.py) calibrates its noise to a number e, and then reports, in lines 856 to 868, the least
over orders a of

    e - (ln delta + ln a) / (a - 1) + ln((a - 1) / a),

with one and the same e for all orders. That conversion (Canonne, Kamath and Steinke 2020) wants the divergence of order
a, and of two Gaussians it grows with a: a mu^2 / 2. The noise that is drawn (lines 680 to 733) has no order in it
either: mu^2 / 2 = e with weight decay, and mu^2 / 2 = 2 e without, as we read it. So the least is always found at the
largest order tried, and is hardly more than e. The repository's own configurations use e from .1 to 100.

The exact curve below is that of the pair which the noise is calibrated by, the proof's worst case. Whether two chains
on one D' reach it is not shown here: the report does not follow, which is less than that it is broken.
"""

import math

import numpy as np

from benchmarks.peers.setting import DELTA
from mbd.privacy.gaussian import delta_of, epsilon_of

_ORDERS = np.linspace(1.001, 1000, 10_000)


def reported(e: float, delta: float) -> tuple[float, float]:
    """The least of the formula above with a constant divergence, and the order at which it is found."""
    each = e - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1) + np.log((_ORDERS - 1) / _ORDERS)
    return float(each.min()), float(_ORDERS[each.argmin()])


def by_orders(mu: float, delta: float) -> float:
    """The same conversion with the Gaussian's own divergence of each order: sound, and close to the exact curve."""
    each = _ORDERS * mu**2 / 2 - (math.log(delta) + np.log(_ORDERS)) / (_ORDERS - 1) + np.log((_ORDERS - 1) / _ORDERS)
    return float(each.min())


def table(delta: float = DELTA) -> list[dict[str, float]]:
    """One row for each e and each kind of calibration."""
    rows = []
    for e in (0.01, 0.1, 1.0, 10.0, 100.0):
        said, order = reported(e, delta)
        for weight_decay, mu in ((1.0, math.sqrt(2 * e)), (0.0, math.sqrt(4 * e))):
            rows.append(
                {
                    "e": e,
                    "weight_decay": weight_decay,
                    "mu": mu,
                    "reported": said,
                    "order": order,
                    "by_orders": by_orders(mu, delta),
                    "exact": epsilon_of(mu, delta),
                    "delta_there": delta_of(mu, said),
                }
            )
    return rows


if __name__ == "__main__":
    print(f"delta {DELTA:g}")
    for row in table():
        kind = "with weight decay" if row["weight_decay"] else "without"
        print(
            f"e {row['e']:g}, {kind}: reported {row['reported']:.3f} (order {row['order']:.0f}), by orders "
            f"{row['by_orders']:.3f}, exact {row['exact']:.3f}: {row['exact'] / row['reported']:.1f} times; "
            f"at the reported epsilon delta is {row['delta_there']:.2g}"
        )
