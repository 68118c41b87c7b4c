"""Verifies a certificate where its log is at hand: offline, then against the notices that the log's index knows.

It needs the database and the published trusted root, and no key: the API does it for strangers.
"""

from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import Connection

from certs import notice as wire
from certs import standing
from certs.checkpoint import parse
from certs.errors import CertificateError, VerificationError
from certs.standing import Found, Logged
from certs.verification import Verified, verify
from mbd.records import ledger, notices

_LOG_STEP = 6


def verify_in_log(connection: Connection, bundle: bytes, trusted_root: bytes, *, at: datetime) -> Verified:
    """Verify a certificate, and that nothing in this deployment's log speaks against it.

    Args:
        connection: for reading.
        bundle: the certificate file.
        trusted_root: the deployment's own.
        at: the time, with a zone.

    Raises:
        VerificationError: the first step that failed; what the log says later is step 6.
    """
    verified = verify(bundle, trusted_root, at=at)
    logged = Logged(verified.origin, verified.leaf_index, verified.leaf_hash, verified.key_id, verified.signed_at)
    try:
        standing.check_notices(logged, _notices_about(connection, logged))
    except CertificateError as error:
        raise VerificationError(_LOG_STEP, error.code, error.message, remedy=error.remedy) from error
    return verified


def _notices_about(connection: Connection, logged: Logged) -> Iterator[Found]:
    """Of the certificate and of the key that signed it. They were verified when they were logged."""
    signed = ledger.latest_checkpoint(connection)
    origin = parse(signed.note).origin if signed else logged.origin
    for digest in (logged.leaf_hash, logged.key_id):
        for notice in notices.about(connection, digest):
            yield Found(origin, notice.leaf_index, wire.read(ledger.leaf(connection, notice.leaf_index))[0])
