"""Real servers on the loopback that take call-backs, plain and with TLS of an authority of the test's own."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mbd.workflow.callbacks.policy import Target

HERE = ip_address("127.0.0.1")
HOST = "hooks.example.com"


@dataclass
class Receiver:
    """A server that answers each request with the next of `answers`, then with `last`.

    Attributes:
        answers: status and headers, in order.
        got: headers and body of every request.
        names: what TLS clients asked for (SNI).
        body: what it answers besides.
        sent_all: whether the last body was taken whole.
    """

    port: int = 0
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    last: tuple[int, dict[str, str]] = (204, {})
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0
    body: bytes = b""
    sent_all: bool | None = None

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    @property
    def target(self) -> Target:
        return Target("http", "127.0.0.1", self.port, "/hook", listed=True)


class Server(ThreadingHTTPServer):
    receiver: Receiver

    def get_request(self):
        self.receiver.connections += 1
        return super().get_request()

    def handle_error(self, request, client_address):
        """A client that hung up is no error of the test's."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers["content-length"]))
        receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        status, headers = receiver.answers.pop(0) if receiver.answers else receiver.last
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        receiver.sent_all = False
        self.wfile.write(receiver.body)
        receiver.sent_all = True

    def log_message(self, *_):
        pass


def certify(name, issuer, *, host: str | None = None):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    by, signer = (issuer[0].subject, issuer[1]) if issuer else (subject, key)
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(by, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    if host is not None:
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return made.sign(signer, hashes.SHA256()), key


@dataclass(frozen=True)
class Authority:
    """Both sides of TLS under an authority of the test's own."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    folder: Path

    def serving(self, host: str) -> ssl.SSLContext:
        """A server's side, with a certificate for that host."""
        certificate, key = certify(host, (self.certificate, self.key), host=host)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.folder / "server.pem"
        path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def trusting(self) -> ssl.SSLContext:
        """A client's side."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)
