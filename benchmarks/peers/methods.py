"""The only list of methods, in the order of the tables."""

from benchmarks.peers.retrain import RETRAIN
from benchmarks.peers.setting import Peer
from benchmarks.peers.untouched import UNTOUCHED

PEERS: tuple[Peer, ...] = (RETRAIN, UNTOUCHED)
