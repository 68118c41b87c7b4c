"""Private keys on disk: PEM PKCS#8, mode 0600, written once, never overwritten. It knows nothing of what is signed."""

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from certs.errors import Code, KeyFileError
from certs.keys import EcdsaP256Signer, Ed25519Signer, MlDsa44Signer

FileSigner = EcdsaP256Signer | Ed25519Signer | MlDsa44Signer


def save_signer(path: Path, signer: FileSigner, *, passphrase: bytes | None) -> None:
    """Write a private key once, as PEM PKCS#8 with mode 0600; encrypted when there is a passphrase.

    The file is durable when this returns. A crash before that can leave a file that `load_signer` refuses; nothing
    was signed with it, so it can be deleted.

    Raises:
        KeyFileError: ``key-file-exists``; a key is never overwritten.
    """
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    pem = signer.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise KeyFileError(
            Code.KEY_FILE_EXISTS,
            f"There is already a key at {path}.",
            remedy="use that key, or move it to a safe place first: certificates signed with it stay valid",
        ) from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(descriptor)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name must outlive a crash too: certificates may be signed as soon as this returns
    finally:
        os.close(folder)


def load_signer(path: Path, *, passphrase: bytes | None) -> FileSigner:
    """Read a private key that `save_signer` (or openssl) wrote.

    Raises:
        KeyFileError: the file is missing, readable by others, not a key of the three
            algorithms, or the passphrase is wrong.
    """
    pem = _read_private_file(path)
    try:
        key = load_pem_private_key(pem, passphrase)
    except TypeError:
        problem = "is encrypted, and no passphrase was given" if not passphrase else "is not encrypted"
        raise KeyFileError(
            Code.KEY_FILE_PASSPHRASE,
            f"The key at {path} {problem}.",
            remedy="give the passphrase that the key was made with, or none if it was made without",
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        encrypted = b"ENCRYPTED" in pem
        raise KeyFileError(
            Code.KEY_FILE_PASSPHRASE if encrypted else Code.KEY_FILE_UNREADABLE,
            f"The key at {path} cannot be " + ("decrypted with this passphrase." if encrypted else "read."),
            remedy="check the passphrase" if encrypted else "restore the file from its backup",
        ) from None
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return EcdsaP256Signer(key)
    if isinstance(key, Ed25519PrivateKey):
        return Ed25519Signer(key)
    if isinstance(key, MLDSA44PrivateKey):
        return MlDsa44Signer(key)
    raise KeyFileError(
        Code.KEY_FILE_UNREADABLE,
        f"The key at {path} is neither ECDSA P-256 nor Ed25519 nor ML-DSA-44.",
        remedy="make a key of one of these kinds",
    )


def _read_private_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            content = file.read()
    except OSError as error:
        raise KeyFileError(
            Code.KEY_FILE_UNREADABLE,
            f"The key at {path} cannot be opened: {error.strerror}.",
            remedy="check the path, or make a key first",
        ) from None
    if mode & 0o077:
        raise KeyFileError(
            Code.KEY_FILE_PERMISSIONS,
            f"The key at {path} has mode {mode:04o}: others than its owner can reach it.",
            remedy=f"run: chmod 600 {path}; if others may have read it, replace the key",
        )
    return content
