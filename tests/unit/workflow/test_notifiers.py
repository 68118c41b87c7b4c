import re
import stat
import sys
from datetime import UTC, datetime
from email import message_from_string
from email.policy import SMTP as WIRE
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from certs.errors import KeyFileError
from mbd.errors import FilingError, NotifierError, SettingsError
from mbd.settings import Settings
from mbd.workflow.notifying.contact import check_contact, is_email
from mbd.workflow.notifying.mail import MailNotifier, open_mail
from mbd.workflow.notifying.notifier import FolderNotifier, Letter, open_notifier

DOCS = Path(__file__).resolve().parents[3] / "docs" / "messages.md"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAIL = Settings(notifier="smtp://127.0.0.1", mail_from="Privacy desk <privacy@example.org>")
OPENED = open_mail(MAIL)

GOOD = [
    "anna@example.org",
    "anna.b+mbd=1@mail.example.org",
    "o'neil@example.org",
    "用户@例子.广告",
    "anna@xn--fsq.example",
    "anna@localhost",
    "a" * 64 + "@example.org",
]
BAD = [
    "",
    "anna",
    "@example.org",
    "anna@",
    "anna@example.org\r\nBcc: eve@example.org",
    "anna@example.org\nRCPT TO:<eve@example.org>",
    "anna@example.org,eve@example.org",
    "anna@example.org;eve@example.org",
    "anna@example.org eve@example.org",
    "anna@example.org@eve.example",
    "Anna <anna@example.org>",
    "<anna@example.org>",
    "friends:anna@example.org;",
    '"anna b"@example.org',
    "anna(eve)@example.org",
    "anna@[127.0.0.1]",
    "anna..b@example.org",
    ".anna@example.org",
    "anna.@example.org",
    "anna@example..org",
    "anna@.example.org",
    "anna@example.org.",
    " anna@example.org",
    "anna@example.org\0",
    "anna@example.org\u202e",
    "anna\u200b@example.org",
    "anna@exam\u2028ple.org",
    "ann\ud800a@example.org",
    "a" * 65 + "@example.org",
    "a@" + "b." * 126 + "cd",
]


@pytest.mark.parametrize("contact", GOOD)
def test_an_address_is_an_address(contact):
    assert is_email(contact)
    check_contact(MAIL, contact)


@pytest.mark.parametrize("contact", BAD, ids=ascii)
def test_what_is_not_one_plain_address_is_refused(contact):
    assert not is_email(contact)
    with pytest.raises(FilingError, match="not one e-mail address"):
        check_contact(MAIL, contact)


@settings(max_examples=50)
@given(st.builds("{}@{}".format, st.text(min_size=1), st.text(min_size=1)) | st.emails())
@example("=?utf-8?q?eve=40example.org?=@example.org")
@example("anna@=?utf-8?q?example.org?=")
@example("用户" * 20 + "@" + "例子." * 40 + "广告")
@example("a" * 64 + "@" + "b." * 90 + "c")
def test_whatever_is_taken_stands_in_a_mail_as_one_address_and_nothing_else(contact):
    if not is_email(contact):
        return
    mail = OPENED._mail(letter(to=contact))
    raw = mail.as_bytes(policy=WIRE.clone(utf8=not contact.isascii()))  # as smtplib does
    read = message_from_string(raw.decode(), policy=WIRE)
    assert [address.addr_spec for address in read["To"].addresses] == [contact]
    assert read.keys() == mail.keys()


@pytest.mark.parametrize("notifier", ["folder:/tmp/x", "python:some.plugin:make"])
def test_other_notifiers_reach_people_in_other_ways_too(notifier):
    chosen = Settings(notifier=notifier)
    for contact in ("anna@example.org", "tel:+491234567", "matrix:u/anna:example.org"):
        check_contact(chosen, contact)
    for contact in ("", "anna", "tel:", "Tel:+49", "tel:+49\n1", "tel:\u202e1", "tel:" + "1" * 251):
        with pytest.raises(FilingError, match="scheme:value"):
            check_contact(chosen, contact)


def test_mail_reaches_nobody_by_telephone():
    with pytest.raises(FilingError, match="e-mail"):
        check_contact(MAIL, "tel:+491234567")


def test_without_a_notifier_no_contact_is_taken():
    assert open_notifier(Settings()) is None
    with pytest.raises(FilingError, match="sends no messages"):
        check_contact(Settings(), "anna@example.org")


@pytest.mark.parametrize(
    "notifier",
    [
        "",
        "smtp",
        "smtp://",
        "smtp://user:secret@mail.example.org",
        "smtp://mail.example.org/path",
        "smtp://mail.example.org:",
        "smtp://mail.example.org\n",
        "SMTP://mail.example.org",
        "http://mail.example.org",
        "folder:relative",
        "python:json",
        "python:json:loads()",
    ],
)
def test_a_notifier_of_no_known_form_is_refused_without_being_shown(notifier):
    with pytest.raises(ValidationError) as refused:
        Settings(notifier=notifier)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("notifier", "host", "port"),
    [
        ("smtp://mail.example.org", "mail.example.org", 25),
        ("smtp+starttls://mail.example.org", "mail.example.org", 587),
        ("smtps://mail.example.org", "mail.example.org", 465),
        ("smtps://[::1]:2465", "::1", 2465),
    ],
)
def test_a_mail_server_has_the_port_of_its_kind(notifier, host, port):
    opened = open_notifier(Settings(notifier=notifier, mail_from="privacy@example.org"))
    assert isinstance(opened, MailNotifier)
    assert (opened.host, opened.port, opened.login) == (host, port, None)


@pytest.mark.parametrize(
    "sender",
    [None, "", "privacy", "a@example.org, b@example.org", "a@example.org\nBcc: b@example.org", "ä@example.org"],
)
def test_mail_needs_one_sender(sender):
    with pytest.raises(SettingsError, match="MBD_MAIL_FROM"):
        open_notifier(Settings(notifier="smtp://mail.example.org", mail_from=sender))


def test_a_password_is_read_from_a_file_and_never_shown(tmp_path):
    file = tmp_path / "password"
    file.write_text("correct horse\n")
    chosen = MAIL.model_copy(update={"smtp_user": "mbd", "smtp_password_file": file})
    file.chmod(0o644)
    with pytest.raises(KeyFileError, match="others"):
        open_notifier(chosen)
    file.chmod(0o600)
    opened = open_mail(chosen)
    assert opened.login is not None
    assert (opened.login.user, opened.login.password) == ("mbd", "correct horse")
    assert "horse" not in repr(opened)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"smtp_user": "mbd"}, "belong together"),
        ({"smtp_password": "secret-1"}, "belong together"),
        ({"smtp_user": "mbd", "smtp_password": "sécret-1"}, "not ASCII"),
        ({"smtp_user": "mbd", "smtp_password": "secret-1", "notifier": "smtp://mail.example.org"}, "in the clear"),
        ({"notifier": "smtp://mail.example.org:65536"}, "port"),
    ],
)
def test_a_login_that_cannot_be_is_refused_before_anything_is_sent(more, complaint):
    with pytest.raises(SettingsError, match=complaint) as refused:
        open_notifier(Settings(**({"notifier": "smtps://mail.example.org", "mail_from": "a@example.org"} | more)))
    assert "cret-1" not in str(refused.value)


def test_two_passwords_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="both set"):
        Settings(smtp_password="one", smtp_password_file=tmp_path / "other")  # noqa: S106 - no real one


def letter(to="anna@example.org", text="Hello,\n\nä\n"):
    return Letter("rev-1.0", to, "We have received it", text, NOON)


def test_a_letter_shows_neither_to_whom_it_is_nor_what_it_says():
    assert "anna" not in repr(letter())
    assert "Hello" not in repr(letter())


def test_letters_are_files_that_their_owner_alone_can_read(tmp_path):
    notifier = open_notifier(Settings(notifier=f"folder:{tmp_path / 'out'}"))
    assert isinstance(notifier, FolderNotifier)
    notifier.send(letter())
    notifier.send(letter())
    (file,) = (tmp_path / "out").iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("rev-1.0.txt", 0o600)
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert file.read_text("utf-8") == (
        "To: anna@example.org\nDate: 2026-03-01T12:00:00Z\nSubject: We have received it\n\nHello,\n\nä\n"
    )


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SettingsError, match="cannot be made"):
        open_notifier(Settings(notifier=f"folder:{tmp_path / 'no' / 'such'}"))
    with pytest.raises(NotifierError) as failed:
        FolderNotifier(tmp_path / "no").send(letter())
    assert "anna" not in str(failed.value)


def test_a_plug_in_is_made_by_its_factory(tmp_path, monkeypatch):
    (tmp_path / "mbd_pigeons.py").write_text(
        "class Pigeons:\n"
        "    def __init__(self, settings):\n        self.settings, self.sent = settings, []\n"
        "    def send(self, letter):\n        self.sent.append(letter)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    chosen = Settings(notifier="python:mbd_pigeons:Pigeons")
    try:
        opened = open_notifier(chosen)
        opened.send(letter())
        assert (opened.settings, opened.sent) == (chosen, [letter()])
    finally:
        del sys.modules["mbd_pigeons"]


@pytest.mark.parametrize("named", ["mbd_no_such_module:make", "json:no_such_name"])
def test_a_plug_in_that_is_not_there_is_said(named):
    with pytest.raises(SettingsError, match="cannot be imported"):
        open_notifier(Settings(notifier=f"python:{named}"))


def test_the_plug_in_of_the_documentation_sends(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    example = {}
    exec(compile(code, str(DOCS), "exec"), example)  # noqa: S102 - our own page
    printed = example["Printed"](MAIL)
    printed.send(letter(to="post:1 High Street"))
    assert capsys.readouterr().out.startswith("Privacy desk <privacy@example.org>\n\n1 High Street\n\nWe have")
    with pytest.raises(NotifierError):
        printed.send(letter())
