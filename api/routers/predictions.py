"""Predictions. What may be read of whom is decided by the predictor, at the moment of its answer, and not here."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from api import problems
from api.principals import Scope, needs
from api.problems import Kind
from mbd.workflow.predicting.client import PredictorClient
from mbd.workflow.predicting.exchange import Answer, Question

router = APIRouter(
    prefix="/v1/predictions",
    tags=["predictions"],
    dependencies=[Depends(needs(Scope.PREDICT))],
    responses=problems.documented(
        Kind.UNAUTHENTICATED,
        Kind.FORBIDDEN,
        Kind.INVALID_REQUEST,
        Kind.NOT_READY,
        Kind.TOO_LARGE,
        Kind.TOO_SLOW,
        Kind.BAD_REQUEST,
    ),
)


def _predictor(request: Request) -> PredictorClient:
    found: PredictorClient = request.app.state.predictor
    return found


@router.post("", summary="Predict clips")
def predict(predictor: Annotated[PredictorClient, Depends(_predictor)], question: Question) -> Answer:
    """By the version of a line that is in service, from what has not been withdrawn; nothing of the clips is kept."""
    return predictor.ask(question)
