"""Two accountants must agree before a private tower is trained."""

import pytest

from mbd.errors import PrivacyError
from mbd.privacy.accounting import Run, epsilon_of
from mbd.training import accountants
from mbd.training.accountants import agreed_epsilon


@pytest.mark.parametrize(
    ("run", "delta"),
    [
        (Run(0.01, 1.0, 1000), 1e-5),
        (Run(0.05, 8.0, 100), 1e-9),
        (Run(0.5, 4.0, 4), 1e-9),
        (Run(1.0, 10.0, 50), 1e-9),
        (Run(0.05, 100.0, 10), 1e-5),
    ],
)
def test_where_they_agree_dp_accountings_figure_counts(run, delta):
    assert agreed_epsilon(run, delta) == epsilon_of(run, delta)


def test_where_they_disagree_nothing_is_trained(monkeypatch):
    monkeypatch.setattr(accountants, "epsilon_of", lambda run, delta: 0.8 * epsilon_of(run, delta))
    with pytest.raises(PrivacyError, match="disagree") as refused:
        agreed_epsilon.__wrapped__(Run(0.05, 8.0, 101), 1e-9)
    assert refused.value.remedy
