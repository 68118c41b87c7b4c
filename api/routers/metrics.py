"""What monitoring scrapes: counts and times of the service, with nobody in them."""

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response

from api import files, problems
from api.principals import Principal, Scope, needs
from api.problems import Kind

router = APIRouter(tags=["service"])

_OPENMETRICS = "application/openmetrics-text"


@router.get(
    "/metrics",
    response_class=Response,
    responses=problems.documented(Kind.UNAUTHENTICATED, Kind.FORBIDDEN, Kind.NOT_READY)
    | {200: {"description": "The metrics", "content": {files.TEXT: {}, _OPENMETRICS: {}}}},
    summary="Metrics for Prometheus",
)
def metrics(
    request: Request,
    _scraper: Annotated[Principal, Depends(needs(Scope.METRICS))],
    accept: Annotated[str, Header()] = "",
) -> Response:
    """Prometheus' text format, or OpenMetrics for whoever accepts it."""
    data, media_type = request.app.state.metrics.expose(accept)
    return files.respond(data, media_type)
