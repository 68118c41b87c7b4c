"""Messages to real mail servers on the loopback, plain, with STARTTLS, with TLS and with a login."""

import io
import json
import logging
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine, select

from mbd.errors import IdentityError, NotifierError
from mbd.records import contacts, messages, requests, tables
from mbd.records.database import begin_locked, begin_snapshot, open_database
from mbd.records.lifecycle import Action, Role
from mbd.records.messages import Message, Outgoing
from mbd.records.requests import Actor, Revocation
from mbd.records.suppression import Channel
from mbd.settings import Settings
from mbd.telemetry import logs
from mbd.workflow.identities import load_identities
from mbd.workflow.keyring import create_keyring
from mbd.workflow.notifying import Letter, forget_contacts, open_notifier, send_due, verify_code
from mbd.workflow.notifying.codes import MOST_WRONG
from mbd.workflow.notifying.mail import Login, open_mail
from mbd.workflow.notifying.sending import LONGEST_WAIT, SCHEDULE
from mbd.workflow.office import Office, utc_now

ANNA = "anna@example.org"
FROM = "Privacy desk <privacy@example.org>"
OFFICER = Actor(Role.OFFICER, "key-1")
LOGIN = Login("mbd", "correct horse")
LETTER = Letter(
    "rev-1.0", ANNA, "We have received it", "Hello,\n\ngrüß Gott\n.\nEnd\n", datetime(2026, 3, 1, tzinfo=UTC)
)


@dataclass
class Inbox:
    """A mail server that answers each mail with the next of `answers`, and takes it if there is none.

    Attributes:
        got: the envelope of every mail that was sent.
    """

    answers: list[str] = field(default_factory=list)
    got: list[Envelope] = field(default_factory=list)
    port: int = 0

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:
        self.got.append(envelope)
        return self.answers.pop(0) if self.answers else "250 taken"


def mails_of(inbox: Inbox) -> list[EmailMessage]:
    return [message_from_bytes(each.content, policy=WIRE) for each in inbox.got]


def codes_of(inbox: Inbox) -> list[str]:
    return [re.search(r"^    (\d{8})$", text_of(mail), re.MULTILINE)[1] for mail in mails_of(inbox)]


def text_of(mail: EmailMessage) -> str:
    return mail.get_content().replace("\r\n", "\n")


@pytest.fixture
def serve() -> Iterator[Callable[..., Inbox]]:
    running: list[Controller] = []

    def start(**options: Any) -> Inbox:
        inbox = Inbox()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            inbox.port = free.getsockname()[1]
        controller = Controller(inbox, hostname="127.0.0.1", port=inbox.port, **options)
        controller.start()
        running.append(controller)
        return inbox

    yield start
    for controller in running:
        controller.stop()


@pytest.fixture
def inbox(serve: Callable[..., Inbox]) -> Inbox:
    return serve()


@dataclass(frozen=True)
class Tls:
    """Both sides of TLS with a certificate for localhost."""

    server: ssl.SSLContext
    client: ssl.SSLContext


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "server.pem").write_bytes(private + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.pem")
    return Tls(server, ssl.create_default_context(cadata=pem.decode()))


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def keys_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("keys") / "home"
    create_keyring(home, origin="log.example.org/main", passphrase=None, ml_dsa=False, now=utc_now())
    return home


@pytest.fixture
def sqlite_engine(sqlite_url: str) -> Iterator[Engine]:
    engine = open_database(sqlite_url)
    yield engine
    engine.dispose()


def office_of(engine: Engine, home: Path, clock: Clock, inbox: Inbox | None = None, **more: Any) -> Office:
    chosen = {"mail_from": FROM} | more
    if inbox is not None:
        chosen["notifier"] = f"smtp://127.0.0.1:{inbox.port}"
    office = Office(Settings(**chosen), home, engine, load_identities(home), clock)
    file(office, "r1")
    return office


@pytest.fixture
def office(sqlite_engine: Engine, keys_home: Path, clock: Clock, inbox: Inbox) -> Office:
    """With one request, r1, of somebody who can be reached."""
    return office_of(sqlite_engine, keys_home, clock, inbox)


@pytest.fixture
def either_office(engine: Engine, keys_home: Path, clock: Clock, inbox: Inbox) -> Office:
    """The same on each kind of database."""
    return office_of(engine, keys_home, clock, inbox)


def file(office: Office, name: str, contact: str = ANNA) -> None:
    asked = Revocation(name, f"d{name}", "gdpr", (Channel("anna-key", "audio"),), office.clock(), date(2027, 4, 1))
    with begin_locked(office.engine) as connection:
        requests.file(connection, asked, by=OFFICER)
        contacts.keep(connection, name, office.identities.seal(contact.encode(), name))


def enqueue(office: Office, kind: Message, name: str = "r1") -> None:
    with begin_locked(office.engine) as connection:
        messages.enqueue(connection, name, kind, office.clock())


def ask_for_code(office: Office) -> int:
    with begin_locked(office.engine) as connection:
        return messages.enqueue_code(connection, "r1", office.clock())


def act(office: Office, action: Action, kind: Message | None = None, **more: Any) -> None:
    with begin_locked(office.engine) as connection:
        requests.act(connection, "r1", action, by=OFFICER, at=office.clock(), **more)
        if kind is not None:
            messages.enqueue(connection, "r1", kind, office.clock())


def send(office: Office) -> int:
    return send_due(office, open_notifier(office.settings), limit=10)


def outbox(office: Office, name: str = "r1") -> tuple[Outgoing, ...]:
    with begin_snapshot(office.engine) as connection:
        return messages.of_request(connection, name)


def sealed(office: Office, name: str = "r1") -> bytes | None:
    with begin_snapshot(office.engine) as connection:
        return contacts.get(connection, name).sealed


def verify(office: Office, given: str) -> bool:
    with begin_locked(office.engine) as connection:
        return verify_code(office, connection, requests.get(connection, "r1"), given, office.clock())


def test_a_message_is_sent_once_recorded_and_says_what_happened(either_office, inbox, clock):
    due = date(2027, 6, 1)
    act(either_office, Action.EXTEND, Message.EXTENDED, reason="viele Anträge", due=due)
    assert send(either_office) == 1
    assert send(either_office) == 0
    (mail,) = mails_of(inbox)
    assert (inbox.got[0].mail_from, inbox.got[0].rcpt_tos) == ("privacy@example.org", [ANNA])
    assert (mail["From"], mail["To"], mail["Message-ID"]) == (FROM, ANNA, "<r1.0@example.org>")
    assert (mail["Date"].datetime, mail["Auto-Submitted"]) == (clock(), "auto-generated")
    assert mail["Subject"] == "We need more time for the request r1"
    assert "by 1 June 2027" in text_of(mail)
    assert "The reason: viele Anträge" in text_of(mail)
    assert "\nlog.example.org/main\n" in text_of(mail)
    assert inbox.got[0].content.isascii()
    (sent,) = outbox(either_office)
    assert (sent.sent_at, sent.next_at, sent.tries) == (clock(), None, 1)


def test_a_code_that_was_sent_is_right_until_it_expires(either_office, inbox, clock):
    ask_for_code(either_office)
    send(either_office)
    (code,) = codes_of(inbox)
    assert verify(either_office, code)
    assert verify(either_office, f" {code[:4]}-{code[4:]} ")
    clock.now += timedelta(minutes=30, seconds=-1)
    assert verify(either_office, code)
    clock.now += timedelta(seconds=1)
    with pytest.raises(IdentityError, match="expired"):
        verify(either_office, code)


def test_wrong_codes_are_counted_and_after_some_the_right_one_is_not_looked_at(either_office):
    right = either_office.identities.code("r1", ask_for_code(either_office))
    wrong = [
        either_office.identities.code("r1", 1),
        either_office.identities.code("r2", 0),
        "",
        "一二三四五六七八",
        "\ud800",
    ]
    assert len(wrong) == MOST_WRONG
    for given in wrong:
        assert verify(either_office, right)
        assert not verify(either_office, given)
    with pytest.raises(IdentityError, match="5 wrong codes"):
        verify(either_office, right)
    either_office.clock.now += timedelta(minutes=1)
    right = either_office.identities.code("r1", ask_for_code(either_office))
    with pytest.raises(IdentityError, match="5 wrong codes"):
        verify(either_office, right)


def test_who_guesses_at_once_guesses_no_more_often(either_office):
    ask_for_code(either_office)

    def guess(number: int) -> bool | None:
        try:
            return verify(either_office, f"x{number}")
        except IdentityError:
            return None

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(guess, range(12)))
    assert sorted(answers, key=str) == [False] * MOST_WRONG + [None] * (12 - MOST_WRONG)


def test_only_the_last_code_is_right_and_none_was_sent_for_other_requests(office):
    first = office.identities.code("r1", ask_for_code(office))
    second = office.identities.code("r1", ask_for_code(office))
    assert not verify(office, first)
    assert verify(office, second)
    file(office, "r2")
    enqueue(office, Message.RECEIVED, "r2")
    with begin_locked(office.engine) as connection, pytest.raises(IdentityError, match="No code"):
        verify_code(office, connection, requests.get(connection, "r2"), first, office.clock())


def test_what_is_not_sent_is_tried_for_a_day_word_for_word_and_then_given_up(office, inbox, clock):
    inbox.answers = ["451 later"] * len(SCHEDULE) + ["550 never"]
    enqueue(office, Message.RECEIVED)
    begun = clock()
    for wait in SCHEDULE:
        assert send(office) == 1
        assert outbox(office)[0].next_at == clock() + wait
        clock.now += wait - timedelta(seconds=1)
        assert send(office) == 0
        clock.now += timedelta(seconds=1)
    assert clock() - begun > timedelta(days=1)
    assert send(office) == 1
    (given_up,) = outbox(office)
    assert (given_up.next_at, given_up.sent_at, given_up.tries) == (None, None, len(SCHEDULE) + 1)
    assert len({envelope.content for envelope in inbox.got}) == 1
    clock.now += timedelta(days=365)
    assert send(office) == 0


def test_a_message_that_fails_holds_up_no_other(office, inbox, clock):
    inbox.answers = ["554 no"]
    file(office, "r2", "ben@example.org")
    for name in ("r1", "r2"):
        enqueue(office, Message.RECEIVED, name)
    assert send(office) == 2
    assert [outbox(office, name)[0].sent_at for name in ("r1", "r2")] == [None, clock()]
    clock.now += SCHEDULE[0]
    send(office)
    assert [envelope.rcpt_tos for envelope in inbox.got] == [[ANNA], ["ben@example.org"], [ANNA]]


def test_a_code_that_expired_on_the_way_or_was_replaced_is_not_sent(office, inbox, clock):
    ask_for_code(office)
    clock.now += timedelta(minutes=1)
    second = office.identities.code("r1", ask_for_code(office))
    send(office)
    assert codes_of(inbox) == [second]
    ask_for_code(office)
    clock.now += timedelta(minutes=30)
    assert send(office) == 1
    assert codes_of(inbox) == [second]
    assert [message.next_at for message in outbox(office)] == [None] * 3


def test_a_sender_that_is_killed_before_it_records_sends_again_the_same_code(
    sqlite_url, office, inbox, keys_home, clock
):
    ask_for_code(office)
    program = Path(__file__).with_name("notify_and_die.py")
    words = [sys.executable, program, sqlite_url, keys_home, str(inbox.port)]
    assert subprocess.run(words, check=False, timeout=60).returncode == -signal.SIGKILL
    (claimed,) = outbox(office)
    assert (claimed.tries, claimed.sent_at, len(inbox.got)) == (1, None, 1)
    clock.now = claimed.next_at - timedelta(seconds=1)
    assert send(office) == 0
    clock.now = claimed.next_at
    assert send(office) == 1
    assert inbox.got[0].content == inbox.got[1].content
    assert len(set(codes_of(inbox))) == 1
    assert outbox(office)[0].sent_at == clock()


def test_of_senders_at_once_each_message_has_one(office, inbox):
    for _ in range(6):
        enqueue(office, Message.RECEIVED)
    with ThreadPoolExecutor(3) as threads:
        tried = list(threads.map(lambda _: send(office), range(3)))
    assert sum(tried) == len(inbox.got) == 6
    assert len({mail["Message-ID"] for mail in mails_of(inbox)}) == 6


def test_a_contact_is_forgotten_with_the_last_message_of_an_ended_request(either_office, inbox):
    act(either_office, Action.DENY, Message.DENIED, reason="no_match")
    assert forget_contacts(either_office) == 0
    assert sealed(either_office) is not None
    send(either_office)
    assert len(inbox.got) == 1
    assert sealed(either_office) is None


def test_a_contact_is_kept_while_its_message_is_tried_again_and_forgotten_when_it_is_given_up(office, inbox, clock):
    inbox.answers = ["451 later"] * 100
    act(office, Action.DENY, Message.DENIED, reason="other")
    for wait in SCHEDULE:
        send(office)
        assert sealed(office) is not None
        clock.now += wait
    send(office)
    assert sealed(office) is None


def test_without_a_notifier_messages_wait_and_keep_the_contact_for_a_week(office, inbox, clock):
    act(office, Action.DENY, Message.DENIED, reason="other")
    assert send_due(office, None, limit=10) == 0
    clock.now += LONGEST_WAIT
    assert send_due(office, None, limit=10) == 0
    assert sealed(office) is not None
    clock.now += timedelta(seconds=1)
    send_due(office, None, limit=10)
    assert sealed(office) is None
    assert send(office) == 1
    assert inbox.got == []
    assert outbox(office)[0].next_at is None


def test_nothing_personal_is_in_the_database_or_in_the_log(either_office, inbox, database_url):
    heard = io.StringIO()
    handler = logs.lines(heard)
    logging.getLogger("mbd").addHandler(handler)
    inbox.answers = [f"550 <{ANNA}> is unknown here"]
    ask_for_code(either_office)
    try:
        send(either_office)
    finally:
        logging.getLogger("mbd").removeHandler(handler)
    said = json.loads(heard.getvalue())
    assert (said["revocation"], said["tries"], said["error"]) == (
        "r1",
        1,
        ["mbd.errors.NotifierError", "smtplib.SMTPDataError"],
    )
    (code,) = codes_of(inbox)
    with begin_snapshot(either_office.engine) as connection:
        rows = [
            repr(tuple(row)) for table in tables.metadata.sorted_tables for row in connection.execute(select(table))
        ]
    dump = "\n".join(rows).encode()
    if database_url.startswith("sqlite"):
        dump += b"".join(path.read_bytes() for path in Path(either_office.engine.url.database).parent.glob("records*"))
    assert b"dr1" in dump
    for personal in (ANNA.encode(), b"anna@", code.encode(), b"example.org"):
        assert personal not in dump
        assert personal not in heard.getvalue().encode()


def test_a_contact_that_does_not_open_is_tried_again_and_nobody_else_is_written_to(office, inbox):
    with begin_locked(office.engine) as connection:
        moved = office.identities.seal(ANNA.encode(), "another request")
        connection.execute(tables.contact.update().values(sealed=moved))
    enqueue(office, Message.RECEIVED)
    assert send(office) == 1
    assert inbox.got == []
    assert outbox(office)[0].next_at == office.clock() + SCHEDULE[0]


def test_a_plug_in_that_breaks_holds_up_nobody(office, clock):
    class Broken:
        def send(self, letter: Letter) -> None:
            raise KeyError(letter.to)

    enqueue(office, Message.RECEIVED)
    assert send_due(office, Broken(), limit=10) == 1
    assert outbox(office)[0].next_at == clock() + SCHEDULE[0]


def opened(inbox: Inbox, sides: Tls, scheme: str, **more: Any) -> Any:
    settings = Settings(notifier=f"{scheme}://localhost:{inbox.port}", mail_from=FROM)
    return replace(open_mail(settings), **({"tls": sides.client} | more))


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_mail_goes_over_tls_with_a_login(serve, tls, scheme):
    logins: list[tuple[bytes, bytes]] = []

    def authenticate(_server, _session, _envelope, _mechanism, given):
        logins.append((given.login, given.password))
        return AuthResult(success=logins[-1] == (b"mbd", b"correct horse"), handled=False)

    if scheme == "smtps":  # it takes a login in TLS alone, and does not know that this is TLS
        inbox = serve(ssl_context=tls.server, authenticator=authenticate, auth_require_tls=False)
    else:
        inbox = serve(tls_context=tls.server, authenticator=authenticate, auth_required=True, require_starttls=True)
    send_to = partial(opened, inbox, tls, scheme)
    send_to(login=LOGIN).send(LETTER)
    assert text_of(mails_of(inbox)[0]) == "Hello,\n\ngrüß Gott\n.\nEnd\n"
    for refused in (
        send_to(login=Login("mbd", "battery staple")),
        send_to(login=LOGIN, host="127.0.0.1"),  # which the certificate does not name
        send_to(login=LOGIN, tls=ssl.create_default_context()),
    ):
        with pytest.raises(NotifierError) as failed:
            refused.send(LETTER)
        assert ANNA not in str(failed.value)
    assert len(inbox.got) == 1
    assert set(logins) == {(b"mbd", b"correct horse"), (b"mbd", b"battery staple")}


def test_a_server_without_starttls_gets_nothing(inbox, tls):
    with pytest.raises(NotifierError):
        opened(inbox, tls, "smtp+starttls").send(LETTER)
    assert inbox.got == []


def hang_up(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.close()


def test_a_server_that_is_away_or_hangs_up_is_an_error_of_ours(tls):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(NotifierError):
        opened(Inbox(port=port), tls, "smtp").send(LETTER)
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as thread:
        thread.submit(hang_up, server)
        with pytest.raises(NotifierError):
            opened(Inbox(port=server.getsockname()[1]), tls, "smtp").send(LETTER)


def test_an_address_in_another_script_arrives_where_the_server_knows_such(serve, tls):
    for enabled in (True, False):
        inbox = serve(enable_SMTPUTF8=enabled)
        mail = opened(inbox, tls, "smtp")
        letter = replace(LETTER, to="用户@例子.广告")
        if enabled:
            mail.send(letter)
            assert inbox.got[0].rcpt_tos == ["用户@例子.广告"]
            assert "To: 用户@例子.广告\r\n" in inbox.got[0].content.decode()
        else:
            with pytest.raises(NotifierError):
                mail.send(letter)
            assert inbox.got == []


@pytest.mark.parametrize(
    "to",
    ["anna@example.org\r\nBcc: eve@example.org", "anna@example.org>\r\nRCPT TO:<eve@example.org", "tel:+49123", ""],
)
def test_what_is_no_address_never_reaches_the_server(inbox, tls, to):
    with pytest.raises(NotifierError, match="no e-mail address"):
        opened(inbox, tls, "smtp").send(replace(LETTER, to=to))
    assert inbox.got == []


def test_a_line_break_in_a_subject_or_an_id_is_refused_by_the_mail_itself(inbox, tls):
    for letter in (replace(LETTER, subject="a\r\nBcc: eve@example.org"), replace(LETTER, id="r1\r\nBcc: eve")):
        with pytest.raises(ValueError, match="line"):
            opened(inbox, tls, "smtp").send(letter)
    assert inbox.got == []
