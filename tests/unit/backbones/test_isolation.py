"""h_B is a function of the channels in B of its own row, and of nothing else. Every backbone is held to it."""

from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbd.backbones.zoo import ZOO
from mbd.cohort.batch import Batch
from mbd.cohort.modality import Modality, in_order, parse_pattern, pattern_name, subsets
from mbd.errors import TrainingError

BLOCKS = [pattern_name(block) for block in subsets(Modality)]
COLUMN = {modality: column for column, modality in enumerate(Modality)}

every_backbone = pytest.mark.parametrize("name", ZOO)
both_precisions = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])


def have(batch, block):
    """The same batch with the block's channels present in every row."""
    present = batch.present.clone()
    for modality in block:
        present[:, COLUMN[modality]] = True
    return replace(batch, present=present)


def tamper(batch, channels, *, how, seed):
    """The same batch with everything about ``channels`` changed in every row."""
    generator = torch.Generator().manual_seed(seed)
    features, valid, observed = dict(batch.features), dict(batch.valid), dict(batch.observed)
    present = batch.present.clone()
    for modality in channels:
        rows, frames, dim = features[modality].shape
        if how == "gone":
            del features[modality], valid[modality], observed[modality]
            present[:, COLUMN[modality]] = False
            continue
        frames += {"values": 0, "nan": 0, "longer": 3, "absent": 0}[how]
        features[modality] = 100 * torch.randn(rows, frames, dim, generator=generator)
        valid[modality] = torch.rand(rows, frames, generator=generator) < 0.5
        observed[modality] = valid[modality] & (torch.rand(rows, frames, generator=generator) < 0.5)
        present[:, COLUMN[modality]] = torch.rand(rows, generator=generator) < 0.5
        if how == "nan":
            features[modality][:] = torch.nan
        if how == "absent":
            present[:, COLUMN[modality]] = False
    return Batch(features, valid, observed, present, batch.target * torch.nan)


@every_backbone
@both_precisions
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    block=st.sampled_from(BLOCKS).map(parse_pattern),
    how=st.sampled_from(["values", "nan", "longer", "absent", "gone"]),
    seed=st.integers(0, 2**31),
)
def test_channels_outside_the_block_and_labels_never_change_a_bit(
    make_backbone, make_random_batch, *, name, dtype, block, how, seed
):
    backbone = make_backbone(name).to(dtype)
    batch = have(make_random_batch(seed=seed), block)
    tampered = tamper(batch, set(Modality) - block, how=how, seed=seed)
    assert torch.equal(backbone.embed(batch, block), backbone.embed(tampered, block))


@every_backbone
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.sampled_from(BLOCKS), min_size=12, max_size=12),
    how=st.sampled_from(["values", "nan", "absent"]),
    seed=st.integers(0, 2**31),
)
def test_a_row_with_a_block_of_its_own_shows_nothing_of_its_other_channels(
    make_backbone, make_random_batch, *, name, names, how, seed
):
    """In one pass over rows of different blocks: a channel changes no row whose block is without it, bit for bit."""
    backbone = make_backbone(name).double()
    blocks = [parse_pattern(block) for block in names]
    batch = have(make_random_batch(seed=seed, rows=12), set(Modality))
    before = backbone.embed_each(batch, blocks)
    for modality in Modality:
        after = backbone.embed_each(tamper(batch, {modality}, how=how, seed=seed), blocks)
        without = [i for i, block in enumerate(blocks) if modality not in block]
        assert torch.equal(after[without], before[without])


@every_backbone
def test_one_pass_over_many_blocks_gives_what_a_pass_for_each_block_gives(make_backbone, make_random_batch, name):
    backbone, batch = make_backbone(name).double(), make_random_batch(rows=35)
    blocks = [parse_pattern(BLOCKS[i % len(BLOCKS)]) for i in range(35)]
    together = backbone.embed_each(batch, blocks)
    for block in subsets(Modality):
        mine = [i for i, other in enumerate(blocks) if other == block]
        assert torch.allclose(together[mine], backbone.embed(batch, block)[mine], rtol=0, atol=1e-10)


@every_backbone
@pytest.mark.parametrize("block", BLOCKS)
def test_each_channel_of_the_block_does_change_it(make_backbone, make_random_batch, name, block):
    backbone, channels = make_backbone(name), parse_pattern(block)
    batch = have(make_random_batch(), channels)
    before = backbone.embed(batch, channels)
    for modality in channels:
        moved = replace(batch, features=batch.features | {modality: batch.features[modality] + 1})
        assert (backbone.embed(moved, channels) - before).abs().amax(dim=1).min() > 1e-4


@every_backbone
@pytest.mark.parametrize("block", BLOCKS)
def test_a_row_does_not_depend_on_its_batch_or_its_padding(make_backbone, make_random_batch, name, block):
    backbone, channels = make_backbone(name).double(), parse_pattern(block)
    padded = have(make_random_batch(rows=40, extra_frames=5), channels)
    together = backbone.embed(padded, channels)
    for row in range(40):
        lengths = {m: max(1, int(padded.valid[m][row].sum())) for m in padded.features}
        alone = replace(
            padded,
            features={m: x[row : row + 1, : lengths[m]] for m, x in padded.features.items()},
            valid={m: valid[row : row + 1, : lengths[m]] for m, valid in padded.valid.items()},
            observed={m: observed[row : row + 1, : lengths[m]] for m, observed in padded.observed.items()},
            present=padded.present[row : row + 1],
            target=padded.target[row : row + 1],
        )
        assert torch.allclose(backbone.embed(alone, channels)[0], together[row], rtol=0, atol=1e-10)


@every_backbone
def test_what_stands_in_the_padding_is_never_read(make_backbone, make_random_batch, name):
    backbone = make_backbone(name)
    batch = have(make_random_batch(extra_frames=3), set(Modality))
    poisoned = {m: x.masked_fill(~batch.observed[m][..., None], torch.nan) for m, x in batch.features.items()}
    block = frozenset(Modality)
    assert torch.equal(backbone.embed(batch, block), backbone.embed(replace(batch, features=poisoned), block))


@every_backbone
def test_the_clip_before_is_never_embedded(make_backbone, make_random_batch, name):
    """A row stands for itself in the lattice: what a network reads of other rows elsewhere, it does not read there."""
    backbone, block = make_backbone(name), frozenset(Modality)
    batch = have(make_random_batch(), block)
    following = replace(batch, context=have(make_random_batch(seed=1), block))
    assert torch.equal(backbone.embed(batch, block), backbone.embed(following, block))
    differs = not torch.equal(backbone(batch).prediction, backbone(following).prediction)
    assert differs == backbone.reads_context


@every_backbone
def test_rows_that_lack_a_channel_of_the_block_are_zero(make_backbone, make_random_batch, name):
    backbone, batch = make_backbone(name), make_random_batch(rows=30)
    for block in subsets(Modality):
        embedding = backbone.embed(batch, block)
        complete = batch.present[:, [COLUMN[m] for m in in_order(block)]].all(dim=1)
        assert complete.any()
        assert torch.equal(embedding.abs().sum(dim=1) > 0, complete)


@every_backbone
def test_embedding_draws_no_random_numbers_and_leaves_the_mode_alone(make_backbone, make_random_batch, name):
    backbone, batch, block = make_backbone(name).train(), make_random_batch(), frozenset({Modality.TEXT})
    state = torch.get_rng_state()
    first, second = backbone.embed(batch, block), backbone.embed(batch, block)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert backbone.training
    assert torch.equal(torch.get_rng_state(), state)


@every_backbone
def test_embeddings_have_the_backbones_width_and_precision(make_backbone, make_random_batch, name):
    backbone = make_backbone(name).double()
    embedding = backbone.embed(make_random_batch(rows=4), frozenset({Modality.TEXT}))
    assert embedding.shape == (4, backbone.embedding_dim)
    assert embedding.dtype == torch.float64


@every_backbone
@pytest.mark.parametrize("block", [frozenset(), frozenset({Modality.VISION, Modality.TEXT})])
def test_a_block_that_the_backbone_does_not_have_is_refused(make_backbone, make_random_batch, name, block):
    backbone = make_backbone(name, channels=(Modality.TEXT, Modality.AUDIO))
    with pytest.raises(TrainingError, match="use channels among: text, audio"):
        backbone.embed(make_random_batch(channels=(Modality.TEXT, Modality.AUDIO)), block)
