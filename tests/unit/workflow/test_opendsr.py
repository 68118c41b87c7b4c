"""A processor's key and certificate, and the words that it has for the states of requests."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from sqlalchemy import create_engine

from mbd.errors import SettingsError
from mbd.records.lifecycle import State
from mbd.settings import Settings
from mbd.workflow.identities import Identities
from mbd.workflow.office import Office
from mbd.workflow.opendsr import open_processor, status_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DOMAIN = "opendsr.example.org"


def office_in(home, domain=DOMAIN):
    settings = Settings(home=home, opendsr_domain=domain)
    return Office(settings, home, create_engine("sqlite://"), Identities(b"i" * 32), lambda: NOW)


def new_home(folder):
    for name in ("keys", "published"):
        (folder / name).mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A home with a key and a self-signed certificate."""
    home = new_home(tmp_path_factory.mktemp("made"))
    open_processor(office_in(home))
    return home


@pytest.fixture
def home(made, tmp_path):
    return shutil.copytree(made, tmp_path / "home")


def private_key(home):
    return load_pem_private_key((home / "keys" / "opendsr.pem").read_bytes(), None)


def write_key(home, key, encryption=None):
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
    (home / "keys" / "opendsr.pem").write_bytes(pem)


def authoritys(public_key, *names):
    """A certificate that an authority issued for a key, and the authority's own after it."""
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "An authority")])
    pem = b""
    for subject, key in ((x509.Name([]), public_key), (issuer, authority.public_key())):
        builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
        builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=90))
        if names and key is public_key:
            alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
            builder = builder.add_extension(alternative, critical=True)
        pem += builder.sign(authority, SHA256()).public_bytes(Encoding.PEM)
    return pem


def test_a_key_and_a_certificate_are_made_once(home):
    files = [home / "keys" / "opendsr.pem", home / "published" / "opendsr.pem"]
    before = [file.read_bytes() for file in files]
    processor = open_processor(office_in(home))
    assert [file.read_bytes() for file in files] == before
    assert processor.certificate == before[1]
    assert files[0].stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in files[0].parent.iterdir()) == ["opendsr.pem"]
    certificate = x509.load_pem_x509_certificate(before[1])
    assert certificate.public_key() == private_key(home).public_key()
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc > NOW) == (NOW, True)
    certificate.verify_directly_issued_by(certificate)


def test_of_two_that_start_at_once_both_use_one_key(tmp_path):
    home = new_home(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: open_processor(office_in(home)), range(2))
    assert one.headers(b"said") == other.headers(b"said")
    assert [path.name for path in (home / "keys").iterdir()] == ["opendsr.pem"]


def test_without_a_domain_nothing_is_made(tmp_path):
    home = new_home(tmp_path)
    assert open_processor(office_in(home, domain=None)) is None
    assert list((home / "keys").iterdir()) == []


@pytest.mark.parametrize(
    "domain", ["localhost", "https://a.example", "A.example", "a.example:443", "-a.example", "10.0.0.1"]
)
def test_what_is_no_domain_is_refused(tmp_path, domain):
    with pytest.raises(ValueError, match="opendsr_domain"):
        Settings(home=tmp_path, opendsr_domain=domain)


def test_an_authoritys_certificate_takes_the_place_of_ours(home):
    pem = authoritys(private_key(home).public_key(), "www.example.org", DOMAIN)
    (home / "published" / "opendsr.pem").write_bytes(pem)
    assert open_processor(office_in(home)).certificate == pem


@pytest.mark.parametrize("names", [(), ("*.example.org",)], ids=["no name", "a wildcard"])
def test_a_certificate_for_other_names_is_refused(home, names):
    (home / "published" / "opendsr.pem").write_bytes(authoritys(private_key(home).public_key(), *names))
    with pytest.raises(SettingsError, match="is no certificate of"):
        open_processor(office_in(home))


def test_a_certificate_that_does_not_fit_is_refused(home):
    with pytest.raises(SettingsError, match="MBD_OPENDSR_DOMAIN"):
        open_processor(office_in(home, domain="another.example.org"))
    for pem in (b"", authoritys(ec.generate_private_key(ec.SECP256R1()).public_key(), DOMAIN)):
        (home / "published" / "opendsr.pem").write_bytes(pem)
        with pytest.raises(SettingsError, match="is no certificate of"):
            open_processor(office_in(home))


def test_a_key_that_cannot_be_used_is_refused(home):
    encrypted = BestAvailableEncryption(b"secret")
    write_key(home, private_key(home), encrypted)
    with pytest.raises(SettingsError, match="without a passphrase"):
        open_processor(office_in(home))
    for key in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        write_key(home, key)
        with pytest.raises(SettingsError, match="is no RSA key"):
            open_processor(office_in(home))
    (home / "keys" / "opendsr.pem").chmod(0o644)
    with pytest.raises(SettingsError, match="can be read by others"):
        open_processor(office_in(home))


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(SettingsError, match="cannot be made or read"):
        open_processor(office_in(tmp_path))


def test_every_state_has_a_word():
    assert {state: status_of(state) for state in State} == {
        State.FILED: "pending",
        State.IDENTITY_UNVERIFIED: "pending",
        State.PENDING_REVIEW: "pending",
        State.APPROVED: "in_progress",
        State.IN_PROGRESS: "in_progress",
        State.FAILED: "in_progress",
        State.COMPLETED: "completed",
        State.DENIED: "cancelled",
        State.CANCELLED: "cancelled",
        State.DUPLICATE: "cancelled",
    }
