"""The processor that a deployment is by OpenDSR 2.0: its domain, the RSA key that signs what it says, how it says it.

keys/opendsr.pem        RSA 3072, made on first use
published/opendsr.pem   its certificate: self-signed until the operator puts one of an authority there

The key is not encrypted, because the API signs with it, and whoever serves the API should not have the passphrase of
the keys that sign certificates. All that it shows is who answered. It knows no HTTP.
"""

import base64
import os
import secrets
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from mbd.durable import sync, write_durably
from mbd.errors import SettingsError
from mbd.records.lifecycle import ENDED, WITH_THE_WORKER, State
from mbd.records.opendsr import Submission
from mbd.records.requests import Revocation
from mbd.workflow.identities import read_secret
from mbd.workflow.office import Office

API_VERSION = "2.0"

PENDING = "pending"

_BITS = 3072
_SELF_SIGNED_FOR = timedelta(days=3650)


@dataclass(frozen=True)
class Processor:
    """Who speaks.

    Attributes:
        domain: where controllers send requests; the certificate is for it.
        certificate: PEM, followed by its authorities where it has some.
        public_url: where people reach the service, if anywhere.
    """

    domain: str
    certificate: bytes = field(repr=False)
    public_url: str | None
    _key: RSAPrivateKey = field(repr=False)

    def headers(self, body: bytes) -> dict[str, str]:
        """What OpenDSR wants beside a body that we answer or send: who signed it, and the signature."""
        signature = base64.b64encode(self._key.sign(body, PKCS1v15(), SHA256())).decode()
        return {"x-opendsr-processor-domain": self.domain, "x-opendsr-signature": signature}

    def status(self, submission: Submission, revocation: Revocation) -> dict[str, str]:
        """How far a request has come, as its controller is told. Where it has ended, what came of it can be read."""
        said = {
            "api_version": API_VERSION,
            "controller_id": submission.controller_id,
            "expected_completion_time": completion_time(revocation.due),
            "request_status": status_of(revocation.state),
            "subject_request_id": submission.subject_request_id,
        }
        if revocation.state in ENDED and self.public_url is not None:
            said["results_url"] = f"{self.public_url.rstrip('/')}/v1/revocations/{revocation.id}"
        return said


def status_of(state: State) -> str:
    """One of the four words that OpenDSR has. One that failed is tried again, so it is in progress."""
    if state is State.COMPLETED:
        return "completed"
    if state in ENDED:
        return "cancelled"
    return "in_progress" if state in WITH_THE_WORKER else PENDING


def completion_time(due: date) -> str:
    """The end of the last day on which an answer is in time."""
    return f"{due.isoformat()}T23:59:59Z"


def open_processor(office: Office) -> Processor | None:
    """The deployment's processor, with a key and a certificate that are made if there are none; None without a domain.

    Crash point: the key is whole or not there (a ``.partial`` file beside it is waste); without a certificate the next
    start makes one. Of two processes that start at once, both use the key that came first.

    Raises:
        SettingsError: the key or the certificate cannot be used, or they do not belong together and to the domain.
    """
    settings = office.settings
    if settings.opendsr_domain is None:
        return None
    key_path, certificate_path = office.home / "keys" / "opendsr.pem", office.home / "published" / "opendsr.pem"
    try:
        if not key_path.exists():
            _make_key(key_path)
        key = _read_key(key_path)
        if not certificate_path.exists():
            write_durably(certificate_path, _self_signed(key, settings.opendsr_domain, office.clock()))
        certificate = certificate_path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"The key or the certificate of OpenDSR cannot be made or read: {error.strerror}.",
            remedy=f"let this program write to {key_path.parent} and {certificate_path.parent} once",
        ) from error
    _check(certificate_path, certificate, key, settings.opendsr_domain)
    return Processor(settings.opendsr_domain, certificate, settings.public_url, key)


def _make_key(path: Path) -> None:
    """Write a new key, under its name only when it is whole, and never over another one."""
    key = generate_private_key(65537, _BITS)
    partial = path.with_name(f".{path.name}.partial-{secrets.token_hex(8)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(descriptor)
        path.hardlink_to(partial)
        sync(path.parent)
    except FileExistsError:
        pass  # another process was faster, and its key counts
    finally:
        partial.unlink()


def _read_key(path: Path) -> RSAPrivateKey:
    try:
        key = load_pem_private_key(read_secret(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # a TypeError where it is encrypted
        key = None
    if not isinstance(key, RSAPrivateKey) or key.key_size < _BITS:
        raise SettingsError(
            f"{path} is no RSA key of {_BITS} bits or more, without a passphrase.",
            remedy="restore it from a backup; or remove it and published/opendsr.pem, and new ones are made",
        )
    return key


def _self_signed(key: RSAPrivateKey, domain: str, now: datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "OpenDSR processor")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + _SELF_SIGNED_FOR)
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(domain)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM)


def _check(path: Path, pem: bytes, key: RSAPrivateKey, domain: str) -> None:
    """Refuse a certificate by which nobody could verify what the key signs for the domain."""
    try:
        first = x509.load_pem_x509_certificates(pem)[0]
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        fits = first.public_key() == key.public_key() and domain in names.get_values_for_type(x509.DNSName)
    except (ValueError, x509.ExtensionNotFound, UnsupportedAlgorithm):
        fits = False
    if not fits:
        raise SettingsError(
            f"{path} is no certificate of keys/opendsr.pem for {domain} (MBD_OPENDSR_DOMAIN).",
            remedy="put one there that your authority issued for both, or remove it, and a self-signed one is made",
        )
