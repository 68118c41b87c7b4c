"""Files as responses: their bytes as they are, their media type, and how long anybody may keep them."""

from typing import Any

from fastapi import Response

FOR_EVER = "public, max-age=31536000, immutable"
FOR_NOW = "no-cache"
TEXT, BYTES, JSON = "text/plain; charset=utf-8", "application/octet-stream", "application/json"


def respond(data: bytes | str, media_type: str, *, cache: str = FOR_NOW) -> Response:
    """A file."""
    return Response(data, media_type=media_type, headers={"cache-control": cache, "x-content-type-options": "nosniff"})


def documented(media_type: str) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of the file that it gives."""
    return {200: {"description": "The file", "content": {media_type: {}}}}
