"""Every SQL table, a page a subject, each with the reason why it exists. It knows no queries.

Times are UTC with whole seconds. A person appears only as a *subject key*, a keyed hash that the caller makes:
no plain identifier is ever stored. ``'*'`` as a subject key stands for everyone.
"""

from mbd.records.tables.evidence import certificate, commitment_key, noise_commitment, notice
from mbd.records.tables.ledger import LEDGER, checkpoint, cosignature, head, leaf, node
from mbd.records.tables.lineage import exposure, lineage_edge, lineage_node
from mbd.records.tables.models import destruction, model_version, release
from mbd.records.tables.requests import contact, message, revocation, revocation_event, suppression
from mbd.records.tables.schema import UtcDateTime, metadata
from mbd.records.tables.service import api_key, delivery, idempotency, opendsr_request, webhook
from mbd.records.tables.work import progress, worker

APPEND_ONLY = (*LEDGER, revocation_event)
"""What the database's triggers keep from being rewritten."""

PASSING = (progress, worker, idempotency)
"""Of interest for a while; the application may delete their rows."""

__all__ = [
    "APPEND_ONLY",
    "LEDGER",
    "PASSING",
    "UtcDateTime",
    "api_key",
    "certificate",
    "checkpoint",
    "commitment_key",
    "contact",
    "cosignature",
    "delivery",
    "destruction",
    "exposure",
    "head",
    "idempotency",
    "leaf",
    "lineage_edge",
    "lineage_node",
    "message",
    "metadata",
    "model_version",
    "node",
    "noise_commitment",
    "notice",
    "opendsr_request",
    "progress",
    "release",
    "revocation",
    "revocation_event",
    "suppression",
    "webhook",
    "worker",
]
