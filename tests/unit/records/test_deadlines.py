from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbd.records.deadlines import Deadlines, deadlines

DAYS = st.dates(date(2000, 1, 1), date(2090, 1, 1))
NEW_YEAR = date(2027, 1, 1)  # a Friday


@pytest.mark.parametrize(
    ("received", "answer", "extended"),
    [
        ("2026-11-26", "2026-12-28", "2027-02-26"),  # the 26th of December is a Saturday
        ("2026-01-31", "2026-03-02", "2026-04-30"),  # the 28th of February is a Saturday, April has 30 days
        ("2024-01-31", "2024-02-29", "2024-04-30"),  # a leap year
        ("2026-12-15", "2027-01-15", "2027-03-15"),
    ],
)
def test_gdpr_counts_calendar_months_to_a_working_day(received: str, answer: str, extended: str) -> None:
    found = deadlines("gdpr", date.fromisoformat(received))
    assert found == Deadlines(None, date.fromisoformat(answer), date.fromisoformat(extended))


def test_a_holiday_is_no_last_day() -> None:
    assert deadlines("gdpr", date(2026, 12, 1)).answer == NEW_YEAR
    assert deadlines("gdpr", date(2026, 12, 1), holidays={NEW_YEAR}).answer == date(2027, 1, 4)


@pytest.mark.parametrize(
    ("received", "acknowledge"),
    [
        ("2026-11-26", "2026-12-10"),  # a Thursday: two weeks
        ("2026-11-28", "2026-12-11"),  # a Saturday: the first business day is the Monday after
        ("2026-11-29", "2026-12-11"),
    ],
)
def test_ccpa_confirms_in_business_days_and_answers_in_calendar_days(received: str, acknowledge: str) -> None:
    day = date.fromisoformat(received)
    assert deadlines("ccpa", day) == Deadlines(
        date.fromisoformat(acknowledge), day + timedelta(days=45), day + timedelta(days=90)
    )


def test_a_holiday_is_no_business_day() -> None:
    assert deadlines("ccpa", date(2026, 12, 24), holidays={date(2026, 12, 25), NEW_YEAR}).acknowledge == date(
        2027, 1, 11
    )


def test_a_regime_without_a_time_has_the_policys() -> None:
    assert deadlines("bipa", NEW_YEAR, policy_days=14) == Deadlines(None, date(2027, 1, 15), None)


def test_an_article_does_not_hide_its_law() -> None:
    assert deadlines("GDPR-art-7-3", NEW_YEAR) == deadlines("gdpr", NEW_YEAR)


@given(DAYS, st.sampled_from(["gdpr", "ccpa", "bipa"]), st.sets(DAYS, max_size=5))
def test_an_extension_is_longer_and_nothing_is_due_before_it_came(day: date, regime: str, holidays: set[date]) -> None:
    found = deadlines(regime, day, holidays=holidays)
    assert day < found.answer == found.due(extended=False)
    assert found.due(extended=True) == (found.extended or found.answer)
    assert found.extended is None or found.extended > found.answer
    if regime == "gdpr":
        assert found.answer.weekday() < 5
        assert found.answer not in holidays
