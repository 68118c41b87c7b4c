"""Training again on D' from the start: the reference that every other method is held against."""

from benchmarks.peers.setting import Peer, Setting, Stopwatch, Unlearned, network_outputs
from mbd.deletion.retrain import retrain


def unlearn(setting: Setting) -> Unlearned:
    """The same recipe on D', by a seed of its own, as the comparator of an approximate method is."""
    watch = Stopwatch()
    with watch.running():
        network = retrain(setting.recipe, setting.after, seed=setting.seed).backbone
    return Unlearned(lambda rows: network_outputs(network, rows), watch.seconds, 0.0, network)


RETRAIN = Peer(
    name="retrain",
    family="network",
    source="the definition of exact unlearning (Cao and Yang 2015; Bourtoule et al. 2021)",
    deviations=(),
    unlearn=unlearn,
    reference=True,
)
