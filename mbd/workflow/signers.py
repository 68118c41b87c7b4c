"""Secrets from the settings, and certificate keys that never leave a PKCS#11 token or a cloud's key service.

`ExternalSigner` is our `certs.keys.Signer` over a signer of securesystemslib. It knows neither what is signed nor which
key the deployment's verifiers trust: the keyring holds its public key against the trusted root.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from certs.errors import CertificateError
from certs.key_files import read_secret
from certs.keys import Algorithm, PublicKey, Uncopied
from mbd.errors import MbdError, SettingsError, SignerError
from mbd.settings import Settings, token_library

if TYPE_CHECKING:
    from securesystemslib.signer import Signer as Backend
    from securesystemslib.signer import SSlibKey

_ONE_AT_A_TIME = Lock()
"""A PKCS#11 login is the whole process's, and the library is opened for one thread."""


def key_passphrase(settings: Settings) -> bytes | None:
    """What the private keys on disk are encrypted with, or None.

    Raises:
        KeyFileError: its file is missing, readable by others, or empty.
    """
    if settings.key_passphrase_file:
        return read_secret(settings.key_passphrase_file)
    return settings.key_passphrase.get_secret_value().encode() if settings.key_passphrase else None


def external_signer(settings: Settings) -> "ExternalSigner | None":
    """The certificate key in a token or a key service, or None where the settings name none.

    Asks the token or the service for the public key, so that a wrong label is noticed before any work is done.

    Raises:
        SignerError: it cannot be reached, or has no such key.
        CertificateError: ``key-invalid``; the key is neither ECDSA P-256 nor Ed25519.
        KeyFileError: the file of the PIN is missing, readable by others, or empty.
        SettingsError: a PIN is missing, or the library for this kind of key.
    """
    uri = settings.certificate_key
    if uri is None:
        return None
    pin = _Pin(_token_pin(settings)) if uri.startswith("hsm:") else None
    with _reaching(uri, pin):
        imported = _import(uri, pin)
    key = PublicKey.from_pem(imported.keyval["public"].encode())
    with _reaching(uri, pin):
        from securesystemslib.signer import Signer as Opener  # noqa: PLC0415 - an extra that few need

        return ExternalSigner(uri, key, Opener.from_priv_key_uri(uri, imported, pin), pin)


@dataclass(frozen=True)
class ExternalSigner(Uncopied):
    """A certificate key in a token or at a service.

    Attributes:
        uri: which one.
        key: its public half, as it was when this signer was opened.
    """

    uri: str
    key: PublicKey
    _backend: "Backend" = field(repr=False)
    _pin: "_Pin | None" = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """A signature over the message, verified before it is returned.

        A token with another key under the same label must not produce a leaf that nobody can verify.

        Raises:
            SignerError: the token or service cannot be reached, refuses, or signs with another key.
        """
        with _reaching(self.uri, self._pin):
            signature = bytes.fromhex(self._backend.sign(message).signature)
        if not self.key.verifies(signature, message):
            raise SignerError(
                f"{self.uri} signs with another key than the one that it had when it was opened.",
                remedy="find out who changed it; put the old key back, or make a new deployment",
            )
        return signature

    @property
    def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo."""
        return self.key.spki

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm of the key."""
        return self.key.algorithm

    @property
    def key_id(self) -> str:
        """SHA-256 of ``public_key``, in hex."""
        return self.key.key_id


class _Pin(Uncopied):
    """What opens a token, until the token refuses it once: a few wrong tries lock many tokens for good."""

    def __init__(self, pin: str) -> None:
        self._pin = pin
        self.was_refused = False

    def __call__(self, name: str) -> str:
        """The PIN, when securesystemslib asks for it."""
        if self.was_refused:
            raise SignerError("The token refused its PIN before, so it was not tried again.", remedy=_PIN_REMEDY)
        return self._pin

    def is_in(self, text: str) -> bool:
        """Whether a text gives it away."""
        return self._pin in text


_PIN_REMEDY = "set MBD_TOKEN_PIN_FILE (or MBD_TOKEN_PIN) to the token's PIN; a few wrong ones lock many tokens"


def _token_pin(settings: Settings) -> str:
    if settings.token_pin_file:
        return read_secret(settings.token_pin_file).decode(errors="replace")
    if not settings.token_pin:
        raise SettingsError("MBD_CERTIFICATE_KEY names a token, and no PIN was given.", remedy=_PIN_REMEDY)
    return settings.token_pin.get_secret_value()


def _import(uri: str, pin: _Pin | None) -> "SSlibKey":
    """The public key, from where the private one is. The pattern of the setting has seen to the URI's form."""
    from securesystemslib import signer  # noqa: PLC0415 - an extra that few need

    parts = urlsplit(uri)
    match parts.scheme:
        case "hsm":
            (label,) = parse_qs(parts.query)["label"]
            _, key = signer.HSMSigner.import_(int(parts.path), label, pin)
        case "awskms":
            _, key = signer.AWSSigner.import_(parts.path)
        case "gcpkms":
            _, key = signer.GCPSigner.import_(parts.path)
        case _:
            newest, key = signer.AzureSigner.import_(parts.netloc.split(".")[0], parts.path.split("/")[2])
            if newest != uri:
                raise SignerError(f"{uri} is not the vault's newest version.", remedy=f"use {newest}, or restore it")
    return key


@contextlib.contextmanager
def _reaching(uri: str, pin: _Pin | None) -> Iterator[None]:
    """Talk to the token or service; every failure becomes one of ours that names no secret.

    Raises:
        SignerError: something failed there.
        SettingsError: the library for this kind of key is not installed.
    """
    with _ONE_AT_A_TIME:
        try:
            yield
        except (MbdError, CertificateError):
            raise
        except Exception as error:  # noqa: BLE001 - each library below has its own errors; all mean the same to us
            name, text = type(error).__name__, str(error)
            if isinstance(error, ModuleNotFoundError) or name == "UnsupportedLibraryError":
                extra = uri.partition(":")[0]
                raise SettingsError(
                    f"Keys of the kind '{extra}' need a library that is not installed.",
                    remedy=f"pip install 'missing-by-design[{extra}]'",
                ) from None
            if pin is not None:
                pin.was_refused |= name.startswith("Pin")
                _close_token_library()
                text = "" if pin.is_in(text) else text
            reason = f"{name}: {text}" if text else name
            raise SignerError(f"{uri} cannot be used ({reason}).", remedy=_remedy(pin)) from None


def _remedy(pin: _Pin | None) -> str:
    if pin is None:
        return "check MBD_CERTIFICATE_KEY, your credentials for the service and the network, then try again"
    if pin.was_refused:
        return _PIN_REMEDY
    return "put the token in, check MBD_CERTIFICATE_KEY, set PYKCS11LIB to the token's library, then try again"


def _close_token_library() -> None:
    """The next use opens it afresh: an open library may not notice that a token went, or that it came back."""
    import pkcs11  # noqa: PLC0415 - an extra that few need

    library = token_library()
    if library is not None:
        with contextlib.suppress(pkcs11.PKCS11Error):
            pkcs11.lib(library).finalize()
