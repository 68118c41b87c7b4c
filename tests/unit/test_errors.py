"""Every error of the tree crosses a process boundary whole."""

import pickle
from pathlib import Path

import pytest

from mbd.errors import LogAlarmError, MbdError, RowError, UtilityError

MORE = {UtilityError: {"mu": 0.5}, LogAlarmError: {"alarm": "fork", "evidence": Path("evidence.json")}}


def tree(kind):
    children = [child for child in kind.__subclasses__() if child.__module__ == kind.__module__]
    return [kind, *(below for child in children for below in tree(child))]


@pytest.mark.parametrize("kind", tree(MbdError), ids=lambda kind: kind.__name__)
def test_an_error_of_a_worker_arrives_with_its_message_and_remedy(kind):
    given = {RowError: ("row 3", "it is wrong.")}.get(kind, ("wrong.",))
    sent = kind(*given, remedy="mend it", **MORE.get(kind, {}))
    arrived = pickle.loads(pickle.dumps(sent))  # noqa: S301  (our own bytes)
    assert type(arrived) is kind
    assert (str(arrived), vars(arrived)) == (str(sent), vars(sent))
    assert arrived.remedy == "mend it"
