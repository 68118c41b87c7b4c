"""Where the numbers of a model version come from, which decides what a deletion can prove about them. It does nothing.

Source: docs/guarantees.md, "Provenance".
"""

from enum import StrEnum


class Provenance(StrEnum):
    """What rows a tensor was made from, and how."""

    PUBLIC = "public"  # from rows that nobody can revoke
    SHARDED = "sharded"  # trained on one modality of the named shard's subjects
    PRIVATE = "private"  # trained on one modality under subject-level differential privacy
    STATISTICS = "statistics"  # a function of exact sufficient statistics (and of noise)
    ENTANGLED = "entangled"  # ordinary training on revocable rows of several modalities


LATTICE = {
    "backbone": Provenance.PUBLIC.value,
    "constants": Provenance.PUBLIC.value,
    "statistics": Provenance.STATISTICS.value,
    "heads": Provenance.STATISTICS.value,
}
"""The parts of a lattice model over a public backbone: each stands for all tensors of one of its files."""

ENTANGLED = LATTICE | {"backbone": Provenance.ENTANGLED.value, "constants": Provenance.ENTANGLED.value}
"""The same over a backbone that everybody's rows shaped: constants of its embeddings are of its provenance."""
