"""Makes the golden vectors of everything that is said later, once: ``python -m certs.vectors.make_stamped``.

Certificates with time stamps under cosigned checkpoints, a copy of their log as tiles, with notices of every kind, and
what a verifier must answer to each, with the copy and without it. The keys are derived from public labels.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from certs import bundle, checkpoint, dsse, entry, notice, trusted_root
from certs.checkpoint import Checkpoint
from certs.keys import EcdsaP256Signer, Ed25519Signer, MlDsa44Signer, PublicKey
from certs.merkle import leaf_hash
from certs.note import NoteKey, SignatureType
from certs.notice import CertificateRevoked, Content, KeyCompromised, KeySucceeded, LogContinued, Predicate, Reason
from certs.payload import from_payload, to_payload
from certs.tiles import TILE_WIDTH, EntryBundle, encode_entries, new_tiles
from certs.timestamp_authority import TimestampAuthority
from certs.trusted_root import TrustedAuthority, TrustedLog, TrustedSigner, ValidFor
from certs.vectors import make

STAMPED = Path(__file__).parent / "stamped-v1"
ORIGIN = "stamped.vectors.missing-by-design.dev/log"
STOLEN_SINCE = make.DELETED_AT + timedelta(days=10)

stolen = EcdsaP256Signer(
    derive_private_key(int.from_bytes(sha256(b"golden stolen certificate key v1").digest()), SECP256R1())
)
successor = EcdsaP256Signer(
    derive_private_key(int.from_bytes(sha256(b"golden succeeding certificate key v1").digest()), SECP256R1())
)
log_signer = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(sha256(b"golden stamped log key v1").digest()))
ml_dsa_signer = MlDsa44Signer(MLDSA44PrivateKey.from_seed_bytes(sha256(b"golden ML-DSA log key v1").digest()))
witness_signer = Ed25519Signer(Ed25519PrivateKey.from_private_bytes(sha256(b"golden witness key v1").digest()))
log_key = NoteKey(ORIGIN, PublicKey.from_spki(log_signer.public_key))
ml_dsa_key = NoteKey(ORIGIN, PublicKey.from_spki(ml_dsa_signer.public_key), SignatureType.COSIGNATURE_ML_DSA_44)
witness_key = NoteKey(
    "witness.vectors.missing-by-design.dev",
    PublicKey.from_spki(witness_signer.public_key),
    SignatureType.COSIGNATURE_ED25519,
)


@dataclass(frozen=True)
class Issued:
    """A signed statement with its time stamp and its place."""

    envelope: dsse.Envelope
    signer: EcdsaP256Signer
    token: bytes
    index: int


class Log:
    """The smallest possible log: a list."""

    def __init__(self, authority: TimestampAuthority) -> None:
        self.authority = authority
        self.leaves: list[bytes] = []

    def issue(self, payload: bytes, signer: EcdsaP256Signer, *, at: datetime) -> Issued:
        """Sign, stamp and log a statement."""
        envelope = dsse.sign(payload, signer)
        request = TimestampRequestBuilder().data(envelope.signature.sig).hash_algorithm(HashAlgorithm.SHA256)
        token = self.authority.respond(request.cert_request(cert_request=False).build().as_bytes(), at=at)
        self.leaves.append(entry.leaf(envelope, PublicKey.from_spki(signer.public_key)))
        return Issued(envelope, signer, token, len(self.leaves) - 1)

    def say(self, content: Content, signer: EcdsaP256Signer, *, at: datetime) -> None:
        """Sign and log a notice."""
        self.leaves.append(notice.leaf(Predicate(issued_at=at, notice=content), signer))

    def leaf_hash(self, issued: Issued) -> str:
        """How a notice names a certificate."""
        return leaf_hash(self.leaves[issued.index]).hex()

    def note(self, at: datetime) -> str:
        """A checkpoint under both algorithms and a witness."""
        head = Checkpoint(ORIGIN, len(self.leaves), make.root_of(self.leaves))
        signed = checkpoint.sign(head, [log_signer, ml_dsa_signer], at=at)
        return signed + checkpoint.cosign(head, witness_key.name, witness_signer, at=at).text

    def bundle(self, issued: Issued, note: str) -> bytes:
        """A certificate under a checkpoint, which may be older than the log is now."""
        size = checkpoint.parse(note).size
        return bundle.build(
            issued.envelope,
            PublicKey.from_spki(issued.signer.public_key),
            log_id=log_key.log_id,
            index=issued.index,
            tree_size=size,
            path=make.path_of(issued.index, self.leaves[:size]),
            body=self.leaves[issued.index],
            checkpoint=note,
            timestamps=[issued.token],
        ).canonical()


def tile_files(leaves: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """The tiles and entry bundles of a log, by the definition."""
    for tile in new_tiles(0, len(leaves)):
        each = TILE_WIDTH**tile.level
        first = tile.index * TILE_WIDTH * each
        hashes = (make.root_of(leaves[first + n * each : first + (n + 1) * each]) for n in range(tile.width))
        yield tile.path, b"".join(hashes)
        if tile.level == 0:
            entries = leaves[first : first + tile.width]
            yield EntryBundle(tile.index, tile.width).path, encode_entries(entries)


def superseding(payload: bytes, leaf: str) -> bytes:
    """The same statement in the place of another."""
    statement = from_payload(payload)
    predicate = statement.predicate.model_copy(update={"supersedes": leaf})
    return to_payload(statement.model_copy(update={"predicate": predicate}))


def main() -> None:
    """Write the folder of this version, or refuse because it exists."""
    if STAMPED.exists():
        sys.exit(
            f"{STAMPED} exists: golden vectors are never made again. A new version of the formats is a new folder."
        )
    day, made = timedelta(days=1), make.DELETED_AT
    authority = TimestampAuthority.generate("vectors.missing-by-design.dev", now=make.VALID_FROM)
    log = Log(authority)
    previous = make.V1 / "checkpoint"
    old = checkpoint.parse(previous.read_text("utf-8"))
    continued = LogContinued(
        origin=old.origin, checkpoint=sha256(previous.read_bytes()).hexdigest(), size=old.size, root=old.root.hex()
    )
    log.say(continued, stolen, at=make.VALID_FROM)
    log.issue(make.noise_commitment(), stolen, at=make.VALID_FROM)
    issued = {
        "before-the-theft": log.issue(make.certified(), stolen, at=made),
        "superseded": log.issue(make.exact(), stolen, at=made),
        "in-error": log.issue(make.empirical(), stolen, at=made),
    }
    error = CertificateRevoked(
        leaf_hash=log.leaf_hash(issued["in-error"]), reason=Reason.ISSUED_IN_ERROR, superseded_by=None
    )
    log.say(error, stolen, at=made + day)
    issued["by-the-thief"] = log.issue(make.towers(), stolen, at=STOLEN_SINCE + day)
    first = log.note(STOLEN_SINCE + day)
    old_key, new_key = stolen.key_id, successor.key_id
    log.say(KeySucceeded(role="certificate", old_key=old_key, new_key=new_key), stolen, at=STOLEN_SINCE + 2 * day)
    theft = KeyCompromised(key=old_key, since=STOLEN_SINCE, since_index=issued["by-the-thief"].index)
    log.say(theft, successor, at=STOLEN_SINCE + 2 * day)
    renewed = superseding(make.exact(), log.leaf_hash(issued["superseded"]))
    issued["successor"] = log.issue(renewed, successor, at=STOLEN_SINCE + 3 * day)
    superseded = CertificateRevoked(
        leaf_hash=log.leaf_hash(issued["superseded"]),
        reason=Reason.SUPERSEDED,
        superseded_by=log.leaf_hash(issued["successor"]),
    )
    log.say(superseded, successor, at=STOLEN_SINCE + 3 * day)
    last = log.note(STOLEN_SINCE + 4 * day)
    certificates = {name: log.bundle(each, first if each.signer is stolen else last) for name, each in issued.items()}
    _write(certificates, log, last, authority)


def _write(certificates: Mapping[str, bytes], log: Log, note: str, authority: TimestampAuthority) -> None:
    window = ValidFor(start=make.VALID_FROM)
    signers = [
        TrustedSigner(PublicKey.from_spki(stolen.public_key), window),
        TrustedSigner(PublicKey.from_spki(successor.public_key), ValidFor(start=STOLEN_SINCE + timedelta(days=2))),
    ]
    logs, authorities = [TrustedLog(log_key, window)], [TrustedAuthority(authority.chain, window)]
    root = trusted_root.build_trusted_root(logs, signers, authorities)
    answers = {
        "before-the-theft": (None, None),
        "superseded": (None, "certificate-revoked"),
        "in-error": (None, "certificate-revoked"),
        "by-the-thief": (None, "key-compromised"),
        "successor": (None, None),
    }
    files = {
        "trusted_root.json": root,
        "time-stamp-chain.pem": authority.chain.pem,
        "log.vkey": f"{log_key.vkey}\n".encode(),
        "log-ml-dsa-44.vkey": f"{ml_dsa_key.vkey}\n".encode(),
        "witness.vkey": f"{witness_key.vkey}\n".encode(),
        "log/checkpoint": note.encode(),
        **{f"log/{path}": data for path, data in tile_files(log.leaves)},
        **{f"{name}.sigstore.json": data for name, data in certificates.items()},
    }
    expected = [
        {"certificate": f"{name}.sigstore.json", "code": alone, "codeWithLog": with_log}
        for name, (alone, with_log) in answers.items()
    ]
    files["expected.json"] = json.dumps(expected, indent=1).encode() + b"\n"
    for name, data in files.items():
        (STAMPED / name).parent.mkdir(parents=True, exist_ok=True)
        (STAMPED / name).write_bytes(data)


if __name__ == "__main__":
    main()
