"""Where a list goes on, as a text that means nothing to clients: one that they made up or changed is refused."""

import base64
import binascii
import hmac
import json

from api.problems import Kind, ProblemError
from mbd.hashing import canonical_json
from mbd.workflow.office import Office

_TAG_BYTES = 16


def write(office: Office, place: tuple[str, str], about: object) -> str:
    """A cursor for a place in a list, which holds for this list alone: with these filters, of this principal."""
    data = canonical_json(list(place))
    return base64.urlsafe_b64encode(_tag(office, data, about) + data).decode().rstrip("=")


def read(office: Office, cursor: str, about: object) -> tuple[str, str]:
    """The place that a cursor stands for.

    Raises:
        ProblemError: it is not one of ours, or of another list.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    tag, data = raw[:_TAG_BYTES], raw[_TAG_BYTES:]
    if not hmac.compare_digest(tag, _tag(office, data, about)):
        raise ProblemError(
            Kind.UNACCEPTABLE, "The cursor is not one of this list.", remedy="begin without one, with the same filters"
        )
    moment, last = json.loads(data)
    return moment, last


def _tag(office: Office, data: bytes, about: object) -> bytes:
    key = office.identities.derive("cursors v1")
    return hmac.digest(key, canonical_json(about) + b"\0" + data, "sha256")[:_TAG_BYTES]
