import hashlib

import numpy as np
import pytest
from scipy.stats import kstest

from mbd.errors import PrivacyError
from mbd.privacy.noise import NoiseSource

SECRET = bytes(range(32))


def test_the_stream_is_frozen_so_that_old_releases_can_be_replayed():
    drawn = NoiseSource(SECRET).standard_normal(b"context", 1000)
    assert hashlib.sha256(drawn.round(9).tobytes()).hexdigest() == (
        "7aec7900ff4a69e99263801c4d983140d04632361e22bd95fd7f4f2f4bfad440"
    )


def test_one_context_gives_one_stream_and_a_longer_draw_extends_it():
    source = NoiseSource(SECRET)
    assert np.array_equal(source.standard_normal(b"a", 10), source.standard_normal(b"a", 100)[:10])


def test_other_contexts_and_other_secrets_give_unrelated_streams():
    base = NoiseSource(SECRET).standard_normal(b"a", 20_000)
    for other in (
        NoiseSource(SECRET).standard_normal(b"b", 20_000),
        NoiseSource(b"\1" * 32).standard_normal(b"a", 20_000),
    ):
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.04


def test_the_numbers_are_standard_normal():
    drawn = NoiseSource(SECRET).standard_normal(b"distribution", 200_000)
    assert kstest(drawn, "norm").pvalue > 1e-3
    assert np.isfinite(drawn).all()
    assert abs(drawn).max() < 8.3


def test_the_commitment_binds_the_secret_and_neither_is_ever_printed():
    source = NoiseSource(SECRET)
    assert source.matches(source.commitment)
    assert not NoiseSource(b"\1" * 32).matches(source.commitment)
    assert SECRET.hex() not in source.commitment
    assert "secret" not in repr(source)


def test_a_short_secret_is_refused():
    with pytest.raises(PrivacyError, match="mbd keys init"):
        NoiseSource(b"short")
