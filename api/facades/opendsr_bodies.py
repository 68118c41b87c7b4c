"""What OpenDSR 2.0 sends and is answered, as the specification has it (github.com/opengdpr/OpenDSR, specification.md).

Members that it does not know are let pass, in the request and not in our own extension. It knows no database.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api.problems import Kind, ProblemError

MODALITIES = ("text", "audio", "vision")
MOST_IDENTITIES = 10
MOST_CALLBACKS = 10

CUSTOMER = "controller_customer_id"
EMAIL = "email"
UUID4 = r"^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:")
_EXAMPLE = "a7551968-d5d6-44b2-9831-815ac9017798"

Text = Annotated[str, Field(max_length=64)]
SubjectRequestId = Annotated[
    str, Field(pattern=UUID4, description="What the controller calls the request.", examples=[_EXAMPLE])
]


def _rfc_3339(value: object) -> object:
    """Pydantic alone takes numbers too."""
    if not isinstance(value, str) or not _TIME.match(value):
        raise ValueError("it is no RFC 3339 date and time with a zone")
    return value


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("that time has no UTC") from None


class IdentityBody(BaseModel):
    """Whom it is about."""

    model_config = ConfigDict(frozen=True)

    identity_type: Text = Field(description=f"{CUSTOMER}: the name that the cohorts have; {EMAIL}: how to reach them.")
    identity_format: Text = Field(description="raw")
    identity_value: Annotated[str, Field(min_length=1, max_length=254, repr=False)]


class RequestBody(BaseModel):
    """A request."""

    model_config = ConfigDict(frozen=True)

    regulation: Literal["gdpr", "ccpa"]
    subject_request_id: SubjectRequestId
    subject_request_type: Literal["access", "portability", "erasure"]
    subject_identities: Annotated[list[IdentityBody], Field(min_length=1, max_length=MOST_IDENTITIES)]
    submitted_time: Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_in_utc)]
    api_version: Annotated[str, Field(pattern=r"^2(\.[0-9]{1,3})?$")] | None = None
    status_callback_urls: Annotated[list[str], Field(max_length=MOST_CALLBACKS, repr=False)] = []
    extensions: dict[str, Any] = Field({}, repr=False, description="By domain; of ours, `modalities` counts.")

    @property
    def subject(self) -> str:
        """The person's name.

        Raises:
            ProblemError: it is not given, or more than one is.
        """
        named = self._values(CUSTOMER)
        if len(named) != 1:
            raise ProblemError(
                Kind.UNACCEPTABLE,
                f"There is not exactly one identity of type {CUSTOMER}.",
                remedy="send one request for each person, with the name that the cohorts have",
            )
        return named[0]

    @property
    def contact(self) -> str | None:
        """How the person can be reached, if that is said.

        Raises:
            ProblemError: more than one address is given.
        """
        addresses = self._values(EMAIL)
        if len(addresses) > 1:
            raise ProblemError(Kind.UNACCEPTABLE, "There is more than one e-mail address.", remedy="give one")
        return addresses[0] if addresses else None

    def check(self, *, now: datetime) -> None:
        """Refuse what is well-formed and cannot be done.

        Raises:
            ProblemError: it is no erasure, has an identity that cannot be used, or lies in the future.
        """
        if self.subject_request_type != "erasure":
            raise ProblemError(
                Kind.UNACCEPTABLE, "Only requests of the type erasure are carried out here.", remedy="see discovery"
            )
        if self.submitted_time > now + timedelta(days=1):
            raise ProblemError(Kind.UNACCEPTABLE, "submitted_time is in the future.", remedy="look at your clock")
        for identity in self.subject_identities:
            if identity.identity_type not in (CUSTOMER, EMAIL) or identity.identity_format != "raw":
                raise ProblemError(
                    Kind.UNACCEPTABLE,
                    "An identity has a type or format that cannot be used here.",
                    remedy=f"leave it out: {CUSTOMER} and {EMAIL} are used, both raw",
                )

    def modalities(self, domain: str) -> frozenset[str]:
        """What is to be withdrawn: what our extension selects, or all.

        Raises:
            ProblemError: the extension is of another form.
        """
        if domain not in self.extensions:
            return frozenset(MODALITIES)
        try:
            return frozenset(_Selection.model_validate(self.extensions[domain], strict=True).modalities)
        except ValidationError:
            raise ProblemError(
                Kind.UNACCEPTABLE,
                "The extension of this service is not of its form.",
                remedy=f"write {{'modalities': [...]}} with one or more of {', '.join(MODALITIES)}, and nothing else",
            ) from None

    def _values(self, kind: str) -> list[str]:
        return [each.identity_value for each in self.subject_identities if each.identity_type == kind]


class _Selection(BaseModel):
    model_config = ConfigDict(extra="forbid")

    modalities: Annotated[list[Literal["text", "audio", "vision"]], Field(min_length=1, max_length=3)]


class SupportedIdentity(BaseModel):
    """An identity that requests can have."""

    identity_type: str
    identity_format: str


class Discovery(BaseModel):
    """What this processor supports."""

    api_version: str
    supported_identities: list[SupportedIdentity]
    supported_subject_request_types: list[str]
    processor_certificate: str = Field(description="Where the certificate is that verifies X-OpenDSR-Signature (PEM).")


class Receipt(BaseModel):
    """That a request has come."""

    controller_id: str
    expected_completion_time: str
    received_time: str
    encoded_request: str = Field(description="The request's bytes in base64. The controller must not keep it.")
    subject_request_id: SubjectRequestId


class Status(BaseModel):
    """How far a request has come."""

    controller_id: str
    expected_completion_time: str
    subject_request_id: SubjectRequestId
    request_status: Literal["pending", "in_progress", "completed", "cancelled"]
    api_version: str
    results_url: str | None = Field(None, description="Once it has ended: why, and with which certificates.")


class Cancellation(BaseModel):
    """That a request was taken back."""

    controller_id: str
    subject_request_id: SubjectRequestId
    received_time: str
    api_version: str


class ErrorDetail(BaseModel):
    """One mistake."""

    domain: str
    reason: str
    message: str


class Error(BaseModel):
    """What went wrong."""

    code: int
    message: str
    errors: list[ErrorDetail]


class ErrorBody(BaseModel):
    """OpenDSR's error object."""

    error: Error
