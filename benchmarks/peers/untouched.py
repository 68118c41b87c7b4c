"""The network as it was, nothing deleted: what the attacks find when there is everything to find."""

from benchmarks.peers.setting import Peer, Setting, Unlearned, network_outputs


def unlearn(setting: Setting) -> Unlearned:
    """Nothing."""
    network = setting.network
    return Unlearned(lambda rows: network_outputs(network, rows), 0.0, None, network)


UNTOUCHED = Peer(
    name="nothing deleted",
    family="network",
    source="no paper: the positive control of the attacks",
    deviations=(),
    unlearn=unlearn,
)
