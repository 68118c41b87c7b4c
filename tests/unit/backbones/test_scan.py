"""The selective scan is the recurrence it says it is, at any length, and reads nothing that was not observed."""

from dataclasses import dataclass, field

import pytest
import torch
from torch.overrides import TorchFunctionMode

from mbd.backbones.scan import SelectiveStateSpace, linear_recurrence, selective_scan

LENGTHS = [1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 100]
DIFFERENTIABLE = ("x_BLE", "step_BLE", "rate_EN", "input_BLN", "output_BLN")

both_ways = pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])


def draw(length, *, rows=3, channels=4, states=2, seed=0, observed=0.8):
    """Arguments of a scan in float64, with some steps unobserved."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "x_BLE": normal(rows, length, channels),
        "step_BLE": normal(rows, length, channels).exp(),
        "rate_EN": -normal(channels, states).exp(),
        "input_BLN": normal(rows, length, states),
        "output_BLN": normal(rows, length, states),
        "observed_BL": torch.rand(rows, length, generator=generator) < observed,
    }


def naive(*, x_BLE, step_BLE, rate_EN, input_BLN, output_BLN, observed_BL, reverse=False):
    """The recurrence one step after the other, as it is written down."""
    rows, length, channels = x_BLE.shape
    state_BEN = x_BLE.new_zeros(rows, channels, rate_EN.shape[1])
    y = [x_BLE.new_zeros(rows, channels)] * length
    for t in reversed(range(length)) if reverse else range(length):
        decay_BEN = torch.exp(step_BLE[:, t, :, None] * rate_EN)
        driven_BEN = step_BLE[:, t, :, None] * input_BLN[:, t, None] * x_BLE[:, t, :, None]
        seen_B11 = observed_BL[:, t, None, None]
        state_BEN = torch.where(seen_B11, decay_BEN * state_BEN + driven_BEN, state_BEN)
        y[t] = torch.where(seen_B11[..., 0], (state_BEN * output_BLN[:, t, None]).sum(dim=-1), 0.0)
    return torch.stack(y, dim=1)


def with_gradients(scan, arguments, **how):
    """What a scan gives, and the gradients of a fixed combination of it."""
    leaves = {n: arguments[n].clone().requires_grad_() for n in DIFFERENTIABLE}
    y_BLE = scan(**{**arguments, **leaves}, **how)
    weights_BLE = torch.randn(y_BLE.shape, generator=torch.Generator().manual_seed(7), dtype=y_BLE.dtype)
    gradients = torch.autograd.grad((weights_BLE * y_BLE).sum(), list(leaves.values()), allow_unused=True)
    filled = [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves.values(), gradients, strict=True)]
    return y_BLE.detach(), dict(zip(leaves, filled, strict=True))


@dataclass
class Operations(TorchFunctionMode):
    """How many operations were run, and how many numbers they wrote."""

    names: list[str] = field(default_factory=list)
    numbers: int = 0

    def __post_init__(self):
        super().__init__()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.names.append(str(function))
        self.numbers += result.numel() if isinstance(result, torch.Tensor) else 0
        return result


@both_ways
@pytest.mark.parametrize("length", LENGTHS)
def test_it_is_the_recurrence_forward_and_in_its_gradients(length, reverse):
    arguments = draw(length)
    expected, expected_gradients = with_gradients(naive, arguments, reverse=reverse)
    found, gradients = with_gradients(selective_scan, arguments, reverse=reverse)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    for name in DIFFERENTIABLE:
        assert torch.allclose(gradients[name], expected_gradients[name], rtol=0, atol=1e-10), name


@both_ways
def test_it_is_the_recurrence_over_two_thousand_steps(reverse):
    """With steps small enough for the first ones to be felt at the end."""
    arguments = draw(2000, rows=2, channels=2, observed=0.9)
    arguments["step_BLE"] *= 1e-3
    expected, expected_gradients = with_gradients(naive, arguments, reverse=reverse)
    found, gradients = with_gradients(selective_scan, arguments, reverse=reverse)
    assert torch.allclose(found, expected, rtol=0, atol=1e-10)
    for name in DIFFERENTIABLE:
        assert torch.allclose(gradients[name], expected_gradients[name], rtol=1e-10, atol=1e-10), name


@both_ways
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_steps_over_long_sequences_neither_overflow_nor_divide_by_what_has_underflown(dtype, reverse):
    arguments = draw(2000, rows=2, channels=2)
    size = torch.tensor([0.0, 1e-30, 1.0, 1e4, 1e30]).double().repeat(400)
    arguments["step_BLE"] = size[None, :, None].expand(2, 2000, 2)
    arguments["x_BLE"] /= size.clamp(min=1)[None, :, None]
    arguments = {n: value if n == "observed_BL" else value.to(dtype) for n, value in arguments.items()}
    found, gradients = with_gradients(selective_scan, arguments, reverse=reverse)
    expected = naive(**arguments, reverse=reverse)
    assert found.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-10)


@both_ways
def test_steps_that_were_not_observed_might_as_well_not_be_there(reverse):
    arguments = draw(40, rows=1)
    seen = arguments["observed_BL"][0]
    shorter = {n: value if n == "rate_EN" else value[:, seen] for n, value in arguments.items()}
    found = selective_scan(**arguments, reverse=reverse)
    assert not seen.all()
    assert torch.allclose(found[:, seen], selective_scan(**shorter, reverse=reverse), rtol=0, atol=1e-12)
    assert not found[:, ~seen].any()


@both_ways
def test_nothing_is_read_where_nothing_was_observed_and_no_gradient_goes_there(reverse):
    arguments = draw(20)
    hidden = ~arguments["observed_BL"][..., None]
    poisoned = {
        n: value.masked_fill(hidden, torch.nan) if n in {"x_BLE", "step_BLE", "input_BLN", "output_BLN"} else value
        for n, value in arguments.items()
    }
    clean, clean_gradients = with_gradients(selective_scan, arguments, reverse=reverse)
    found, gradients = with_gradients(selective_scan, poisoned, reverse=reverse)
    assert torch.equal(found, clean)
    for name in DIFFERENTIABLE:
        assert torch.equal(gradients[name], clean_gradients[name]), name
        assert name == "rate_EN" or not gradients[name].masked_select(hidden).any(), name


@both_ways
def test_ragged_rows_are_each_what_they_are_alone(reverse):
    arguments = draw(23, rows=6)
    lengths = torch.tensor([1, 2, 9, 16, 22, 23])
    arguments["observed_BL"] &= torch.arange(23) < lengths[:, None]
    together = selective_scan(**arguments, reverse=reverse)
    for row, length in enumerate(lengths.tolist()):
        alone = {n: value if n == "rate_EN" else value[row : row + 1, :length] for n, value in arguments.items()}
        assert torch.allclose(together[row, :length], selective_scan(**alone, reverse=reverse)[0], rtol=0, atol=1e-12)
        assert not together[row, length:].any()


def test_a_states_bits_do_not_depend_on_how_much_comes_after_it():
    generator = torch.Generator().manual_seed(0)
    decay, drive = torch.rand(2, 100, generator=generator), torch.randn(2, 100, generator=generator)
    whole = linear_recurrence(decay, drive)
    for length in LENGTHS:
        assert torch.equal(linear_recurrence(decay[:, :length], drive[:, :length]), whole[:, :length])


def test_operations_one_after_another_grow_with_the_logarithm_of_the_length_and_work_with_the_length():
    counted = {}
    for length in (2, 4, 256, 2048):
        decay, drive = torch.rand(1, length), torch.rand(1, length)
        with Operations() as counted[length]:
            linear_recurrence(decay, drive)
    once = len(counted[4].names) - len(counted[2].names)  # for each time that the length doubles
    assert once < 40
    assert len(counted[2048].names) == len(counted[256].names) + 3 * once
    assert len(counted[2048].names) < 2048 / 4
    assert counted[2048].numbers < 8.1 * counted[256].numbers


@both_ways
def test_a_layers_output_depends_on_what_it_has_scanned_and_on_nothing_else(reverse):
    torch.manual_seed(0)
    layer = SelectiveStateSpace(8, 4).double()
    value, gate, observed = torch.randn(2, 9, 8).double(), torch.randn(2, 9, 8).double(), torch.ones(2, 9).bool()
    before = layer(value, gate, observed, reverse=reverse)
    value[:, 4] += 1.0
    moved = (layer(value, gate, observed, reverse=reverse) - before).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.tolist() == ([True] * 5 + [False] * 4 if reverse else [False] * 4 + [True] * 5)


def test_a_layer_selects_what_it_keeps_by_what_it_reads():
    """How much of the first step is left at the last one depends on the content of a step between them."""
    torch.manual_seed(0)
    layer, seen, gate = SelectiveStateSpace(8, 4).double(), torch.ones(1, 3).bool(), torch.ones(1, 3, 8).double()
    left = []
    for between in (0.0, 3.0):
        value = torch.ones(1, 3, 8).double().index_fill(1, torch.tensor(1), between)
        nudged = value + torch.tensor([1e-6, 0.0, 0.0]).double()[None, :, None]
        left.append((layer(nudged, gate, seen) - layer(value, gate, seen))[0, 2] / 1e-6)
    assert ((left[0] - left[1]).abs() / left[0].abs()).max() > 0.05


def test_a_layers_first_step_sizes_are_spread_over_its_range():
    torch.manual_seed(0)
    layer = SelectiveStateSpace(64, 4)
    first = torch.nn.functional.softplus(layer.step.bias)
    assert 0.0099 < first.min() < 0.05
    assert 0.5 < first.max() < 1.001


@pytest.mark.parametrize("length", [1, 6])
def test_every_parameter_of_a_layer_has_a_gradient_and_finite_where_nothing_was_observed(length):
    torch.manual_seed(0)
    layer = SelectiveStateSpace(8, 4)
    nothing = torch.full((2, length, 8), torch.nan)
    y = layer(nothing, nothing, torch.zeros(2, length).bool())
    assert not y.any()
    y.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
