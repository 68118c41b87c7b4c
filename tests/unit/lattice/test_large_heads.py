"""Wide systems go to conjugate gradients. `direct_width=0` makes small ones wide, so that every test is quick."""

import logging
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ortho_group

from mbd.errors import NotCertifiedError
from mbd.lattice.conjugate import conjugate_gradients, full_factor, on_coordinates, partial_factor
from mbd.lattice.release import normal_equations
from mbd.lattice.solve import residual, solve

TAU = 1e-6


def problem(seed, width=160, outputs=2, rows=400):
    rng = np.random.default_rng(seed)
    phi = rng.uniform(-1, 1, size=(rows, width)) * np.logspace(0, -1, width)
    y = phi @ rng.normal(size=(width, outputs)) + rng.normal(size=(rows, outputs))
    return phi.T @ phi + np.diag(rng.uniform(1, 10, width)), phi.T @ y, rng


def conditioned(width, condition, seed=0):
    """Eigenvalues from 1 to ``condition``, evenly spaced in their logarithm, in a random basis."""
    basis = ortho_group.rvs(width, random_state=seed)
    matrix = basis * np.logspace(0, np.log10(condition), width) @ basis.T
    return (matrix + matrix.T) / 2, basis @ np.ones((width, 1))


def experts(width=200, blocks=10, seed=0):
    """Rows light one block each; three of the first leave. Matrix and moment after, weights before, generator."""
    rng = np.random.default_rng(seed)
    size = width // blocks
    phi = np.zeros((60 * blocks, width))
    for block in range(blocks):
        phi[60 * block : 60 * block + 60, size * block : size * block + size] = rng.uniform(-1, 1, (60, size))
    y = rng.normal(size=(len(phi), 1))
    before = np.linalg.solve(phi.T @ phi + np.eye(width), phi.T @ y)
    kept, labels = phi[3:], y[3:]
    return kept.T @ kept + np.eye(width), kept.T @ labels, before, rng


@given(seed=st.integers(0, 2**32), shift=st.floats(-12, 1), from_nothing=st.booleans())
def test_conjugate_gradients_keep_the_bound_that_the_full_solve_keeps(seed, shift, from_nothing):
    matrix, moment, rng = problem(seed, width=80, rows=200)
    minimiser = np.linalg.solve(matrix, moment)
    start = None if from_nothing else minimiser + 10.0**shift * rng.normal(size=minimiser.shape)
    least = np.linalg.eigvalsh(matrix)[0]
    for direct_width in (0, 80):
        solution = solve(matrix, moment, tau=TAU, start_DK=start, direct_width=direct_width)
        assert solution.residual_bound <= TAU
        assert np.linalg.norm(matrix @ solution.weights_DK - moment) <= TAU
        assert np.linalg.norm(solution.weights_DK - minimiser) <= TAU / least + 1e-11


@pytest.mark.parametrize(("condition", "tau"), [(1e2, 1e-6), (1e6, 1e-6), (1e10, 1e-3)])
def test_an_ill_conditioned_head_is_certified_too_if_need_be_by_a_factor(condition, tau):
    matrix, moment = conditioned(120, condition)
    solution = solve(matrix, moment, tau=tau, direct_width=0)
    assert solution.residual_bound <= tau
    assert np.linalg.norm(solution.weights_DK - np.linalg.solve(matrix, moment)) <= 2 * tau  # lambda_min is 1


@pytest.mark.parametrize("direct_width", [0, 8192])
def test_a_tau_below_the_rounding_floor_is_refused_in_either_way(direct_width):
    matrix, moment, _ = problem(0)
    with pytest.raises(NotCertifiedError, match="larger tau"):
        solve(matrix, moment, tau=1e-18, direct_width=direct_width)


def test_up_to_the_direct_width_a_factor_solves_and_beyond_it_the_iteration_does():
    matrix, moment, _ = problem(1)
    assert solve(matrix, moment, tau=TAU, direct_width=160).iterations == 0
    assert solve(matrix, moment, tau=TAU, direct_width=159).iterations > 0


def test_a_hopeless_preconditioner_costs_time_and_changes_no_certificate(caplog):
    matrix, moment, rng = problem(2)
    minimiser = np.linalg.solve(matrix, moment)
    start = minimiser + 1e-3 * rng.normal(size=minimiser.shape)
    scales = np.logspace(0, 9, len(matrix))[:, None]
    caplog.set_level(logging.DEBUG, "mbd.lattice.solve")
    solution = solve(matrix, moment, tau=TAU, start_DK=start, precondition=lambda r: r / scales, direct_width=0)
    assert "no convergence" in caplog.text
    assert solution.residual_bound <= TAU
    assert np.linalg.norm(solution.weights_DK - minimiser) <= TAU


def test_the_factor_of_the_version_before_saves_iterations_and_of_a_stranger_none():
    matrix, moment, rng = problem(3)
    removed = rng.uniform(-1, 1, size=(3, 160))
    start = np.linalg.solve(matrix + removed.T @ removed, moment) + 1e-4 * rng.normal(size=moment.shape)
    ways = {
        "own": None,
        "before": full_factor(matrix + removed.T @ removed),
        "stranger": full_factor(problem(99)[0]),
    }
    found = {
        name: solve(matrix, moment, tau=TAU, start_DK=start, precondition=way, direct_width=0)
        for name, way in ways.items()
    }
    assert found["before"].iterations <= 4 + 1  # three rows change three eigenvalues; exact arithmetic needs four
    assert found["before"].iterations < min(found["own"].iterations, found["stranger"].iterations)
    for solution in found.values():
        assert np.linalg.norm(solution.weights_DK - np.linalg.solve(matrix, moment)) <= TAU


@pytest.mark.parametrize("direct_width", [0, 8192])
def test_saliency_finds_the_experts_that_a_deletion_touched_when_the_start_carries_no_noise(direct_width):
    matrix, moment, before, _ = experts()
    solution = solve(matrix, moment, tau=TAU, start_DK=before, direct_width=direct_width)
    assert solution.candidates == 20
    assert set(np.flatnonzero(solution.weights_DK != before)) == set(range(20))
    assert np.linalg.norm(matrix @ solution.weights_DK - moment) <= TAU


def test_noise_in_the_start_makes_every_coordinate_salient_however_little_was_touched():
    matrix, moment, before, rng = experts()
    released = before + 1e-4 * rng.normal(size=before.shape)  # sigma over tau / lambda_min is at least 2 / mu > 1
    assert solve(matrix, moment, tau=TAU, start_DK=released).candidates == len(matrix)


def test_widening_is_counted_and_stops_at_all_coordinates():
    width = 400
    matrix = 2.001 * np.eye(width) - np.eye(width, k=1) - np.eye(width, k=-1)  # a chain: change travels far
    moment = np.ones((width, 1))
    other = moment.copy()
    other[0] += 1.0
    solution = solve(matrix, moment, tau=1e-7, start_DK=np.linalg.solve(matrix, other), direct_width=0)
    assert solution.candidates == width
    assert 0 < solution.widenings <= 11
    assert np.linalg.norm(matrix @ solution.weights_DK - moment) <= 1e-7


def test_the_log_tells_coordinates_iterations_and_widenings_and_no_weights(caplog):
    matrix, moment, before, _ = experts()
    caplog.set_level(logging.DEBUG, "mbd.lattice.solve")
    solution = solve(matrix, moment, tau=TAU, start_DK=before, direct_width=0)
    assert "Newton step on 20 of 200 coordinates" in caplog.text
    assert f"certified after {solution.iterations} iterations, candidates widened 0 times" in caplog.text


@pytest.mark.parametrize("direct_width", [0, 8192])
def test_a_matrix_that_is_not_positive_definite_is_refused(direct_width):
    matrix, moment, _ = problem(4)
    matrix[7, 7] = -1.0
    with pytest.raises(NotCertifiedError, match="G \\+ Lambda is not positive definite"):
        solve(matrix, moment, tau=TAU, direct_width=direct_width)


def test_non_positive_curvature_that_only_the_iteration_meets_is_refused():
    matrix, moment = np.diag([1.0, 1.0, -1.0]), np.ones((3, 1))
    with pytest.raises(NotCertifiedError, match="G \\+ Lambda is not positive definite"):
        conjugate_gradients(matrix, moment, lambda r: r * [[1.0], [1.0], [5.0]], target=1e-9, most=10)


@pytest.mark.parametrize("broken", [lambda r: -r, lambda r: r * np.nan, lambda r: 0 * r])
def test_a_preconditioner_that_is_not_positive_definite_is_refused_by_name(broken):
    matrix, moment, _ = problem(5)
    with pytest.raises(NotCertifiedError, match="The preconditioner"):
        solve(matrix, moment, tau=TAU, precondition=broken, direct_width=0)


@pytest.mark.parametrize("place", ["matrix", "moment", "start"])
@pytest.mark.parametrize("direct_width", [0, 8192])
def test_a_number_that_is_not_finite_is_refused(place, direct_width):
    matrix, moment, _ = problem(6)
    start = np.zeros_like(moment)
    {"matrix": matrix, "moment": moment, "start": start}[place][3, 1] = np.nan
    with pytest.raises(NotCertifiedError, match="not finite"):
        solve(matrix, moment, tau=TAU, start_DK=start, direct_width=direct_width)


def test_from_nothing_the_iteration_too_depends_on_the_problem_alone():
    matrix, moment, _ = problem(7)
    first, second = (solve(matrix.copy(), moment.copy(), tau=TAU, direct_width=0) for _ in range(2))
    assert np.array_equal(first.weights_DK, second.weights_DK)


def test_the_caller_s_arrays_stay_as_they_were():
    matrix, moment, rng = problem(8)
    start = rng.normal(size=moment.shape)
    before = matrix.copy(), moment.copy(), start.copy()
    for direct_width in (0, 8192):
        solve(matrix, moment, tau=TAU, start_DK=start, direct_width=direct_width)
    assert all(np.array_equal(now, then) for now, then in zip((matrix, moment, start), before, strict=True))


@given(seed=st.integers(0, 2**32), pivots=st.integers(1, 12))
def test_a_partial_factor_is_the_inverse_of_its_model_and_exact_at_full_rank(seed, pivots):
    matrix, _, _ = problem(seed, width=12, rows=30)
    inverse = partial_factor(matrix, pivots)(np.eye(12))
    assert np.allclose(inverse, inverse.T)
    assert np.linalg.eigvalsh((inverse + inverse.T) / 2)[0] > 0
    difference = np.linalg.inv(inverse) - matrix
    assert np.linalg.norm(np.diag(difference)) <= 1e-9 * np.linalg.norm(matrix)  # the model keeps M's diagonal
    assert np.linalg.matrix_rank(difference, tol=1e-7) <= 12 - pivots  # and M's pivot rows and columns
    assert np.allclose(partial_factor(matrix, 12)(np.eye(12)), np.linalg.inv(matrix))


def test_pivots_spare_the_iteration_the_large_eigenvalues():
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(200, 10))
    matrix, moment = 1e4 * factors @ factors.T + np.eye(200), rng.normal(size=(200, 1))
    plain, spared = (
        conjugate_gradients(matrix, moment, way, target=1e-8, most=200).iterations
        for way in (lambda r: r / np.diag(matrix)[:, None], partial_factor(matrix, 20))
    )
    assert 2 * spared < plain


def test_a_column_that_is_done_leaves_the_iteration_and_the_others_go_on():
    matrix, _, rng = problem(9, width=40)
    right = np.column_stack([np.zeros(40), rng.normal(size=40), 1e-12 * rng.normal(size=40)])
    found = conjugate_gradients(matrix, right, partial_factor(matrix, 5), target=1e-9, most=200)
    assert found.converged
    assert not found.solution_DK[:, [0, 2]].any()
    assert np.linalg.norm(matrix @ found.solution_DK - right) <= 2e-9


def test_the_iteration_stops_at_its_limit_and_says_that_it_did_not_converge():
    matrix, moment = conditioned(60, 1e6)
    found = conjugate_gradients(matrix, moment, lambda r: r, target=1e-9, most=5)
    assert (found.iterations, found.converged) == (5, False)


def test_a_preconditioner_restricted_to_candidates_is_the_principal_part():
    matrix, _, _ = problem(10, width=9)
    at = np.array([1, 4, 8])
    restricted = on_coordinates(full_factor(matrix), at, 9)(np.eye(3))
    assert np.allclose(restricted, np.linalg.inv(matrix)[np.ix_(at, at)])


def test_the_blocked_bound_covers_the_true_residual_over_many_strips():
    width = 300
    rng = np.random.default_rng(11)
    matrix = rng.normal(size=(width, width)) * 10.0 ** rng.integers(-8, 8, size=(width, width))
    weights, moment = rng.normal(size=(width, 1)) * 1e6, rng.normal(size=(width, 1))
    computed, bound = residual(matrix, moment, weights)
    rows = rng.choice(width, 20, replace=False)
    exact = [
        sum(Fraction(matrix[i, j]) * Fraction(weights[j, 0]) for j in range(width)) - Fraction(moment[i, 0])
        for i in rows
    ]
    errors = [abs(value - Fraction(computed[i, 0])) for value, i in zip(exact, rows, strict=True)]
    spare = Fraction(bound) - Fraction(float(np.linalg.norm(computed)))
    assert sum(error * error for error in errors) <= spare**2
    assert sum(value * value for value in exact) <= Fraction(bound) ** 2


@pytest.mark.parametrize(("direct_width", "most"), [(0, 0.5), (1500, 1.2)])
def test_a_factor_holds_one_more_matrix_and_the_iteration_a_part_of_one(direct_width, most):
    matrix = 5 * np.eye(1500) + np.eye(1500, k=1) + np.eye(1500, k=-1)
    tracemalloc.start()
    try:
        iterations = solve(matrix, np.ones((1500, 1)), tau=TAU, direct_width=direct_width).iterations
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (iterations > 0) == (direct_width == 0)
    assert peak <= most * matrix.nbytes


def test_every_head_of_a_real_model_may_be_solved_by_the_iteration(random_cohort, fit_small):
    model = fit_small(random_cohort(3, subjects=14, clips=4))
    for pattern in model.layout.patterns:
        matrix, moment = normal_equations(model.layout, model.statistics, pattern)
        start = model.heads[pattern].weights_DK
        iterated, direct = (
            solve(matrix, moment, tau=TAU, start_DK=start, direct_width=width) for width in (0, len(matrix))
        )
        assert iterated.residual_bound <= TAU
        assert np.linalg.norm(iterated.weights_DK - direct.weights_DK) <= 2 * TAU  # lambda_min is 1
