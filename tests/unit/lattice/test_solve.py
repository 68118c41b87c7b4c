from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.errors import NotCertifiedError
from mbd.lattice.solve import residual, solve


def problem(seed, width=30, outputs=2, rows=80):
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-1, 1, size=(rows, width))
    y = phi @ rng.normal(size=(width, outputs)) + rng.normal(size=(rows, outputs))
    return phi.T @ phi + np.diag(rng.uniform(1, 10, width)), phi.T @ y, rng


@given(seed=st.integers(0, 2**32), shift=st.floats(-12, 1))
def test_from_any_start_the_solution_lies_within_tau_over_lambda_of_the_minimiser(seed, shift):
    matrix, moment, rng = problem(seed)
    minimiser = np.linalg.solve(matrix, moment)
    start = minimiser + 10.0**shift * rng.normal(size=minimiser.shape)
    solution = solve(matrix, moment, tau=1e-6, start_DK=start)
    assert solution.residual_bound <= 1e-6
    assert np.linalg.norm(solution.weights_DK - minimiser) <= 1e-6 / np.linalg.eigvalsh(matrix)[0] + 1e-12


def test_a_start_that_is_good_enough_is_not_moved():
    matrix, moment, _ = problem(0)
    start = np.linalg.solve(matrix, moment)
    solution = solve(matrix, moment, tau=1e-6, start_DK=start)
    assert solution.candidates == 0
    assert np.array_equal(solution.weights_DK, start)


def test_only_salient_coordinates_move_where_the_others_do_not_depend_on_them():
    matrix, moment = np.diag(np.linspace(1, 4, 40)), np.ones((40, 1))
    start = moment / np.diag(matrix)[:, None]
    start[[3, 17]] += 1.0
    solution = solve(matrix, moment, tau=1e-9, start_DK=start)
    moved = np.flatnonzero(solution.weights_DK != start)
    assert solution.candidates == 2
    assert set(moved) == {3, 17}


def test_candidates_widen_through_coupling_until_the_residual_over_all_coordinates_holds():
    width = 40
    matrix = 3 * np.eye(width) + np.eye(width, k=1) + np.eye(width, k=-1)
    other = np.ones((width, 1))
    other[0] += 1.0
    solution = solve(matrix, np.ones((width, 1)), tau=1e-3, start_DK=np.linalg.solve(matrix, other))
    assert 2 < solution.candidates < width
    assert np.linalg.norm(matrix @ solution.weights_DK - 1) <= 1e-3


def test_the_bound_covers_the_true_residual_computed_in_exact_rationals():
    matrix, moment, rng = problem(3, width=8, outputs=1)
    weights = rng.normal(size=(8, 1)) * 1e6
    _, bound = residual(matrix, moment, weights)
    exact = [
        sum(Fraction(matrix[i, j]) * Fraction(weights[j, 0]) for j in range(8)) - Fraction(moment[i, 0])
        for i in range(8)
    ]
    assert sum(value * value for value in exact) <= Fraction(bound) ** 2


def test_what_is_certified_lies_on_the_grid():
    matrix, moment, rng = problem(7)
    for start in (None, rng.normal(size=moment.shape), np.linalg.solve(matrix, moment)):
        solution = solve(matrix, moment, tau=1e-6, start_DK=start, grid=2.0**-36)
        assert np.array_equal(solution.weights_DK, np.rint(solution.weights_DK * 2.0**36) * 2.0**-36)
        assert solution.residual_bound == residual(matrix, moment, solution.weights_DK)[1] <= 1e-6


def test_a_grid_too_coarse_beside_tau_is_refused_and_says_so():
    matrix, moment, _ = problem(7)
    with pytest.raises(NotCertifiedError, match="On the release grid"):
        solve(matrix, moment, tau=1e-6, grid=2.0**-16)


def test_a_tau_below_the_rounding_floor_is_refused_and_says_what_to_do():
    matrix, moment, _ = problem(0)
    with pytest.raises(NotCertifiedError, match="larger tau"):
        solve(matrix, moment, tau=1e-18)


def test_solving_from_nothing_depends_on_the_problem_alone():
    matrix, moment, _ = problem(5)
    assert np.array_equal(solve(matrix, moment, tau=1e-6).weights_DK, solve(matrix, moment, tau=1e-6).weights_DK)
