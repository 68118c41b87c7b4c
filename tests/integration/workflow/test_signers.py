"""Certificate keys in a real PKCS#11 token (`token`, SoftHSM2) and in a simulated AWS KMS."""

import logging
import os
import re
import subprocess
import threading
import traceback
from datetime import timedelta

import pytest

from certs.errors import CertificateError, Code, KeyFileError
from certs.keys import Algorithm, PublicKey
from certs.verification import verify
from mbd.cohort.modality import Modality
from mbd.errors import SettingsError, SignerError
from mbd.records import certificates, fsck, ledger, requests
from mbd.records.database import begin_snapshot
from mbd.settings import Settings
from mbd.workflow.log import commit_to_noise
from mbd.workflow.office import utc_now
from mbd.workflow.revocation import resume, revoke
from mbd.workflow.rotation import compromised, rotate
from mbd.workflow.signers import external_signer
from mbd.workflow.system import open_system
from mbd.workflow.training import train_line


@pytest.fixture
def settings(tmp_path, token):
    return Settings(home=tmp_path / "token-home", certificate_key=token.uri, token_pin_file=token.pin_file)


def noise_commitment(system):
    commit_to_noise(system)
    bundle = (system.home / "published" / "noise-commitment.sigstore.json").read_bytes()
    return verify(bundle, system.trusted_root_path.read_bytes(), at=utc_now())


def log_size(system):
    with begin_snapshot(system.engine) as connection:
        return ledger.head(connection).size


def test_a_token_signs_a_whole_revocation_that_verifiers_and_openssl_accept(trained, people):
    with open_system(trained, create=False) as system:
        (result,) = revoke(system, [(people[0], Modality.AUDIO)])
        verified = verify(result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), at=utc_now())
        assert verified.key_id == system.keyring.certificate.key_id
        with begin_snapshot(system.engine) as connection:
            assert fsck.fsck(connection, verify_note=system.keyring.read_checkpoint).ok
    assert not list((trained.state / "keys").glob("certificate-*.pem"))
    _openssl_accepts(result.bundle, trained.state / "published")


def test_a_token_takes_over_from_a_file_and_another_key_of_it_from_the_token(settings, token):
    plain = Settings(home=settings.home, token_pin_file=settings.token_pin_file)
    with open_system(plain, create=True) as system:
        done = rotate(system, "certificate", overlap=timedelta(0), new_key=token.uri)
    assert not list((settings.state / "keys").glob(f"certificate-{done.new_key[:16]}*"))
    tomorrow = utc_now() + timedelta(days=1)
    with pytest.raises(SettingsError, match="lets sign now"), open_system(plain, create=False, clock=lambda: tomorrow):
        pass
    token.make_key(key_id=4)
    with open_system(settings, create=False, clock=lambda: tomorrow) as system:
        assert system.keyring.certificate.key_id == done.new_key
        with pytest.raises(SettingsError, match="in use already"):
            rotate(system, "certificate", overlap=timedelta(0), new_key=token.uri)
        uri = token.uri.replace("hsm:2", "hsm:4")
        second = compromised(system, done.new_key, since=tomorrow, new_key=uri)
        assert system.with_current_keys(uri).keyring.certificate.key_id == second.new_key


def _openssl_accepts(bundle, published):
    import json
    from base64 import b64decode

    envelope = json.loads(bundle.read_bytes())["dsseEnvelope"]
    payload, kind = b64decode(envelope["payload"]), envelope["payloadType"].encode()
    folder = published.parent
    (folder / "signed.bin").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    (folder / "signature.der").write_bytes(b64decode(envelope["signatures"][0]["sig"]))
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", *published.glob("certificate-key-*.pem"), "-signature",
         "signature.der", "signed.bin"], cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "Verified OK\n", done.stderr


@pytest.fixture
def trained(settings, cohort, recipe):
    """A deployment with one line, whose certificates the token signs."""
    with open_system(settings, create=True) as system:
        train_line(system, cohort, recipe, line="main", seed=0)
    return settings


def test_a_token_taken_away_in_the_middle_leaves_nothing_half_done_and_goes_on_after_its_return(
    trained, token, people, check
):
    with open_system(trained, create=False) as system:

        def on_step(step):
            if step == "signing and logging":
                token.take_away()

        size = log_size(system)
        with pytest.raises(SignerError, match=re.escape(token.uri)) as failure:
            revoke(system, [(people[0], Modality.AUDIO)], on_step=on_step)
        assert "put the token in" in failure.value.remedy
        assert (log_size(system), system.live("main").version) == (size, 1)
        with begin_snapshot(system.engine) as connection:
            assert certificates.current(connection) == ()
            assert len(requests.unfinished(connection)) == 1
        assert system.suppressed()(people[0], Modality.AUDIO)
        with pytest.raises(SignerError):
            resume(system)
        token.bring_back()
        (result,) = resume(system)
        check(system, result)
        assert (log_size(system), system.live("main").version) == (size + 1, 2)


def test_a_deployment_does_not_open_without_its_token_and_is_whole_when_it_is_back(settings, token):
    with open_system(settings, create=True) as system:
        noise_commitment(system)
    token.take_away()
    with pytest.raises(SignerError, match=r"No PKCS#11 token|GeneralError"), open_system(settings, create=False):
        pass
    token.bring_back()
    with open_system(settings, create=False) as system:
        noise_commitment(system)
        assert log_size(system) == 1


def test_keys_are_not_made_while_the_token_is_away(settings, token):
    token.take_away()
    with pytest.raises(SignerError), open_system(settings, create=True):
        pass
    assert list(settings.state.iterdir()) == []
    token.bring_back()
    with open_system(settings, create=True) as system:
        noise_commitment(system)


def test_a_wrong_pin_is_called_that_never_shown_and_never_tried_again(settings, token, caplog):
    pin = "1357-9"
    wrong = Settings(home=settings.home, certificate_key=token.uri, token_pin=pin)
    with caplog.at_level(logging.DEBUG), open_system(wrong, create=True) as system:
        with pytest.raises(SignerError) as first:
            commit_to_noise(system)
        token.take_away()  # a second try would find no token at all
        with pytest.raises(SignerError, match="not tried again") as second:
            commit_to_noise(system)
        token.bring_back()
        assert log_size(system) == 0
    for failure in (first, second):
        assert "MBD_TOKEN_PIN_FILE" in failure.value.remedy
        assert pin not in "".join(traceback.format_exception(failure.value)) + repr(failure.value) + caplog.text
    with open_system(settings, create=False) as system:
        noise_commitment(system)


def test_a_token_with_another_key_under_the_same_label_makes_no_leaf(settings, token):
    with open_system(settings, create=True) as system:
        token.forget_key()
        token.make_key()
        with pytest.raises(SignerError, match="another key"):
            commit_to_noise(system)
        assert log_size(system) == 0
    with pytest.raises(SettingsError, match=r"trusted_root\.json"), open_system(settings, create=False):
        pass


def test_a_deployment_says_where_its_certificate_key_has_to_be(settings, token):
    with open_system(settings, create=True):
        pass
    with pytest.raises(SettingsError) as missing, open_system(Settings(home=settings.home), create=False):
        pass
    assert "MBD_CERTIFICATE_KEY" in missing.value.remedy
    on_disk = settings.state.with_name("disk-home")
    with open_system(Settings(home=on_disk), create=True):
        pass
    with (
        pytest.raises(SettingsError, match=r"trusted_root\.json"),
        open_system(
            Settings(home=on_disk, certificate_key=token.uri, token_pin_file=settings.token_pin_file), create=False
        ),
    ):
        pass


def test_other_curves_and_absent_keys_of_a_token_are_refused(settings, token):
    token.make_key(curve="secp384r1", key_id=3)
    with pytest.raises(CertificateError) as refused:
        external_signer(settings.model_copy(update={"certificate_key": "hsm:3?label=issuer"}))
    assert refused.value.code is Code.KEY_INVALID
    for uri in ("hsm:9?label=issuer", "hsm:2?label=somebody+else"):
        with pytest.raises(SignerError, match=re.escape(uri)):
            external_signer(settings.model_copy(update={"certificate_key": uri}))


def test_a_token_needs_its_pin_and_its_library(settings, token, monkeypatch):
    with pytest.raises(SettingsError) as failure:
        external_signer(settings.model_copy(update={"token_pin_file": None}))
    assert "MBD_TOKEN_PIN_FILE" in failure.value.remedy
    for library in (None, "/nonexistent/library.so"):
        monkeypatch.delenv("PYKCS11LIB") if library is None else monkeypatch.setenv("PYKCS11LIB", library)
        with pytest.raises(SignerError, match=r"PYKCS11LIB|/nonexistent") as unreachable:
            external_signer(settings)
        assert "PYKCS11LIB" in unreachable.value.remedy


def test_many_threads_sign_with_one_token(settings, token):
    signer, made = external_signer(settings), {}
    threads = [
        threading.Thread(target=lambda n=n: made.update({n: signer.sign(b"%d" % n)})) for n in range(8)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    key = PublicKey.from_spki(signer.public_key)
    assert sorted(made) == list(range(8))
    assert all(key.verifies(signature, b"%d" % n) for n, signature in made.items())


# AWS KMS.


@pytest.fixture
def kms(monkeypatch):
    """moto's KMS on the loopback, and the environment in which boto3 finds it."""
    pytest.importorskip("moto", reason="moto is not installed: it is part of the extra `dev`")
    import boto3
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256
    from moto.kms.utils import ECDSAPrivateKey
    from moto.server import ThreadedMotoServer

    def sign(self, message, signing_algorithm):
        """moto hashes a digest again, which AWS does not (getmoto/moto#10202)."""
        return self.private_key.sign(message, ECDSA(Prehashed(SHA256())))

    monkeypatch.setattr(ECDSAPrivateKey, "sign", sign)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("kms")
    try:
        yield client
    finally:
        client.close()
        server.stop()


def kms_key(kms, spec):
    return kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]


def test_aws_kms_signs_what_verifiers_accept(kms, tmp_path):
    settings = Settings(home=tmp_path / "home", certificate_key=f"awskms:{kms_key(kms, 'ECC_NIST_P256')}")
    for _ in range(2):
        with open_system(settings, create=True) as system:
            assert noise_commitment(system).key_id == system.keyring.certificate.key_id
            assert system.keyring.certificate.algorithm is Algorithm.ECDSA_P256
            assert log_size(system) == 1
    assert not list((settings.state / "keys").glob("certificate-*.pem"))


@pytest.mark.parametrize("spec", ["RSA_2048", "ECC_NIST_P384", "ECC_SECG_P256K1"])
def test_other_kinds_of_kms_key_are_refused_before_a_deployment_is_made(kms, tmp_path, spec):
    settings = Settings(home=tmp_path / "home", certificate_key=f"awskms:{kms_key(kms, spec)}")
    with pytest.raises(CertificateError) as refused, open_system(settings, create=True):
        pass
    assert refused.value.code is Code.KEY_INVALID
    assert not (settings.state / "keys").exists()


def test_an_alias_that_was_moved_to_another_kms_key_makes_no_leaf(kms, tmp_path):
    kms.create_alias(AliasName="alias/issuer", TargetKeyId=kms_key(kms, "ECC_NIST_P256"))
    settings = Settings(home=tmp_path / "home", certificate_key="awskms:alias/issuer")
    with open_system(settings, create=True) as system:
        kms.update_alias(AliasName="alias/issuer", TargetKeyId=kms_key(kms, "ECC_NIST_P256"))
        with pytest.raises(SignerError, match="another key"):
            commit_to_noise(system)
        assert log_size(system) == 0


def test_an_absent_kms_key_is_named(kms, tmp_path):
    settings = Settings(home=tmp_path / "home", certificate_key="awskms:00000000-0000-0000-0000-000000000000")
    with pytest.raises(SignerError, match=r"awskms:0000.*NotFound") as failure:
        external_signer(settings)
    assert "credentials" in failure.value.remedy


# Settings.


def test_a_kind_of_key_without_its_library_is_refused_with_what_installs_it(tmp_path):
    for uri, extra in {"gcpkms:projects/p/x": "gcpkms", "azurekms://v.vault.azure.net/keys/k/1": "azurekms"}.items():
        with pytest.raises(SettingsError) as failure:
            external_signer(Settings(home=tmp_path, certificate_key=uri))
        assert failure.value.remedy == f"pip install 'missing-by-design[{extra}]'"


@pytest.mark.parametrize(
    "uri", ["file:x", "hsm:2", "hsm:?label=x", "hsm:x?label=y", "awskms:", "gnupg:x", "azurekms:x"]
)
def test_a_key_uri_of_another_form_is_refused(uri):
    with pytest.raises(ValueError, match="certificate_key"):
        Settings(certificate_key=uri)


@pytest.mark.parametrize("name", ["key_passphrase", "token_pin"])
def test_one_secret_from_two_places_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"MBD_{name.upper()} and MBD_{name.upper()}_FILE are both set") as failure:
        Settings(**{name: "hush", f"{name}_file": tmp_path})
    assert "hush" not in str(failure.value)


@pytest.mark.parametrize(
    ("content", "passphrase"), [(b"a b", "a b"), (b"a b\n", "a b"), (b"a\n\n", "a\n"), ("é".encode(), "é")]
)
def test_a_passphrase_from_a_file_is_the_one_from_the_environment(content, passphrase, tmp_path):
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "file").chmod(0o400)
    with open_system(Settings(home=tmp_path / "home", key_passphrase_file=tmp_path / "file"), create=True):
        pass
    for path in (tmp_path / "home" / "keys").glob("*.pem"):
        assert b"ENCRYPTED" in path.read_bytes()
    with open_system(Settings(home=tmp_path / "home", key_passphrase=passphrase), create=False):
        pass


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [
        (b"x", 0o640, Code.KEY_FILE_PERMISSIONS),
        (b"x", 0o604, Code.KEY_FILE_PERMISSIONS),
        (b"", 0o600, Code.KEY_FILE_UNREADABLE),
        (b"\n", 0o600, Code.KEY_FILE_UNREADABLE),
        (None, 0, Code.KEY_FILE_UNREADABLE),
    ],
)
def test_a_secret_file_that_others_can_read_or_that_holds_nothing_is_refused(content, mode, code, tmp_path):
    if content is not None:
        (tmp_path / "file").write_bytes(content)
        (tmp_path / "file").chmod(mode)
    for given in ({"key_passphrase_file": tmp_path / "file"},
                  {"certificate_key": "hsm:2?label=issuer", "token_pin_file": tmp_path / "file"}):  # fmt: skip
        with (
            pytest.raises(KeyFileError) as failure,
            open_system(Settings(home=tmp_path / "home", **given), create=True),
        ):
            pass
        assert failure.value.code is code
        assert str(tmp_path / "file") in failure.value.message
        assert not (tmp_path / "home" / "keys").exists()
