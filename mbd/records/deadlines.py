"""Until when a request must be acknowledged and answered, as a table of regimes. It knows no table of SQL and no clock.

Days are calendar days of UTC; a deadline is the last day on which the answer is in time.

- GDPR, article 12(3): one month from receipt, two months more where that is necessary. How a month is counted says
  Regulation 1182/71, article 3: to the same day of the month, or its last one; and a period whose last day is a
  Saturday, a Sunday or a holiday ends with the next working day.
- CCPA regulations, 11 CCR section 7021: a confirmation within 10 business days, the answer within 45 calendar days from
  receipt, however long the verification takes, and 45 more with notice.
- A regime that sets no time, BIPA among them, has the policy's.
"""

import calendar
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import date, timedelta

POLICY_DAYS = 30
"""For regimes whose law sets no time."""

_SATURDAY = 5


@dataclass(frozen=True)
class Deadlines:
    """The last days of a request.

    Attributes:
        acknowledge: to tell the person that it has come; None where the regime does not ask for it.
        answer: to have it done, or denied.
        extended: the same with the extension; None where the regime knows none.
    """

    acknowledge: date | None
    answer: date
    extended: date | None

    def due(self, *, extended: bool) -> date:
        """The last day in force."""
        return self.extended if extended and self.extended is not None else self.answer


def deadlines(
    regime: str,
    received: date,
    *,
    holidays: AbstractSet[date] = frozenset(),
    policy_days: int = POLICY_DAYS,
) -> Deadlines:
    """The last days of a request under a regime.

    Args:
        regime: as it stands in the request; what follows a first ``-`` names an article, as in ``gdpr-art-7-3``.
        received: the day on which it came.
        holidays: days that are not working days, besides Saturdays and Sundays.
        policy_days: of regimes that set no time, in calendar days.
    """
    match regime.lower().partition("-")[0]:
        case "gdpr" | "uk":
            month, three = (_working(_add_months(received, count), holidays) for count in (1, 3))
            return Deadlines(None, month, three)
        case "ccpa" | "cpra":
            acknowledge = _add_business_days(received, 10, holidays)
            return Deadlines(acknowledge, received + timedelta(days=45), received + timedelta(days=90))
        case _:
            return Deadlines(None, received + timedelta(days=policy_days), None)


def _add_months(day: date, months: int) -> date:
    """The same day of a later month; where it has none, that month's last."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    last = calendar.monthrange(year, month + 1)[1]
    return date(year, month + 1, min(day.day, last))


def _add_business_days(day: date, count: int, holidays: AbstractSet[date]) -> date:
    for _ in range(count):
        day = _working(day + timedelta(days=1), holidays)
    return day


def _working(day: date, holidays: AbstractSet[date]) -> date:
    """The day, or the next that is neither a Saturday nor a Sunday nor a holiday."""
    while day.weekday() >= _SATURDAY or day in holidays:
        day += timedelta(days=1)
    return day
