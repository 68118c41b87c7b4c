import re
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from mbd.records.lifecycle import Denial
from mbd.records.messages import Message
from mbd.records.requests import Revocation
from mbd.records.suppression import Channel
from mbd.workflow.notifying.texts import Facts, subject_of, text_of

DOCS = Path(__file__).resolve().parents[3] / "docs" / "messages.md"
ID = "rev-3f0c2a9b8d7e6f51"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def facts(*modalities: str, **more) -> Facts:
    scope = tuple(Channel("anna-key", modality) for modality in modalities or ("audio",))
    asked = Revocation(ID, "digest", "gdpr", scope, NOON, date(2026, 4, 1))
    known = {
        "public_url": "https://privacy.example.org/",
        "code": "04711815",
        "valid_until": datetime(2026, 3, 1, 12, 30, tzinfo=UTC),
        "reason": "many requests at once",
        "certificates": ("mdc-90e64c3d61a432de", "mdc-2b"),
    }
    return Facts(asked, "log.example.org/main", **(known | more))


@pytest.mark.parametrize("kind", Message)
def test_a_message_says_which_request_it_is_about_and_who_sends_it_in_lines_that_fit(kind):
    subject, text = subject_of(kind, facts()), text_of(kind, facts())
    assert ID in subject
    assert ID in text
    assert "https://privacy.example.org" in text
    assert max(map(len, text.splitlines())) < 80
    assert text.endswith("ended.\n")
    assert "None" not in subject + text
    assert "anna-key" not in subject + text


@pytest.mark.parametrize("kind", [kind for kind in Message if kind is not Message.CODE])
def test_no_other_message_holds_the_code(kind):
    assert "04711815" not in text_of(kind, facts())


@pytest.mark.parametrize("kind", Message)
def test_a_locked_screen_shows_neither_the_code_nor_what_is_asked(kind):
    assert not re.search("04711815|voice", subject_of(kind, facts()))


@pytest.mark.parametrize("kind", [kind for kind in Message if kind is not Message.CODE])
def test_the_channels_are_named_as_people_call_them(kind):
    for modalities, words in {
        ("audio",): "using your voice",
        ("vision", "audio"): "using your voice and your face",
        ("vision", "audio", "text"): "using your words, your voice and your face",
        ("gait",): "using gait",
    }.items():
        assert words in " ".join(text_of(kind, facts(*modalities)).split())


def test_each_message_says_what_it_is_for():
    assert "    04711815\n" in text_of(Message.CODE, facts())
    assert "before 12:30 UTC on 1 March 2026" in text_of(Message.CODE, facts())
    assert "by 1 April 2026" in text_of(Message.RECEIVED, facts())
    assert "by 1 April 2026" in text_of(Message.EXTENDED, facts())
    assert "The reason: many requests at once\n" in text_of(Message.EXTENDED, facts())
    assert "    rev-1\n" in text_of(Message.DUPLICATE, facts(reason="rev-1"))
    assert "    https://privacy.example.org/v1/certificates/mdc-2b\n" in text_of(Message.COMPLETED, facts())
    assert "    mdc-2b\n" in text_of(Message.COMPLETED, facts(public_url=None))


def test_every_reason_to_deny_is_said_in_words_of_its_own():
    said = {text_of(Message.DENIED, facts(reason=reason.value)) for reason in Denial}
    assert len(said) == len(Denial)
    assert not any(reason.value in text.split() for reason in Denial for text in said if reason is not Denial.OTHER)


def test_an_officers_line_breaks_do_not_make_paragraphs():
    assert "many requests at once" in text_of(Message.EXTENDED, facts(reason="many\r\n\r\nrequests\x0cat once"))


def test_the_example_of_the_documentation_is_what_is_sent():
    (shown,) = re.findall(r"```text\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    sent = f"Subject: {subject_of(Message.CODE, facts())}\n\n{text_of(Message.CODE, facts())}"
    assert shown == sent.replace("-- \n", "--\n")
