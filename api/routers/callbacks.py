"""Endpoints that are told of changes to requests: registered, listed, and told nothing more."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from api import problems
from api.access import visible
from api.dependencies import Here, Reading
from api.posting import Once
from api.principals import Principal, Scope, needs
from api.problems import Kind, ProblemError
from mbd.errors import CallbackError, RecordsError
from mbd.records import webhooks
from mbd.records.webhooks import Webhook
from mbd.workflow.callbacks.policy import LONGEST, Target, UrlPolicy
from mbd.workflow.callbacks.standard import NAME, StandardWebhooks

router = APIRouter(prefix="/v1/callbacks", tags=["call-backs"])

MOST_ENDPOINTS = 20
"""Of one owner, those that were disabled not counted."""

_BY_OWNER = "disabled by its owner"

_SEEING = problems.documented(
    Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.NOT_FOUND, Kind.INVALID_REQUEST, Kind.NOT_READY
)
_DOING = _SEEING | problems.documented(Kind.TOO_LARGE, Kind.CONFLICT, Kind.TOO_SLOW, Kind.BAD_REQUEST)

Id = Annotated[str, Path(pattern=r"^wh_[0-9a-f]{32}$", description="An endpoint's id.")]
Owner = Annotated[Principal, Depends(needs(Scope.CALLBACKS, Scope.CREATE))]


class CallbackBody(BaseModel):
    """Who is to be told, and of what."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: Annotated[str, Field(min_length=1, max_length=LONGEST, examples=["https://hooks.example.org/mbd"])]
    revocation_id: Annotated[str, Field(pattern=r"^rev-[0-9a-f]{16}$")] | None = Field(
        None, description="The request to be told about. Left out: all requests, which takes `callbacks:manage`."
    )


class CallbackView(BaseModel):
    """An endpoint."""

    id: str
    url: str
    revocation_id: str | None
    created_at: datetime
    disabled_at: datetime | None
    disabled_because: str | None


class RegisteredView(CallbackView):
    """A new endpoint."""

    secret: str | None = Field(
        description="What its messages are signed with (whsec_…), this once: it is null where the answer is repeated."
    )


class KeyView(BaseModel):
    """The deployment's public key."""

    key: str = Field(description="What verifies the signatures v1a: whpk_ and 32 bytes in base64.")


@router.post("", status_code=201, response_model=RegisteredView, responses=_DOING, summary="Register an endpoint")
def register(post: Once, principal: Owner, request: Request, body: CallbackBody) -> Response:
    """From now on every change is posted there (docs/callbacks.md). Keep the secret: it is not shown again."""
    office = post.office
    target = _admitted(request.app.state.url_policy, body.url)

    def work(connection: Connection) -> BaseModel:
        if body.revocation_id is not None:
            visible(connection, principal, body.revocation_id)
        elif not principal.may(Scope.CALLBACKS):
            raise ProblemError(
                Kind.FORBIDDEN,
                "The key or token does not allow to be told of all requests.",
                remedy=f"name a request of yours, or use one with the scope {Scope.CALLBACKS}",
            )
        if isinstance(target, CallbackError):
            raise target
        mine = webhooks.of_owner(connection, principal.id, formats=[NAME])
        if sum(each.disabled_at is None for each in mine) >= MOST_ENDPOINTS:
            raise ProblemError(
                Kind.CONFLICT, f"There are {MOST_ENDPOINTS} endpoints of yours already.", remedy="disable one"
            )
        made = StandardWebhooks(office.identities).register(
            connection, target, owner=principal.id, revocation_id=body.revocation_id, at=office.clock()
        )
        return RegisteredView(**_view(made.webhook).model_dump(), secret=made.secret)

    return post.once(body, work, status=201, shown_once=("secret",))


@router.get("", responses=_SEEING, summary="See one's endpoints")
def own(reading: Reading, principal: Owner) -> list[CallbackView]:
    """The oldest first, the disabled among them."""
    return [_view(each) for each in webhooks.of_owner(reading, principal.id, formats=[NAME])]


@router.get("/key", responses=problems.documented(Kind.NOT_READY), summary="The key that signs for everybody")
def key(office: Here) -> KeyView:
    """It verifies the signatures v1a; it is public, and stays as long as the deployment's secret."""
    return KeyView(key=StandardWebhooks(office.identities).public_key)


@router.post(
    "/{callback_id}/disable", response_model=CallbackView, responses=_DOING, summary="Tell an endpoint nothing more"
)
def disable(post: Once, principal: Owner, callback_id: Id) -> Response:
    """What waits for it is given up. One that is disabled stays as it is."""

    def work(connection: Connection) -> BaseModel:
        try:
            webhooks.get(connection, callback_id, owner=principal.id)
        except RecordsError:
            raise ProblemError(Kind.NOT_FOUND, "There is no endpoint of that id, or it is not yours.") from None
        webhooks.disable(connection, callback_id, because=_BY_OWNER, at=post.office.clock())
        return _view(webhooks.get(connection, callback_id, owner=principal.id))

    return post.once(None, work)


def _admitted(policy: UrlPolicy, url: str) -> Target | CallbackError:
    """What the policy makes of a URL, before the transaction; a refusal counts in it, after an answer that is kept."""
    try:
        return policy.admit(url)
    except CallbackError as error:
        return error


def _view(webhook: Webhook) -> CallbackView:
    return CallbackView(
        id=webhook.id,
        url=webhook.url,
        revocation_id=webhook.revocation_id,
        created_at=webhook.created_at,
        disabled_at=webhook.disabled_at,
        disabled_because=webhook.disabled_because,
    )
