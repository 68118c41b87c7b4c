"""``mbd lineage export``: the lineage in the forms of other tools."""

from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mbd.cli.options import Home, Json, UsageError
from mbd.cli.output import command, settings_for


class LineageFormat(StrEnum):
    """What the lineage can be exported as."""

    OPENLINEAGE = "openlineage"
    CYCLONEDX = "cyclonedx"
    PROV = "prov"
    MLFLOW = "mlflow"


_LIBRARIES = {
    LineageFormat.OPENLINEAGE: ("openlineage", "exports"),
    LineageFormat.MLFLOW: ("mlflow", "mlflow"),
}


def export(
    form: Annotated[
        LineageFormat, typer.Option("--format", metavar="FORMAT", help="openlineage, cyclonedx, prov or mlflow.")
    ],
    to: Annotated[str, typer.Option(metavar="PATH|URL", help="A file, or a server: openlineage can go to either.")],
    line: Annotated[str | None, typer.Option(metavar="NAME", help="Only this model line.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Write or send the lineage: OpenLineage events, a CycloneDX ML-BOM, PROV-JSON, or versions in an MLflow registry.

    It names no person, be it by name or by key. Exporting again is harmless.
    """
    remote = "://" in to
    if remote and form in {LineageFormat.CYCLONEDX, LineageFormat.PROV}:
        raise UsageError(f"{form.value} goes to a file")
    if not remote and form is LineageFormat.MLFLOW:
        raise UsageError("mlflow goes to a server: give its address, such as http://localhost:5000")
    with command(as_json) as out:
        from mbd.errors import ExportError

        library, extra = _LIBRARIES.get(form, (None, ""))
        if library is not None and find_spec(library) is None:
            raise ExportError(
                f"The format {form.value} needs the library {library}.",
                remedy=f"install the extra `{extra}`: pip install 'missing-by-design[{extra}]'",
            )
        from mbd.records.database import begin_snapshot
        from mbd.workflow.exports.graph import read_lineage
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, begin_snapshot(system.engine) as connection:
            reading = read_lineage(connection, system.keyring.origin, line)
        out.result = {"format": form.value, "to": to, "versions": len(reading.versions)}
        match form:
            case LineageFormat.OPENLINEAGE:
                from mbd.workflow.exports import openlineage

                sent = openlineage.send(reading, to) if remote else openlineage.write(reading, Path(to))
                out.result["events"] = sent
            case LineageFormat.CYCLONEDX:
                from mbd.workflow.exports import cyclonedx
                from mbd.workflow.exports.files import write_file

                write_file(Path(to), cyclonedx.to_bytes(reading))
            case LineageFormat.PROV:
                from mbd.workflow.exports import prov
                from mbd.workflow.exports.files import write_file

                write_file(Path(to), prov.to_bytes(reading))
            case LineageFormat.MLFLOW:
                from mbd.workflow.exports import mlflow

                out.result["new"] = mlflow.send(reading, to)
        out.say(f"The lineage of {len(reading.versions)} model versions as {form.value} is in {to}.")
