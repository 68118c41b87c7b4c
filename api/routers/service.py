"""Whether the service lives, and whether it can work."""

from fastapi import APIRouter

from api.dependencies import Here
from api.problems import Kind, ProblemError, documented
from mbd.errors import RecordsError
from mbd.records import ledger
from mbd.records.database import begin_snapshot

router = APIRouter(tags=["service"])


@router.get("/healthz", summary="Whether the process lives")
def healthz() -> dict[str, str]:
    """Asks nobody else: a process that answers is not to be killed because its database is away."""
    return {"status": "alive"}


@router.get("/readyz", summary="Whether it can answer", responses=documented(Kind.NOT_READY))
def readyz(office: Here) -> dict[str, str | int]:
    """Ready when the database answers, the log has a head and the trusted root can be read."""
    try:
        with begin_snapshot(office.engine) as connection:
            size = ledger.head(connection).size
        office.trusted_root_path.read_bytes()
    except (RecordsError, OSError) as error:
        raise ProblemError(Kind.NOT_READY, Kind.NOT_READY.value.meaning) from error
    return {"status": "ready", "log_size": size}
