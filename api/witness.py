"""The witness over HTTP (C2SP tlog-witness): add-checkpoint, and the checkpoint that it cosigned last for each log.

It reads requests within limits of size and time and writes a line of JSON for each. It decides nothing.
"""

import asyncio
import logging

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from certs.witness import MAX_BYTES, TEXT_TYPE, Answer, RefusalError, Submission
from mbd.errors import MbdError
from mbd.telemetry import logs
from mbd.workflow.witness import Witness

READ_SECONDS = 30
"""How long a client may take to send its request."""

_log = logs.logger("mbd.witness")


def create_witness(witness: Witness) -> FastAPI:
    """The application of one witness, whose submission and monitoring prefixes are both its root.

    Besides the protocol's codes: 408 the request came too slowly; 413 it is too large; 500 what it remembers is
    damaged, and it cosigns nothing.
    """
    app = FastAPI(title="witness", openapi_url=None, docs_url=None, redoc_url=None)

    @app.post("/add-checkpoint")
    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(READ_SECONDS):
                body = await _read(request)
        except TimeoutError:
            answer = Answer(408, "The request came too slowly.\n")
        except ClientDisconnect:
            answer = Answer(400, "The request was not complete.\n")
        else:
            answer = await run_in_threadpool(_answer, witness, body)
        return Response(answer.body, answer.status, {"content-type": answer.content_type})

    @app.get("/{origin_hash}/checkpoint")
    def checkpoint(origin_hash: str) -> Response:
        note = witness.checkpoint(origin_hash)
        if note is None:
            return Response("This witness has cosigned nothing of that log.\n", 404, {"content-type": TEXT_TYPE})
        return Response(note, 200, {"content-type": TEXT_TYPE, "cache-control": "no-cache"})

    return app


async def _read(request: Request) -> bytes:
    """The body, and of one that is too large only as much as shows that."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            break
    return bytes(body)


def _answer(witness: Witness, body: bytes) -> Answer:
    submission: Submission | None = None
    if len(body) > MAX_BYTES:
        answer = Answer(413, f"The request has more than {MAX_BYTES} bytes.\n")
    else:
        try:
            submission = witness.read(body)
            answer = Answer(200, witness.cosign(submission))
        except RefusalError as refused:
            answer = refused.answer
        except MbdError as error:
            _log.error("damaged", error=error)
            answer = Answer(500, "The witness cannot cosign for this log.\n")
    _report(submission, answer, body)
    return answer


def _report(submission: Submission | None, answer: Answer, body: bytes) -> None:
    """One line. A signed checkpoint that does not extend what is remembered is kept whole: it may prove a fork."""
    line: dict[str, object] = {"status": answer.status}
    if submission is not None:
        line |= {"origin": submission.checkpoint.origin, "old": submission.old, "size": submission.checkpoint.size}
        line["root"] = submission.checkpoint.root.hex()
    if answer.status not in (200, 409):
        line["answer"] = answer.body.strip()
    if answer.status == 422:
        line["request"] = body.decode()
    _log.log(logging.WARNING if answer.status == 422 else logging.INFO, "add-checkpoint", **line)
