"""Gets RFC 3161 time stamps over signatures: of the deployment's own authority, or of one that is asked over HTTP.

What comes back is held against the trusted root before it is used: what verifiers would refuse is an error here.
"""

from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

from certs import timestamp
from certs.errors import CertificateError
from certs.timestamp import Token
from mbd.errors import TimeStampError
from mbd.workflow.system import System

_SECONDS = 10.0
_LARGEST = 1 << 16


def stamp(system: System, signature: bytes) -> bytes:
    """A DER TimeStampResp over a signature, by an authority that the trusted root names.

    Raises:
        TimeStampError: the authority cannot be reached, refuses, or answers with what does not verify.
    """
    request = TimestampRequestBuilder().data(signature).hash_algorithm(HashAlgorithm.SHA256)
    asked = request.nonce(nonce=True).cert_request(cert_request=False).build()
    url = system.settings.timestamp_url
    keyring = system.keyring
    answer = _ask(url, asked.as_bytes()) if url else keyring.authority.respond(asked.as_bytes(), at=system.clock())
    try:
        token = timestamp.parse(answer)
        timestamp.verify(token, signature, keyring.trusted.chains(token.made_at))
    except CertificateError as error:
        raise TimeStampError(
            f"The answer of {url or 'our own time stamp authority'} is of no use: {error.message}",
            remedy="register its chain with `mbd keys trust-authority`, or check its clock and this machine's",
        ) from error
    if _nonce(token) != asked.nonce:
        raise TimeStampError(
            f"The answer of {url} is to another request.",
            remedy="try again; if it happens again, use another authority",
        )
    return answer


def _nonce(token: Token) -> int | None:
    try:
        return token.response.tst_info.nonce
    except ValueError:  # the library's word for "there is none"
        return None


def _ask(url: str, request: bytes) -> bytes:
    """POST of RFC 3161 section 3.4."""
    import httpx  # noqa: PLC0415 - an extra that only those need who ask somebody else

    try:
        with httpx.stream(
            "POST",
            url,
            content=request,
            headers={"Content-Type": "application/timestamp-query"},
            timeout=_SECONDS,
            follow_redirects=False,
        ) as response:
            response.raise_for_status()
            answer = b""
            for chunk in response.iter_bytes():
                answer += chunk
                if len(answer) > _LARGEST:
                    raise TimeStampError(f"{url} answers without end.", remedy="use another time stamp authority")
    except httpx.HTTPError as error:
        raise TimeStampError(
            f"The time stamp authority {url} cannot be used: {error}.",
            remedy="nothing is lost: finish with `mbd revoke --resume` when it is back, or change MBD_TIMESTAMP_URL",
        ) from error
    return answer
