"""Hands certificates out: the signed envelope of a record becomes a bundle and a text proof, on disk.

It signs no certificate and decides nothing; what it publishes was logged before.
"""

from pathlib import Path

from certs import bundle as bundles
from certs.dsse import Envelope
from certs.errors import Code
from mbd.durable import write_durably
from mbd.records import certificates
from mbd.records.certificates import Certificate
from mbd.records.database import begin_locked
from mbd.workflow.log import evidence
from mbd.workflow.system import System


def envelope_of(certificate: Certificate) -> Envelope:
    """What was signed.

    Raises:
        CertificateError: the stored envelope is damaged.
    """
    return Envelope.parse(certificate.envelope.encode(), Code.STATEMENT_MALFORMED, remedy="run `mbd ledger fsck`")


def publish_certificate(system: System, certificate: Certificate) -> Path:
    """Complete a certificate's bundle, unless it is complete, and write its files. Returns their folder.

    Crash point: the bundle is in the database before it is in a file; a later call writes the same bytes.

    Raises:
        TimeStampError: see `evidence`.
    """
    bundle = certificate.bundle
    if bundle is None:
        assert certificate.leaf_index is not None, "a log is retired when all its certificates are whole"
        made = evidence(system, envelope_of(certificate), certificate.leaf_index).canonical().decode()
        with begin_locked(system.engine) as connection:
            bundle = certificates.complete(connection, certificate.id, made).bundle
        assert bundle is not None, "complete stores a bundle"
    target = system.certificate_folder(certificate.id)
    target.mkdir(parents=True, exist_ok=True)
    proof = bundles.text_proof(bundles.parse(bundle.encode()))
    write_durably(target / "mdc.sigstore.json", bundle.encode())
    write_durably(target / "mdc.tlog-proof", proof.text.encode())
    return target
