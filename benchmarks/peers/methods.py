"""The only list of methods, in the order of the tables."""

from benchmarks.peers.descent_to_delete import DESCENT_TO_DELETE
from benchmarks.peers.fine_tuning import FINE_TUNING
from benchmarks.peers.gradient_ascent import GRADIENT_ASCENT
from benchmarks.peers.guo import GUO
from benchmarks.peers.koloskova import KOLOSKOVA, KOLOSKOVA_LOOSE
from benchmarks.peers.ours import OURS, OURS_EXACT, RETRAIN_HEADS
from benchmarks.peers.retrain import RETRAIN
from benchmarks.peers.salun import SALUN
from benchmarks.peers.setting import Peer
from benchmarks.peers.sisa import SISA
from benchmarks.peers.ssd import SSD
from benchmarks.peers.surgery import SURGERY, SURGERY_CORRECTED
from benchmarks.peers.untouched import UNTOUCHED
from benchmarks.peers.warnecke import WARNECKE_FIRST, WARNECKE_SECOND

PEERS: tuple[Peer, ...] = (
    RETRAIN,
    UNTOUCHED,
    FINE_TUNING,
    GRADIENT_ASCENT,
    SALUN,
    SSD,
    WARNECKE_FIRST,
    WARNECKE_SECOND,
    SURGERY,
    SURGERY_CORRECTED,
    SISA,
    KOLOSKOVA,
    KOLOSKOVA_LOOSE,
    RETRAIN_HEADS,
    GUO,
    DESCENT_TO_DELETE,
    OURS_EXACT,
    OURS,
)
