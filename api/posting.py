"""A POST that changes something: once for each Idempotency-Key, in one transaction with the answer that is kept of it.

A client that has lost the answer, or a service that died over it, loses nothing: the request is sent again with its
key.
"""

import hmac
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel
from sqlalchemy import Connection

from api.dependencies import Here
from api.principals import Anybody, Principal
from api.problems import MEDIA_TYPE, Kind, ProblemError
from mbd.records import answers
from mbd.records.answers import Answer
from mbd.workflow.decisions import deciding
from mbd.workflow.office import Office

REPLAYED = "idempotency-replayed"
"""A header of an answer that was given before."""

Work = Callable[[Connection], BaseModel | ProblemError]
"""Does what was asked. A problem that it returns is kept and committed; one that it raises undoes everything."""


@dataclass(frozen=True)
class Posting:
    """One POST.

    Attributes:
        key: the client's Idempotency-Key, if there is one.
        about: method and path: a key of one route is not one of another.
    """

    office: Office
    principal: Principal
    key: str | None
    about: str

    def once(
        self, body: BaseModel | None, work: Work, *, status: int = 200, shown_once: Collection[str] = ()
    ) -> Response:
        """Do the work and answer, or answer what was answered to the same request before.

        Args:
            body: what was sent.
            work: what to do.
            status: of the answer, if that is no problem.
            shown_once: members of the answer that are not kept, so that a repetition has null there: secrets.

        Raises:
            ProblemError: the key was used for another request.
        """
        with deciding(self.office) as connection:
            if self.key is None:
                return _respond(_answer(work(connection), status))
            digest = self._digest(body)
            known = answers.find(connection, self.principal.id, self.key)
            if known is not None:
                return _again(known, digest)
            done = work(connection)
            answer = _answer(done, status)
            kept = replace(_answer(_without(done, shown_once), status) if shown_once else answer, digest=digest)
            answers.keep(connection, self.principal.id, self.key, kept, at=self.office.clock())
        return _respond(answer)

    def _digest(self, body: BaseModel | None) -> str:
        """Of what is asked; keyed, because that names a person, and could be guessed from a plain hash."""
        asked = "" if body is None else body.model_dump_json()
        key = self.office.identities.derive("idempotency v1")
        return hmac.digest(key, f"{self.about}\0{asked}".encode(), "sha256").hex()


def _without(done: BaseModel | ProblemError, members: Collection[str]) -> BaseModel | ProblemError:
    return done if isinstance(done, ProblemError) else done.model_copy(update=dict.fromkeys(members))


def _again(known: Answer, digest: str) -> Response:
    if known.digest != digest:
        raise ProblemError(
            Kind.KEY_REUSED, Kind.KEY_REUSED.value.meaning, remedy="use a new Idempotency-Key for each request"
        )
    return _respond(known, {REPLAYED: "true"})


def _answer(done: BaseModel | ProblemError, status: int) -> Answer:
    if isinstance(done, ProblemError):
        return Answer("", done.status_code, json.dumps(done.document()))
    return Answer("", status, done.model_dump_json())


def _respond(answer: Answer, headers: dict[str, str] | None = None) -> Response:
    media_type = "application/json" if answer.status < 400 else MEDIA_TYPE
    return Response(answer.body, answer.status, headers, media_type)


def _posting(
    request: Request,
    office: Here,
    principal: Anybody,
    idempotency_key: Annotated[
        str | None,
        Header(
            pattern=r"^[\x21-\x7e]{1,255}$",
            description="Any text of yours, a UUID for example: the same request sent again with it is done once.",
            examples=["8e03978e-40d5-43dd-bc93-6894a57f9324"],
        ),
    ] = None,
) -> Posting:
    return Posting(office, principal, idempotency_key, f"{request.method} {request.url.path}")


Once = Annotated[Posting, Depends(_posting)]
"""This POST."""
