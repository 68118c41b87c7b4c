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
        "2e603d10e922935c4c32979efee03b60c50852886a1729b4c0a1259e5150a656"
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


def test_the_extreme_draws_are_finite_and_symmetric(monkeypatch):
    """All bits zero is the furthest tail, all bits one the middle; neither overflows."""
    from mbd.privacy import noise

    class Constant:
        def __init__(self, byte):
            self.byte = byte

        def encryptor(self):
            return self

        def update(self, data):
            return bytes([self.byte]) * len(data)

    for byte, magnitude in ((0x00, 13.1), (0xFF, 0.0)):
        monkeypatch.setattr(noise, "Cipher", lambda *args, byte=byte, **kwargs: Constant(byte))
        (drawn,) = NoiseSource(SECRET).standard_normal(b"x", 1)
        assert abs(drawn) == pytest.approx(magnitude, abs=0.1)


def test_far_out_in_the_tail_the_numbers_are_as_fine_as_in_the_middle():
    """Beyond five sigma, draws do not fall on a coarse grid that would betray the mean under them."""
    drawn = NoiseSource(SECRET).standard_normal(b"tails", 4_000_000)
    far = np.sort(np.abs(drawn[np.abs(drawn) > 4.5]))
    assert len(far) > 15
    low_bits = np.rint(far * 2.0**28) % 2**12
    assert len(np.unique(low_bits)) > len(far) * 0.9


def test_the_commitment_binds_the_secret_and_neither_is_ever_printed():
    source = NoiseSource(SECRET)
    assert source.matches(source.commitment)
    assert not NoiseSource(b"\1" * 32).matches(source.commitment)
    assert SECRET.hex() not in source.commitment
    assert "secret" not in repr(source)


def test_a_short_secret_is_refused():
    with pytest.raises(PrivacyError, match="mbd keys init"):
        NoiseSource(b"short")
