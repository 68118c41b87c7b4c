"""Statistics of a cohort folder that need not fit into memory. It knows no process but its own.

Rows pass through the featurizer in pieces, each of them a small cohort, and features do not depend on their batch
(docs/guarantees.md, Claim 1). Statistics are a commutative monoid under +, so any pieces in any order and any shards
give the bits of one pass over the whole cohort.
"""

from mbd.cohort.folder import PIECE_ROWS, Pieces
from mbd.lattice.featurizer import Featurizer
from mbd.lattice.fit import sum_pieces
from mbd.lattice.statistics import Statistics


def stream_statistics(
    featurizer: Featurizer, pieces: Pieces, *, rows: int = PIECE_ROWS, shard: int = 0, shards: int = 1
) -> Statistics:
    """The statistics of the training rows of a cohort folder, or of one shard of it.

    Args:
        featurizer: the public map from rows to integers.
        pieces: the opened folder.
        rows: of a piece; memory grows with it, and with nothing else.
        shard: which of the ``shards``: every ``shards``-th piece belongs to it. The sum over all is the whole cohort's.
        shards: into how many the folder is divided.

    Raises:
        CohortError: the folder is damaged, or there is no such shard.
        ExactnessError: the sums could reach 2^53.
    """
    return sum_pieces(featurizer, pieces.head.task, pieces.read(rows, shard=shard, shards=shards))
