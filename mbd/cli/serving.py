"""``mbd serve``, and how any of our applications is served: one address, until SIGTERM, with time to finish."""

import signal
import socket
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mbd.cli.options import Home
from mbd.cli.output import Output, command, settings_for
from mbd.errors import SettingsError

if TYPE_CHECKING:
    from fastapi import FastAPI

_GRACE_SECONDS = 10
_LAST_PORT = 65535


def serve(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where; port 0 is any free one.")] = "127.0.0.1:8080",
    home: Home = None,
) -> None:
    """Serve the API: requests, models, certificates, the log.

    Over HTTP, until SIGTERM. It needs no torch and no key that signs certificates. Prints its address; TLS is for a
    proxy before it. The description of its routes is at /openapi.json. Who may call what it does not answer to
    everybody: `mbd api-keys create`. The work is done by `mbd worker`.
    """
    with command(as_json=False) as out:
        from api.app import create_app
        from mbd.telemetry import logs

        settings = settings_for(home)
        if not settings.state.is_dir():
            raise SettingsError(f"There is no state folder {settings.state}.", remedy="begin with `mbd train`")
        logs.begin(sys.stderr, settings.log_level)
        serve_until_stopped(out, create_app(settings), listen)


def serve_until_stopped(out: Output, app: "FastAPI", place: str) -> None:
    """Serve an application; print its address once it is listening.

    Raises:
        SettingsError: the place is not HOST:PORT, or is taken.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        http="h11",  # whatever else is installed: docs/operations.md has its limits
        log_config=None,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,  # the application trusts whom the settings name, and uvicorn everybody on this machine
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = uvicorn.Server(config)
    # Before uvicorn takes the signal over, and when it raises it once more at its end for whoever was there before.
    signal.signal(signal.SIGTERM, lambda _number, _frame: setattr(server, "should_exit", True))
    with _listening(place) as bound:
        host, port = bound.getsockname()[:2]
        out.unbroken("Listening", f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
        sys.stdout.flush()
        server.run(sockets=[bound])


def _listening(place: str) -> socket.socket:
    """A listening socket: whoever connects from now on is served."""
    host, _, port = place.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > _LAST_PORT:
        raise SettingsError(f"'{place}' is not HOST:PORT.", remedy="give --listen as 127.0.0.1:8081 or [::1]:8081")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, int(port)), family=family)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{place} cannot be listened on: {error}.", remedy="choose another --listen") from None
    # Whoever is accepted inherits it. An answer's head and body are two writes: without it the second one would wait
    # until the first is acknowledged, 40 ms later. asyncio does the same, but not for a socket that it was given.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening
