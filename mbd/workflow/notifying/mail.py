"""Letters as e-mail, over SMTP: in the clear to a relay nearby, with STARTTLS, or in TLS from the first byte.

TLS never falls back to none, certificates are verified, and a password is not sent without TLS to another machine.
"""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as WIRE
from email.utils import format_datetime
from ipaddress import ip_address
from smtplib import SMTP, SMTP_SSL, SMTPException
from urllib.parse import urlsplit

from certs.key_files import read_secret
from mbd.errors import NotifierError, SettingsError
from mbd.settings import Settings
from mbd.workflow.notifying.contact import is_email
from mbd.workflow.notifying.notifier import Letter

_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_SECONDS = 10.0  # for each answer of the server


@dataclass(frozen=True)
class Login:
    """A user of the mail server."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class MailNotifier:
    """Sends letters to a mail server.

    Attributes:
        scheme: ``smtp``, ``smtp+starttls`` or ``smtps``.
        host: of the server, which its certificate has to name.
        sender: whom the mail is from.
        tls: which authorities are trusted.
        login: if the server wants one.
    """

    scheme: str
    host: str
    port: int
    sender: Address
    tls: ssl.SSLContext
    login: Login | None = None

    def send(self, letter: Letter) -> None:
        """Hand a letter to the server, as one mail to one address.

        Raises:
            NotifierError: the server was not reached, or did not take it.
        """
        if not is_email(letter.to):
            raise NotifierError("The contact is no e-mail address.", remedy="reach the person in another way")
        mail = self._mail(letter)
        try:
            with self._connected() as server:
                server.send_message(mail, self.sender.addr_spec, [letter.to])
        except (OSError, SMTPException) as error:
            raise NotifierError(
                "The mail server was not reached, or did not take a message.",
                remedy="check MBD_NOTIFIER, MBD_SMTP_USER and MBD_MAIL_FROM against the server's own log",
            ) from error

    @contextmanager
    def _connected(self) -> Iterator[SMTP]:
        """Logged in. Once a mail was taken, a farewell that fails changes nothing."""
        name, timeout = self.sender.domain, _SECONDS
        if self.scheme == "smtps":
            server: SMTP = SMTP_SSL(self.host, self.port, name, timeout=timeout, context=self.tls)
        else:
            server = SMTP(self.host, self.port, name, timeout=timeout)
        try:
            if self.scheme == "smtp+starttls":
                server.starttls(context=self.tls)
            if self.login is not None:
                server.login(self.login.user, self.login.password)
            yield server
            with suppress(OSError, SMTPException):
                server.quit()
        finally:
            server.close()

    def _mail(self, letter: Letter) -> EmailMessage:
        """The mail, which is the same on every try; its policy refuses a line break in any header."""
        mail = EmailMessage(policy=WIRE)
        mail["From"] = self.sender
        name, _, domain = letter.to.partition("@")
        mail["To"] = Address(username=name, domain=domain)  # and not addr_spec=, which takes ASCII alone
        mail["Subject"] = letter.subject
        mail["Date"] = format_datetime(letter.at)
        mail["Message-ID"] = f"<{letter.id}@{self.sender.domain}>"
        mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no holiday notice comes back
        mail.set_content(letter.text, cte="quoted-printable")
        return mail


def open_mail(settings: Settings) -> MailNotifier:
    """The mail server that the settings name.

    Raises:
        SettingsError: they name no sender, half a login, or a password that would travel in the clear.
        KeyFileError: the password's file is missing, readable by others, or empty.
    """
    server = urlsplit(settings.notifier or "")
    host, login = server.hostname or "", _login(settings)
    if login is not None and server.scheme == "smtp" and not _is_here(host):
        raise SettingsError(
            "MBD_NOTIFIER would send MBD_SMTP_PASSWORD in the clear to another machine.",
            remedy="use smtps:// or smtp+starttls://",
        )
    try:
        port = server.port or _PORTS[server.scheme]
    except ValueError as error:
        raise SettingsError("MBD_NOTIFIER names a port that cannot be.", remedy="use one up to 65535") from error
    return MailNotifier(server.scheme, host, port, _sender(settings), ssl.create_default_context(), login)


def _login(settings: Settings) -> Login | None:
    if settings.smtp_password_file:
        password = read_secret(settings.smtp_password_file).decode(errors="replace")
    else:
        password = settings.smtp_password.get_secret_value() if settings.smtp_password else ""
    if bool(settings.smtp_user) != bool(password):
        raise SettingsError(
            "MBD_SMTP_USER and MBD_SMTP_PASSWORD belong together, and one is missing.", remedy="set both, or neither"
        )
    if not (password.isascii() and (settings.smtp_user or "").isascii()):
        raise SettingsError("The login to the mail server is not ASCII.", remedy="set another one at the server")
    return Login(settings.smtp_user, password) if settings.smtp_user else None


def _sender(settings: Settings) -> Address:
    written = settings.mail_from or ""
    found = WIRE.header_factory("From", written) if written.isprintable() else None
    addresses: tuple[Address, ...] = () if found is None or found.defects else found.addresses
    if len(addresses) != 1 or not is_email(addresses[0].addr_spec) or not addresses[0].addr_spec.isascii():
        raise SettingsError(
            "MBD_MAIL_FROM is not one e-mail address.", remedy="write it as 'Privacy desk <privacy@example.org>'"
        )
    return addresses[0]


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
