"""Exact sufficient statistics: integers that add and subtract without rounding. It knows no network and no person.

Features are integers in [-2^b, 2^b] (the grid 2^-b scaled up), labels integers in [-label_limit, label_limit]
(the grid 2^-10). Integers held in float64 multiply and add without rounding while every partial sum stays under
2^53, so BLAS computes G and c exactly, in any order, on any number of machines. The bound is checked before each
product and each sum. Source: docs/guarantees.md, Claim 1.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mbd.errors import ExactnessError
from mbd.hashing import arrays_digest

LABEL_BITS = 10
_EXACT = 2**53

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """The integer grid of one model line: public constants.

    Attributes:
        feature_bits: b; features are multiples of 2^-b in [-1, 1].
        label_limit: the largest |label| times 2^10.
    """

    feature_bits: int
    label_limit: int

    @property
    def max_rows(self) -> int:
        """The most rows for which every partial sum is an integer below 2^53."""
        one = 1 << self.feature_bits
        return (_EXACT - 1) // (one * max(one, self.label_limit))

    def require(self, rows: int) -> None:
        """Raise `ExactnessError` when ``rows`` rows could round."""
        if rows > self.max_rows:
            raise ExactnessError(
                f"{rows:,} rows on the grid 2^-{self.feature_bits} could sum to 2^53 or more, where float64 rounds; "
                f"the bound is {self.max_rows:,} rows.",
                remedy="train a model line with fewer feature bits, or split the cohort into several model lines",
            )

    def label_integers(self, labels: FloatArray) -> FloatArray:
        """Labels rounded to the grid 2^-10, as integers in float64, same shape."""
        integers = np.rint(labels * 2.0**LABEL_BITS)
        if integers.size and np.abs(integers).max() > self.label_limit:
            raise ExactnessError(
                f"A label of {np.abs(labels).max():g} is outside the public range "
                f"of ±{self.label_limit / 2**LABEL_BITS:g}.",
                remedy="declare the label range in the cohort before the model line is trained",
            )
        return integers


@dataclass(frozen=True)
class Statistics:
    """G, c and n of some rows; a commutative group under + and -.

    Attributes:
        grid: the integer grid.
        gram: G = sum phi phi^T times 2^(2b), int64 [D, D].
        moment: c = sum phi y times 2^(b + 10), int64 [D, K].
        rows: how many rows were summed.
    """

    grid: Grid
    gram: IntArray
    moment: IntArray
    rows: int

    @classmethod
    def zero(cls, grid: Grid, width: int, outputs: int) -> "Statistics":
        """The statistics of no rows."""
        return cls(grid, np.zeros((width, width), np.int64), np.zeros((width, outputs), np.int64), 0)

    @classmethod
    def of(cls, grid: Grid, phi_ND: FloatArray, label_NK: FloatArray) -> "Statistics":
        """The statistics of rows given as integers in float64.

        Args:
            grid: the integer grid.
            phi_ND: integer-valued features in [-2^b, 2^b].
            label_NK: integer-valued labels in [-label_limit, label_limit].

        Raises:
            ExactnessError: too many rows, or a value off the grid.
        """
        return cls.accumulate(grid, phi_ND.shape[1], label_NK.shape[1], [(phi_ND, label_NK)])

    @classmethod
    def accumulate(
        cls, grid: Grid, width: int, outputs: int, chunks: Iterable[tuple[FloatArray, FloatArray]]
    ) -> "Statistics":
        """The sum over a stream of (features, labels), each as in `of`; memory does not grow with the rows.

        The running sums stay in float64, where they are exact under the same bound, and become integers once. numpy
        sees one array on both sides of ``phi.T @ phi`` and computes a single triangle (BLAS syrk).
        """
        rows = 0
        gram, moment = np.zeros((width, width)), np.zeros((width, outputs))
        product = np.empty_like(gram)
        for phi_ND, label_NK in chunks:
            rows += len(phi_ND)
            grid.require(rows)
            _require_integers("feature", phi_ND, 1 << grid.feature_bits)
            _require_integers("label", label_NK, grid.label_limit)
            gram += np.matmul(phi_ND.T, phi_ND, out=product)
            moment += phi_ND.T @ label_NK
        return cls(grid, gram.astype(np.int64), moment.astype(np.int64), rows)

    def __add__(self, other: "Statistics") -> "Statistics":
        self._require_same_shape(other)
        self.grid.require(self.rows + other.rows)
        return Statistics(self.grid, self.gram + other.gram, self.moment + other.moment, self.rows + other.rows)

    def __sub__(self, other: "Statistics") -> "Statistics":
        self._require_same_shape(other)
        self._require_part(other.rows, np.diag(other.gram))
        return Statistics(self.grid, self.gram - other.gram, self.moment - other.moment, self.rows - other.rows)

    def replace(self, old_ND: FloatArray, new_ND: FloatArray, label_NK: FloatArray) -> "Statistics":
        """G - phi^T phi + phi'^T phi', and c likewise: after some rows changed their features.

        A product of two columns that stay the same cancels in every row, so only the others are computed and read.

        Args:
            old_ND: phi, as in `of`: what these rows have in the sums.
            new_ND: phi', what they have afterwards. A row of zeros is in no sum and in no count.
            label_NK: their labels.

        Raises:
            ExactnessError: too many rows, a value off the grid, or rows that cannot have been part of the sums.
        """
        _require_integers("feature", old_ND, 1 << self.grid.feature_bits)
        _require_integers("feature", new_ND, 1 << self.grid.feature_bits)
        _require_integers("label", label_NK, self.grid.label_limit)
        had, have = (int(phi_ND.any(axis=1).sum()) for phi_ND in (old_ND, new_ND))
        rows = self.rows - had + have
        self.grid.require(max(rows, len(old_ND) + len(new_ND)))
        self._require_part(had, np.einsum("nd,nd->d", old_ND, old_ND))
        gram, runs = self.gram.copy(), _runs(np.flatnonzero((old_ND != new_ND).any(axis=0)))
        for run in runs:
            change = old_ND[:, run].T @ old_ND
            if new_ND[:, run].any():
                change -= new_ND[:, run].T @ new_ND
            gram[run] -= change.astype(np.int64)
        for run in runs:
            gram[:, run] = gram[run].T
        moment = self.moment - ((old_ND - new_ND).T @ label_NK).astype(np.int64)
        return Statistics(self.grid, gram, moment, rows)

    def __eq__(self, other: object) -> bool:
        """Equal bit for bit."""
        if not isinstance(other, Statistics):
            return NotImplemented
        mine, theirs = self.arrays(), other.arrays()
        return all(np.array_equal(mine[name], theirs[name]) for name in mine)

    __hash__ = None  # type: ignore[assignment]  # a mutable array inside

    def at(self, coordinates: NDArray[np.intp]) -> "Statistics":
        """The statistics of a sub-set of the coordinates (ascending, each once), same rows."""
        if len(coordinates) == len(self.gram):
            return self
        runs = _runs(coordinates)
        rows = [np.concatenate([self.gram[run, other] for other in runs], axis=1) for run in runs]
        gram = np.concatenate(rows) if rows else self.gram[:0, :0]  # blocks: an eighth of the time of `np.ix_`
        return Statistics(self.grid, gram, self.moment[coordinates], self.rows)

    def commitment(self, salt: bytes) -> str:
        """SHA-256 (hex) under a salt: anyone who holds the rows and the salt can recompute it.

        Without a salt, whoever knows all other rows could confirm a guess at a withdrawn one.
        """
        return arrays_digest({**self.arrays(), "salt": np.frombuffer(salt, np.uint8)})

    def arrays(self) -> dict[str, IntArray]:
        """Everything as named int64 arrays."""
        grid = np.array([self.grid.feature_bits, self.grid.label_limit], np.int64)
        return {
            "gram": self.gram,
            "moment": self.moment,
            "rows": np.array([self.rows], np.int64),
            "grid": grid,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, IntArray]) -> "Statistics":
        """The inverse of `arrays`."""
        bits, limit = (int(value) for value in arrays["grid"])
        return cls(Grid(bits, limit), arrays["gram"], arrays["moment"], int(arrays["rows"][0]))

    def normal_matrix(self) -> FloatArray:
        """The matrix G in the features' own units, float64 [D, D]; scaling by a power of two is exact."""
        matrix_DD = self.gram.astype(np.float64)
        matrix_DD *= 2.0 ** (-2 * self.grid.feature_bits)
        return matrix_DD

    def right_hand_side(self) -> FloatArray:
        """The moment c in the features' and labels' own units, float64 [D, K]; exact likewise."""
        return self.moment.astype(np.float64) * 2.0 ** -(self.grid.feature_bits + LABEL_BITS)

    def _require_part(self, rows: int, diagonal_D: NDArray[np.number]) -> None:
        if rows > self.rows or (diagonal_D > np.diag(self.gram)).any():
            raise ExactnessError(
                "These rows cannot have been part of these statistics: their sum is larger.",
                remedy="subtract only rows that were added; `mbd ledger fsck` and a replay show which state is wrong",
            )

    def _require_same_shape(self, other: "Statistics") -> None:
        if (self.grid, self.gram.shape, self.moment.shape) != (
            other.grid,
            other.gram.shape,
            other.moment.shape,
        ):
            raise ExactnessError(
                "These statistics belong to different layouts or grids.",
                remedy="combine only statistics of one model line",
            )


def _runs(ascending: NDArray[np.intp]) -> list[slice]:
    """Maximal runs of neighbours among these coordinates: numpy copies slices several times faster than indices."""
    ends = np.flatnonzero(np.diff(ascending) != 1) + 1
    pairs = pairwise([0, *ends.tolist(), len(ascending)])
    return [slice(int(ascending[a]), int(ascending[b - 1]) + 1) for a, b in pairs if a < b]


def _require_integers(name: str, values: FloatArray, limit: int) -> None:
    """Raise `ExactnessError` unless every value is an integer in [-limit, limit]."""
    inside = -limit <= values.min(initial=0) and values.max(initial=0) <= limit  # a NaN is not inside of anything
    if not (inside and np.array_equal(values, np.rint(values))):
        raise ExactnessError(
            f"A {name} is not an integer in [-{limit}, {limit}].",
            remedy="pass features and labels through the featurizer's grid first",
        )
