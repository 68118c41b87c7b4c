"""The log as everybody may have it: signed checkpoint, tiles and entries (C2SP tlog-tiles), and what verifiers trust.

The files are those of ``published/log``, byte for byte; any web server could serve them instead.
"""

from fastapi import APIRouter, Response

from api import files, problems
from api.dependencies import Here
from api.problems import Kind, ProblemError
from certs.errors import CertificateError
from certs.tiles import TILE_WIDTH, parse_path
from mbd.workflow.log_source import CHECKPOINT, FolderSource
from mbd.workflow.publication import log_folder

router = APIRouter(tags=["log"])


@router.get(
    "/checkpoint",
    response_class=Response,
    responses=problems.documented(Kind.NOT_FOUND) | files.documented(files.TEXT),
    summary="The log's last signed checkpoint",
)
def checkpoint(office: Here) -> Response:
    """A signed note, with what witnesses said of it."""
    return _file(office, CHECKPOINT, files.TEXT, files.FOR_NOW)


@router.get(
    "/tile/{path:path}",
    response_class=Response,
    responses=problems.documented(Kind.NOT_FOUND, Kind.INVALID_REQUEST) | files.documented(files.BYTES),
    summary="A tile or a bundle of entries",
)
def tile(office: Here, path: str) -> Response:
    """A full file never changes; a partial one goes when the full one has come."""
    try:
        found = parse_path(f"tile/{path}")
    except CertificateError:
        raise ProblemError(Kind.NOT_FOUND, "That is not the name of a tile or of a bundle of entries.") from None
    return _file(office, found.path, files.BYTES, files.FOR_EVER if found.width == TILE_WIDTH else files.FOR_NOW)


@router.get(
    "/.well-known/trusted_root.json",
    response_class=Response,
    responses=problems.documented(Kind.NOT_FOUND) | files.documented(files.JSON),
    summary="What verifiers trust",
)
def trusted_root(office: Here) -> Response:
    """Sigstore's trusted root format. Take it over a way that you trust, and compare it with a copy from elsewhere."""
    try:
        data = office.trusted_root_path.read_bytes()
    except FileNotFoundError:
        raise ProblemError(Kind.NOT_FOUND, "Nothing is published yet.") from None
    return files.respond(data, files.JSON)


def _file(office: Here, path: str, media_type: str, cache: str) -> Response:
    data = FolderSource(log_folder(office.home)).fetch(path)
    if data is None:
        raise ProblemError(Kind.NOT_FOUND, "The log has no such file, or not yet.")
    return files.respond(data, media_type, cache=cache)
