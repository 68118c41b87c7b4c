"""Mail itself: TLS, STARTTLS, logins, addresses, and servers that do not play along."""

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from mbd.errors import NotifierError
from mbd.settings import Settings
from mbd.workflow.notifying import Letter
from mbd.workflow.notifying.mail import Login, open_mail
from tests.integration.workflow.notifying.inboxes import Inbox, Tls, mails_of, text_of
from tests.integration.workflow.notifying.offices import ANNA, FROM

LOGIN = Login("mbd", "correct horse")
LETTER = Letter(
    "rev-1.0", ANNA, "We have received it", "Hello,\n\ngrüß Gott\n.\nEnd\n", datetime(2026, 3, 1, tzinfo=UTC)
)


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
