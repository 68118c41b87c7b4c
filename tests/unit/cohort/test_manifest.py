"""The verifier here is written from RFC 9162 section 2.1.3.2 and shares nothing with the prover."""

import hashlib
import hmac
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.cohort.cohort import EVERYONE, Partition, Split
from mbd.cohort.manifest import build_manifest
from mbd.cohort.modality import Modality
from mbd.errors import CohortError

KEY = bytes(range(32))


def root_from(index, size, leaf, path):
    fn, sn = index, size - 1
    data = json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    node = hashlib.sha256(b"\0" + data).digest()
    for sibling in map(bytes.fromhex, path):
        assert sn > 0
        if fn & 1 or fn == sn:
            node = hashlib.sha256(b"\1" + sibling + node).digest()
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            node = hashlib.sha256(b"\1" + node + sibling).digest()
        fn, sn = fn >> 1, sn >> 1
    assert sn == 0
    return node.hex()


def holds(proof, root, size):
    """Whether an absence proof convinces somebody who has only the root and the number of leaves."""
    key = [proof["partition"], proof["modality"]] + ([proof["subject"]] if proof["subject"] is not None else [])

    def prefix(side):
        fields = [side["leaf"][name] for name in ("partition", "modality", "subject")]
        return [field.encode() for field in fields[: len(key)]]

    wanted = [part.encode() for part in key]
    left, right = proof["left"], proof["right"]
    for side in (left, right):
        if side and root_from(side["index"], size, side["leaf"], side["path"]) != root:
            return False
    first = left["index"] + 1 if left else 0
    last = right["index"] if right else size
    return first == last and (not left or prefix(left) < wanted) and (not right or wanted < prefix(right))


@given(seed=st.integers(0, 10**6), subject=st.integers(4, 8), modality=st.sampled_from(list(Modality)))
def test_after_a_withdrawal_the_absence_of_the_channel_is_proved(random_cohort, seed, subject, modality):
    cohort = random_cohort(seed)
    after = build_manifest(cohort.without([(f"s{subject}", modality)]), KEY)
    proof = after.absence(f"s{subject}", modality)
    assert holds(proof, after.root, len(after.leaves))
    name = hmac.digest(after.opening(f"s{subject}"), b"mbd manifest subject v2\0" + f"s{subject}".encode(), "sha256")
    assert proof["subject"] == name.hex()


@given(seed=st.integers(0, 10**6), modality=st.sampled_from(list(Modality)))
def test_after_everyone_withdrew_the_absence_of_the_modality_is_proved(random_cohort, seed, modality):
    after = build_manifest(random_cohort(seed).without([(EVERYONE, modality)]), KEY)
    proof = after.absence(EVERYONE, modality)
    assert proof["subject"] is None
    assert holds(proof, after.root, len(after.leaves))


def test_the_absence_of_a_channel_that_is_there_is_not_provable(small):
    manifest = build_manifest(small, KEY)
    with pytest.raises(CohortError, match="still holds audio of subject 'cem'"):
        manifest.absence("cem", Modality.AUDIO)
    with pytest.raises(CohortError, match="still holds text of the revocable partition"):
        manifest.absence(EVERYONE, Modality.TEXT)


def test_each_partition_proves_the_absence_of_whom_it_does_not_hold(small):
    manifest = build_manifest(small, KEY)
    for who, where in (("ann", Partition.PUBLIC), ("cem", Partition.REVOCABLE), ("nobody", None)):
        for partition in Partition:
            if partition is where:
                with pytest.raises(CohortError, match=f"subject '{who}'"):
                    manifest.absence(who, Modality.TEXT, partition)
            else:
                proof = manifest.absence(who, Modality.TEXT, partition)
                assert proof["partition"] == partition.value
                assert holds(proof, manifest.root, len(manifest.leaves))


def test_an_empty_tree_proves_every_absence(small):
    empty = build_manifest(small.select([]), KEY)
    proof = empty.absence("cem", Modality.AUDIO)
    assert (proof["left"], proof["right"]) == (None, None)
    assert empty.root == hashlib.sha256(b"").hexdigest()


def test_a_proof_for_one_tree_does_not_hold_in_another(small):
    before = build_manifest(small, KEY)
    after = build_manifest(small.revoke([("cem", Modality.AUDIO)]), KEY)
    proof = after.absence("cem", Modality.AUDIO)
    assert holds(proof, after.root, len(after.leaves))
    assert not holds(proof, before.root, len(before.leaves))


def test_there_is_one_leaf_for_each_row_and_present_channel_in_byte_order(small):
    manifest = build_manifest(small, KEY)
    assert len(manifest.leaves) == small.presence.sum() == 27
    assert manifest.rows == 15
    ordered = [(leaf.partition, leaf.modality, leaf.subject, leaf.content) for leaf in manifest.leaves]
    assert ordered == sorted(ordered)


def test_the_root_does_not_depend_on_the_order_of_rows(small):
    shuffled = small.select(np.random.default_rng(1).permutation(len(small)))
    assert build_manifest(shuffled, KEY).root == build_manifest(small, KEY).root


def test_the_root_changes_with_every_part_of_a_row(small):
    def with_row(**changes):
        return replace(small, rows=(replace(small.rows[0], **changes), *small.rows[1:]))

    text = small.features[Modality.TEXT]
    nudged = (np.nextafter(text[0], np.float32(9)), *text[1:])
    roots = {
        build_manifest(cohort, KEY).root
        for cohort in (
            small,
            with_row(clip="other"),
            with_row(subject="other"),
            with_row(label=0.25),
            with_row(split=Split.TEST),
            with_row(partition=Partition.REVOCABLE),
            replace(small, features={**small.features, Modality.TEXT: nudged}),
        )
    }
    assert len(roots) == 7


def test_under_another_key_no_commitment_is_the_same(small):
    one, other = build_manifest(small, KEY), build_manifest(small, KEY[::-1])
    assert not {leaf.subject for leaf in one.leaves} & {leaf.subject for leaf in other.leaves}
    assert not {leaf.content for leaf in one.leaves} & {leaf.content for leaf in other.leaves}


def test_the_key_does_not_show_when_a_manifest_is_printed(small):
    assert repr(KEY) not in repr(build_manifest(small, KEY))


def test_a_short_key_is_refused(small):
    with pytest.raises(CohortError, match="32 bytes, not 16"):
        build_manifest(small, KEY[:16])
