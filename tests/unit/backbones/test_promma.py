"""What is particular to ProMMA: evaluation before generation, and prompts that are shared, private, and weighed."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mbd.backbones.base import ChannelShape, Interface
from mbd.backbones.promma import information
from mbd.backbones.zoo import build
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality, subsets
from mbd.training.masking import as_columns, draw_patterns

TEXT, AUDIO, VISION = Modality
CHANNELS = {m: column for column, m in enumerate(Modality)}
ALL_BUT_NOISE = torch.tensor([[True, True, False]])
VOICE_ALONE = torch.tensor([[False, True, False]])
ECHO = 0.7  # the standard deviation of what the voice adds to the text that it repeats


@pytest.fixture
def complete(make_random_batch):
    """Rows that have every channel."""
    batch = make_random_batch(rows=40)
    return replace(batch, present=torch.ones_like(batch.present))


def a_problem(rows: int, seed: int, *, switched: bool = False) -> Batch:
    """Text decides the label and the voice repeats it through noise; the face is noise.

    With a switch, the second number of the voice says whether text counts at all in this row.
    """
    rng = np.random.default_rng(seed)
    x = {m: rng.standard_normal((rows, 1, 3)) for m in Modality}
    x[AUDIO][:, 0, 0] = x[TEXT][:, 0, 0] + ECHO * rng.standard_normal(rows)
    counts = x[AUDIO][:, :, 1] > 0 if switched else 1.0
    features = {m: torch.from_numpy(values).float() for m, values in x.items()}
    there = {m: torch.ones(rows, 1, dtype=torch.bool) for m in Modality}
    target = torch.from_numpy(counts * x[TEXT][:, :, 0]).float()
    return Batch(features, there, dict(there), torch.ones(rows, 3, dtype=torch.bool), target)


def trained(seed: int, *, switched: bool = False, steps: int = 400):
    """A small network after a short training, with channels masked as the training loop masks them."""
    torch.manual_seed(seed)
    interface = Interface({m: ChannelShape(dim=3, sequence=False) for m in Modality}, 1)
    backbone = build("promma", interface, {"width": 16, "dropout": 0.0, "input_dropout": 0.0}).train()
    rows, patterns = a_problem(1000, seed, switched=switched), as_columns(subsets(Modality))
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=5e-3, weight_decay=0.1)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 5e-3 * 0.5 * (1 + np.cos(np.pi * step / steps))
        some = rows.select(torch.randint(len(rows.present), (64,)))
        batch = some.mask(draw_patterns(some.present, patterns))
        sum(backbone.losses(backbone(batch), batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
    return backbone.eval()


@pytest.fixture(scope="module", params=[0, 1], ids="seed{}".format)
def expert(request):
    return trained(request.param), a_problem(500, 100 + request.param)


def with_gates(backbone, monkeypatch, **gates):
    """The network with some channels' gates fixed."""

    def gate(log_gain_BM, judge=backbone.gate):
        gate_BM = judge(log_gain_BM).clone()
        for name, value in gates.items():
            gate_BM[:, CHANNELS[Modality(name)]] = value
        return gate_BM

    monkeypatch.setattr(backbone, "gate", gate)
    return backbone


def move(backbone, monkeypatch, batch, channel):
    """How far imputing one channel at its own gate, and with the gate wide open, moves predictions (RMS)."""
    found = []
    with torch.no_grad():
        own = backbone(batch).prediction
        for value in (0.0, 1.0):
            with monkeypatch.context() as patch:
                found.append(with_gates(backbone, patch, **{channel.value: value})(batch).prediction)
    refused, imputed = found
    return (own - refused).square().mean().sqrt().item(), (imputed - refused).square().mean().sqrt().item()


# Evaluation before generation


def test_the_evaluator_tells_the_decisive_channel_from_noise(expert):
    """From the voice alone, text would take the voice's noise off the error; the face would take nothing off."""
    backbone, rows = expert
    with torch.no_grad():
        gain_BM = backbone(rows.mask(VOICE_ALONE)).terms["log_gain"].exp()
    text, _, vision = gain_BM.mean(dim=0).tolist()
    true = ECHO**2 / (1 + ECHO**2)  # the variance of the label given the voice
    assert 0.5 * true < text < 1.5 * true
    assert vision < 0.1 * text


def test_the_gate_lets_the_decisive_channel_in_and_refuses_noise(expert):
    backbone, rows = expert
    with torch.no_grad():
        gates = {
            pattern: backbone.gate(backbone(rows.mask(pattern)).terms["log_gain"])
            for pattern in (VOICE_ALONE, ALL_BUT_NOISE)
        }
    assert gates[VOICE_ALONE][:, CHANNELS[TEXT]].mean() > 0.65
    for gate_BM in gates.values():
        assert gate_BM[:, CHANNELS[VISION]].mean() < 0.05
        assert (gate_BM[:, CHANNELS[VISION]] == 0).float().mean() > 0.9


def test_imputed_noise_hardly_moves_predictions_because_of_the_gate(expert, monkeypatch):
    """In standard deviations of the label; without its gate noise would move them, and the decisive channel does."""
    backbone, rows = expert
    gated, ungated = move(backbone, monkeypatch, rows.mask(VOICE_ALONE), VISION)
    decisive, _ = move(backbone, monkeypatch, rows.mask(VOICE_ALONE), TEXT)
    assert gated < 0.01
    assert gated < 0.4 * ungated
    assert gated < 0.2 * decisive


def test_the_evaluator_judges_each_row_for_itself():
    """Where the voice says that text does not count, imputing text is worth less."""
    backbone, rows = trained(0, switched=True), a_problem(500, 100, switched=True)
    with torch.no_grad():
        gain_B = backbone(rows.mask(VOICE_ALONE)).terms["log_gain"].exp()[:, CHANNELS[TEXT]]
    counts_B = rows.features[AUDIO][:, 0, 1] > 0
    assert gain_B[counts_B].mean() > 3 * gain_B[~counts_B].mean()


@pytest.mark.parametrize("asked", list(Modality))
def test_the_evaluator_sees_the_other_channels_and_never_the_one_it_is_asked_about(make_backbone, complete, asked):
    backbone, column = make_backbone("promma"), CHANNELS[asked]
    before = backbone(complete).terms["log_gain"]
    moved = replace(complete, features=complete.features | {asked: complete.features[asked] + 1})
    after = backbone(moved).terms["log_gain"]
    lacking = complete.mask(torch.tensor([[m is not asked for m in Modality]]))
    assert torch.equal(after[:, column], before[:, column])
    assert torch.equal(backbone(lacking).terms["log_gain"][:, column], before[:, column])
    others = [c for c in range(3) if c != column]
    assert (after[:, others] != before[:, others]).all()


def test_the_evaluator_knows_which_channel_it_is_asked_about(make_backbone, complete):
    alone = complete.mask(VOICE_ALONE)
    log_gain_BM = make_backbone("promma")(alone).terms["log_gain"]
    assert (log_gain_BM[:, CHANNELS[TEXT]] != log_gain_BM[:, CHANNELS[VISION]]).all()


def test_gain_is_the_squared_move_of_the_prediction_with_nothing_imputed(make_backbone, make_random_batch, monkeypatch):
    backbone, batch = make_backbone("promma", outputs=3).double(), make_random_batch(rows=30, outputs=3)
    backbone.standardiser.target_scale.fill_(2.0)
    gain_BM = backbone(batch).terms["gain"]
    with_gates(backbone, monkeypatch, text=0.0, audio=0.0, vision=0.0)
    whole = backbone(batch).prediction
    for modality, column in CHANNELS.items():
        without = backbone(batch.mask(torch.tensor([[m is not modality for m in Modality]]))).prediction
        spare = batch.present[:, column] & (batch.present.sum(dim=1) > 1)
        expected = ((whole - without) / 2).square().mean(dim=1)
        assert spare.any()
        assert torch.allclose(gain_BM[spare, column], expected[spare], rtol=0, atol=1e-10)
        assert not gain_BM[~batch.present[:, column], column].any()


def test_the_teacher_has_no_dropout_no_gradient_and_leaves_the_mode_alone(make_backbone, complete):
    backbone = make_backbone("promma")
    calm = backbone(complete).terms["gain"]
    stormy = backbone.train()(complete).terms["gain"]
    assert torch.equal(calm, stormy)
    assert not calm.requires_grad
    assert all(module.training for module in backbone.modules())
    backbone.eval()(complete)
    assert not any(module.training for module in backbone.modules())


def test_judging_shapes_the_evaluator_and_nothing_else(make_backbone, complete):
    backbone = make_backbone("promma")
    backbone.losses(backbone(complete), complete)["evaluation"].backward()
    reached = {name.split(".")[0] for name, p in backbone.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"evaluator"}


def test_the_task_does_not_argue_with_the_evaluator(make_backbone, make_random_batch):
    backbone, batch = make_backbone("promma"), make_random_batch(rows=30)
    backbone.losses(backbone(batch), batch)["task"].backward()
    assert all(p.grad is None or not p.grad.any() for p in backbone.evaluator.parameters())
    assert any(p.grad.any() for p in backbone.generators.parameters())


def test_a_gain_up_to_the_threshold_opens_nothing_and_a_large_one_everything(make_backbone):
    gate = make_backbone("promma", threshold=0.1).gate
    gain = torch.tensor([0.0, 0.05, 0.1, 0.2, 100.0])
    assert gate(gain.log()).tolist() == pytest.approx([0.0, 0.0, 0.0, 0.5, 0.999], abs=1e-6)


@pytest.mark.parametrize("missing", list(Modality))
def test_what_is_refused_is_not_read_and_what_is_let_in_is(make_backbone, complete, monkeypatch, missing):
    backbone = make_backbone("promma")
    lacking = complete.mask(torch.tensor([[m is not missing for m in Modality]]))

    def answers(gate):
        with monkeypatch.context() as patch:
            return with_gates(backbone, patch, **{missing.value: gate})(lacking).embedding

    before = {gate: answers(gate) for gate in (0.0, 0.5)}
    with torch.no_grad():
        backbone.generators[missing.value].down.bias.add_(torch.linspace(-1, 1, 8))
    assert torch.equal(answers(0.0), before[0.0])
    assert (answers(0.5) - before[0.5]).abs().amax(dim=1).min() > 1e-4


def test_a_channel_that_is_there_is_neither_judged_nor_generated(make_backbone, complete):
    backbone = make_backbone("promma")
    before = backbone(complete).prediction
    with torch.no_grad():
        for parameter in [*backbone.evaluator.parameters(), *backbone.generators.parameters()]:
            parameter.add_(1.0)
    assert torch.equal(backbone(complete).prediction, before)


def test_in_training_rows_also_practise_being_without(make_backbone, complete, monkeypatch):
    """At a refusal of one nothing is imputed in training, and of a half some rows are."""
    lacking = complete.mask(VOICE_ALONE)
    imputed = {}
    for refusal in (0.0, 0.5, 1.0):
        backbone = make_backbone("promma", refusal=refusal, dropout=0.0, input_dropout=0.0, threshold=0.0).train()
        imputed[refusal] = (backbone(lacking).weights[:, CHANNELS[TEXT]] > 0).sum().item()
    assert imputed[0.0] == 40
    assert 5 < imputed[0.5] < 35
    assert imputed[1.0] == 0


def test_rows_with_one_channel_have_nothing_to_judge_or_reconstruct(make_backbone, complete):
    backbone, alone = make_backbone("promma"), complete.mask(VOICE_ALONE)
    terms = backbone.losses(backbone(alone), alone)
    assert terms["evaluation"].item() == 0.0
    assert terms["reconstruction"].item() == 0.0


def test_a_lone_declared_channel_has_neither_evaluator_nor_generator(make_backbone, make_random_batch):
    backbone, batch = make_backbone("promma", channels=(TEXT,)), make_random_batch(rows=5, channels=(TEXT,))
    assert {group.name for group in backbone.parameter_groups()} == {"text", "prompts", "shared"}
    assert set(backbone.losses(backbone(batch), batch)) == {"task", "disentanglement"}


@pytest.mark.parametrize("term", ["task", "reconstruction", "evaluation", "disentanglement"])
def test_each_loss_term_can_be_learned(descend, make_backbone, complete, term):
    first, last = descend(make_backbone("promma"), complete, term)
    assert last < first - 0.2 * abs(first)


def test_the_reconstruction_target_carries_no_gradient(make_backbone, complete):
    """With generators that ignore their sources, encoders are targets only, and must feel nothing."""
    backbone = make_backbone("promma")
    for generator in backbone.generators.values():
        with torch.no_grad():
            generator.up.weight.zero_()
    backbone.losses(backbone(complete), complete)["reconstruction"].backward()
    assert all(p.grad is None or not p.grad.any() for p in backbone.encoders.parameters())
    assert any(p.grad.any() for p in backbone.generators.parameters())


# Prompts


def test_every_level_has_prompts_of_its_own_and_each_matters(make_backbone, complete):
    backbone = make_backbone("promma", levels=3)
    before = backbone(complete).prediction
    kept = backbone.prompts.detach().clone()
    moved = []
    for level in range(3):
        with torch.no_grad():
            backbone.prompts[level] = 0.0
        moved.append(backbone(complete).prediction - before)
        with torch.no_grad():
            backbone.prompts.copy_(kept)
    assert all(each.abs().min() > 1e-5 for each in moved)
    assert not torch.allclose(moved[0], moved[1], atol=1e-4)
    assert not torch.allclose(moved[1], moved[2], atol=1e-4)


def test_removing_what_the_prompts_learnt_makes_predictions_worse(expert):
    backbone, rows = expert
    with torch.no_grad():
        before = backbone.losses(backbone(rows), rows)["task"]
        kept = backbone.prompts.clone()
        backbone.prompts.zero_()
        after = backbone.losses(backbone(rows), rows)["task"]
        backbone.prompts.copy_(kept)
    assert after > 1.1 * before


def test_prompts_are_added_to_the_output_of_self_attention(make_backbone):
    """With attention and MLP silent, a level adds the shared prompts that match, and the private ones by weight."""
    level = make_backbone("promma").levels[0].double()
    with torch.no_grad():
        for part in (level.out, level.refine.down):
            part.weight.zero_()
            part.bias.zero_()
    x_BMD, shared_ND, private_MND = torch.randn(5, 3, 8), torch.randn(4, 8), torch.randn(3, 4, 8)
    x_BMD, shared_ND, private_MND = x_BMD.double(), shared_ND.double(), private_MND.double()
    y_BMD, weight_BM = level(x_BMD, torch.zeros(5, 3).double(), shared_ND, private_MND)
    match_BMN = (level.ask(level.norm(x_BMD)) @ shared_ND.T / 8**0.5).softmax(dim=2)
    for m in range(3):
        added_BD = match_BMN[:, m] @ shared_ND + weight_BM[:, m, None] * (match_BMN[:, m] @ private_MND[m])
        assert torch.allclose(y_BMD[:, m], x_BMD[:, m] + added_BD, atol=1e-10)


@pytest.mark.parametrize("owner", list(Modality))
def test_private_prompts_serve_rows_that_have_their_channel(make_backbone, complete, monkeypatch, owner):
    backbone = with_gates(make_backbone("promma"), monkeypatch, text=0.0, audio=0.0, vision=0.0)
    lacking = complete.mask(torch.tensor([[m is not owner for m in Modality]]))
    before = [backbone(batch).embedding for batch in (complete, lacking)]
    with torch.no_grad():
        backbone.disentangle[owner.value].bias.add_(torch.linspace(-1, 1, 8))
    after = [backbone(batch).embedding for batch in (complete, lacking)]
    assert (after[0] - before[0]).abs().amax(dim=1).min() > 1e-4
    assert torch.equal(after[1], before[1])


def test_the_disentangling_loss_is_one_for_equal_and_zero_for_orthogonal_prompts(make_backbone, complete):
    backbone = make_backbone("promma", levels=1, prompts=2, disentanglement=1.0)

    def loss():
        return backbone.losses(backbone(complete), complete)["disentanglement"].item()

    with torch.no_grad():
        backbone.prompts.copy_(torch.eye(8)[0].expand(1, 2, 8))
        for part in backbone.disentangle.values():
            part.weight.copy_(-torch.eye(8))  # opposite is not apart
            part.bias.zero_()
    assert loss() == pytest.approx(1.0)
    with torch.no_grad():
        for at, part in enumerate(backbone.disentangle.values(), start=1):
            part.weight.copy_(torch.eye(8).roll(at, dims=0))
    assert loss() == pytest.approx(0.0)


def test_training_keeps_shared_and_private_prompts_apart(make_backbone, complete):
    """With the loss, descent on all terms leaves smaller angles' cosines than without it."""
    left = {}
    for weight in (0.0, 1.0):
        backbone = make_backbone("promma", disentanglement=weight, width=16)
        optimiser = torch.optim.AdamW(backbone.parameters(), lr=0.01, weight_decay=0.0)
        for _ in range(60):
            sum(backbone.losses(backbone(complete), complete).values()).backward()
            optimiser.step()
            optimiser.zero_grad()
        left[weight] = backbone._entanglement().item()
    assert left[1.0] < 0.2 * left[0.0]


# Weights


def test_information_is_nothing_for_a_channel_that_matches_all_prompts_and_all_for_one_that_matches_one():
    vague, half, sure = torch.ones(4) / 4, torch.tensor([0.5, 0.5, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 0.0])
    log_match_BMN = torch.stack([vague, half, sure])[None].clamp(min=1e-30).log()
    assert information(log_match_BMN)[0].tolist() == pytest.approx([0.0, np.log(2), np.log(4)], abs=1e-6)


def test_the_mean_information_over_rows_is_the_mutual_information_of_channel_and_prompt():
    """Of rows that match the prompts equally often: every permutation of the prompts is a row."""
    one = torch.rand(4, generator=torch.Generator().manual_seed(0)).double()
    match_BN = torch.stack([one.roll(shift) for shift in range(4)]) / one.sum()
    joint_BN = match_BN / 4
    mutual = (joint_BN * (joint_BN / (joint_BN.sum(0) * joint_BN.sum(1, keepdim=True))).log()).sum()
    assert information(match_BN.log()[:, None]).mean().item() == pytest.approx(mutual.item(), abs=1e-12)


def test_of_two_channels_the_more_informative_weighs_more(make_backbone):
    """Whichever it is, row by row, and though both are there."""
    level = make_backbone("promma", width=16).levels[0]
    torch.manual_seed(0)
    x_BMD, shared_ND = torch.randn(20, 2, 16), 3 * torch.randn(4, 16)
    _, weight_BM = level(x_BMD, torch.zeros(20, 2), shared_ND, torch.randn(2, 4, 16))
    match_BMN = (level.ask(level.norm(x_BMD)) @ shared_ND.T / 4).softmax(dim=2)
    entropy_BM = -(match_BMN * match_BMN.log()).sum(dim=2)
    assert torch.equal(weight_BM.argmax(dim=1), entropy_BM.argmin(dim=1))
    assert set(weight_BM.argmax(dim=1).tolist()) == {0, 1}
    assert torch.allclose((weight_BM[:, 0] / weight_BM[:, 1]).log(), entropy_BM[:, 1] - entropy_BM[:, 0], atol=1e-5)


def test_a_refused_channel_does_not_count(make_backbone, complete, monkeypatch):
    backbone = with_gates(make_backbone("promma"), monkeypatch, vision=0.0)
    weights_BM = backbone(complete.mask(ALL_BUT_NOISE)).weights
    assert not weights_BM[:, CHANNELS[VISION]].any()
    assert torch.allclose(weights_BM.sum(dim=1), torch.ones(40))


def test_a_channel_let_in_counts_by_its_gate(make_backbone, complete, monkeypatch):
    """Up to information, shares are odds: a channel at half its gate has half the weight of one that is there."""
    backbone = with_gates(make_backbone("promma"), monkeypatch, vision=0.5)
    for level in backbone.levels:
        with torch.no_grad():
            level.ask.weight.zero_()
    weights_BM = backbone(complete.mask(ALL_BUT_NOISE)).weights
    assert weights_BM[0].tolist() == pytest.approx([0.4, 0.4, 0.2], abs=1e-6)


def test_gradients_reach_every_parameter_group_in_training(make_backbone, make_random_batch):
    backbone, batch = make_backbone("promma").train(), make_random_batch(rows=30)
    torch.manual_seed(1)
    sum(backbone.losses(backbone(batch), batch).values()).backward()
    reached = {group.name: any(p.grad.any() for p in group.parameters) for group in backbone.parameter_groups()}
    assert reached == dict.fromkeys(["text", "audio", "vision", "prompts", "evaluator", "shared"], True)


def test_loss_weights_scale_their_terms_and_zero_switches_them_off(make_backbone, complete):
    once, twice, off = (make_backbone("promma", reconstruction=w, disentanglement=w) for w in (1.0, 2.0, 0.0))
    terms = [backbone.losses(backbone(complete), complete) for backbone in (once, twice, off)]
    assert torch.equal(terms[0]["task"], terms[1]["task"])
    for name in ("reconstruction", "disentanglement"):
        assert terms[1][name].item() == pytest.approx(2 * terms[0][name].item(), rel=1e-5)
        assert terms[2][name].item() == 0.0
