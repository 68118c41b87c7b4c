"""Token buckets, with a clock that the test moves."""

import pytest
from fastapi import Request

from api.limits import FAILURES_PER_MINUTE, Buckets, Limits, address_of
from api.problems import Kind, ProblemError


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def request_from(host):
    return Request({"type": "http", "client": (host, 1), "headers": []})


def test_a_bucket_is_emptied_and_fills_again(clock):
    buckets = Buckets(60, clock)
    assert [buckets.take("a") for _ in range(60)] == [0] * 60
    assert buckets.take("a") == pytest.approx(1)
    assert buckets.take("b") == 0
    clock.now = 0.5
    assert buckets.take("a") == pytest.approx(0.5)  # a refusal has cost nothing
    clock.now = 1.0
    assert (buckets.take("a"), buckets.take("a")) == (0, pytest.approx(1))
    clock.now = 1000.0
    assert [buckets.take("a") for _ in range(61)] == [0] * 60 + [pytest.approx(1)]


def test_what_is_given_back_never_overflows(clock):
    buckets = Buckets(2, clock)
    buckets.give_back("a")
    assert [bool(buckets.take("a")) for _ in range(3)] == [False, False, True]
    buckets.give_back("a")
    assert (buckets.wait("a"), buckets.take("a")) == (0, 0)
    assert buckets.wait("a") == pytest.approx(30)


def test_no_limit_is_no_limit_and_remembers_nobody(clock):
    buckets = Buckets(0, clock)
    assert {buckets.take("a") for _ in range(1000)} == {0}
    assert not buckets._levels


def test_many_clients_take_no_more_memory(clock):
    buckets = Buckets(1, clock)
    for n in range(10_001):
        buckets.take(str(n))
    assert len(buckets._levels) == 10_000
    assert buckets.take("0") == 0  # it was idle for longest
    assert buckets.take("10000") > 0


def test_who_has_proved_who_they_are_counts_for_themselves(clock):
    limits, here = Limits(3, clock), request_from("192.0.2.1")
    for principal in ("anna", "anna", "anna", "ben", "ben", "ben"):
        assert limits.enter("192.0.2.1", shows_credentials=True) == 0
        limits.charge(here, principal)
    with pytest.raises(ProblemError) as refused:
        limits.charge(here, "anna")
    assert (refused.value.kind, refused.value.headers) == (Kind.TOO_MANY_REQUESTS, {"retry-after": "20"})
    assert [bool(limits.enter("192.0.2.1", shows_credentials=False)) for _ in range(4)] == [False] * 3 + [True]


def test_an_address_from_which_logins_fail_may_show_no_credentials_for_a_while(clock):
    limits, here = Limits(600, clock), request_from("192.0.2.1")
    for _ in range(FAILURES_PER_MINUTE):
        assert limits.enter("192.0.2.1", shows_credentials=True) == 0
        limits.note_failure(here)
    assert limits.enter("192.0.2.1", shows_credentials=True) > 0
    assert limits.enter("192.0.2.1", shows_credentials=False) == 0
    assert limits.enter("192.0.2.2", shows_credentials=True) == 0
    clock.now = 60.0
    assert limits.enter("192.0.2.1", shows_credentials=True) == 0


@pytest.mark.parametrize(
    ("client", "address"),
    [
        (("192.0.2.1", 80), "192.0.2.1"),
        (("2001:db8:0:1:2:3:4:5", 80), "2001:db8:0:1::/64"),
        (("2001:db8:0:1::9", 80), "2001:db8:0:1::/64"),
        (("testclient", 80), "testclient"),
        (None, ""),
    ],
)
def test_a_customer_has_one_address_or_one_network(client, address):
    assert address_of({"type": "http", "client": client}) == address
