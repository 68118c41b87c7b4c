"""``mbd lineage``: which models saw whose channel, and which certificate covers which step."""

from typing import Annotated, Any

import typer

from mbd.cli import exporting, versions
from mbd.cli.options import Home, Json, UsageError
from mbd.cli.output import Output, command, settings_for
from mbd.cohort.modality import Modality

app = typer.Typer(help="Model lines: which models saw whom, what is in service, what was destroyed; exports.")
app.command("steps")(versions.steps)
app.command("promote")(versions.promote)
app.command("retire")(versions.retire)
app.command("destroyed")(versions.destroyed)
app.command("export")(exporting.export)


@app.callback(invoke_without_command=True)
def lineage(
    context: typer.Context,
    subject: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which models saw this person's channels?")
    ] = None,
    modality: Annotated[
        Modality | None, typer.Option(metavar="NAME", help="Only this channel: text, audio or vision.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show model lines, or which models saw a person.

    Without --subject: every version of every line, the certificate of the deletion that made it, and certificates of
    absence about it. With --subject: which versions saw that person's channels, which version ended it, and where the
    person was certified absent. A command of this group has its own options, which come after its name.
    """
    if context.invoked_subcommand is not None:
        if subject or modality or home or as_json:
            raise UsageError(f"give options after the command: mbd lineage {context.invoked_subcommand} ...")
        return
    if modality is not None and subject is None:
        raise UsageError("--modality goes with --subject")
    with command(as_json) as out:
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            if subject is None:
                _lines(out, system)
            else:
                modalities = [modality] if modality else list(Modality)
                seen, absences = exposures(system, subject, modalities), _absences(system, subject, modalities)
                out.result = {"subject": subject, "exposures": seen, "absences": absences}
                show_exposures(out, subject, seen)
                _show_absences(out, absences)


def exposures(system: Any, subject: str, modalities: list[Modality]) -> list[dict[str, Any]]:
    """Which versions saw a person's channels, and what ended it."""
    from mbd.records.database import begin_snapshot
    from mbd.records.exposure import models_exposed_to
    from mbd.records.suppression import Channel

    key = system.identities.subject_key(subject)
    with begin_snapshot(system.engine) as connection:
        return [
            {
                "modality": modality.value,
                "line": seen.line,
                "version": seen.version,
                "state": seen.state.value,
                "ended_by_version": seen.ended_by.version if seen.ended_by else None,
                "certificate": seen.ended_by.certificate_id if seen.ended_by else None,
            }
            for modality in modalities
            for seen in models_exposed_to(connection, Channel(key, modality.value))
        ]


def show_exposures(out: Output, subject: str, seen: list[dict[str, Any]]) -> None:
    """The same, for people."""
    if not seen:
        out.say(f"No model here ever saw these channels of a person with exactly the name '{subject}'.")
        return
    out.table(
        f"Models that saw channels of '{subject}'",
        ["channel", "line", "version", "state", "ended by", "certificate"],
        [
            (
                row["modality"],
                row["line"],
                row["version"],
                row["state"],
                f"version {row['ended_by_version']}" if row["ended_by_version"] else "-",
                row["certificate"] or "-",
            )
            for row in seen
        ],
    )


def _absences(system: Any, subject: str, modalities: list[Modality]) -> list[dict[str, Any]]:
    """Certificates that say of a version that it holds nothing of a person's channels."""
    from mbd.records import certificates
    from mbd.records.database import begin_snapshot
    from mbd.records.suppression import Channel

    key = system.identities.subject_key(subject)
    with begin_snapshot(system.engine) as connection:
        found = {
            certificate
            for modality in modalities
            for certificate in certificates.absences_of(connection, Channel(key, modality.value))
        }
    return [
        {"line": certificate.model_line, "version": certificate.version, "certificate": certificate.id}
        for certificate in sorted(found, key=lambda certificate: certificate.created_at)
    ]


def _show_absences(out: Output, absences: list[dict[str, Any]]) -> None:
    if absences:
        rows = [(row["line"], row["version"], row["certificate"]) for row in absences]
        out.table("Certificates of absence", ["line", "version", "certificate"], rows)


def _lines(out: Output, system: Any) -> None:
    from mbd.records import certificates, models
    from mbd.records.certificates import CertificateKind
    from mbd.records.database import begin_snapshot
    from mbd.records.exposure import live_descendants_of_revoked

    with begin_snapshot(system.engine) as connection:
        issued: dict[tuple[str, int, CertificateKind], list[str]] = {}
        for found in certificates.current(connection):
            issued.setdefault((found.model_line, found.version, found.kind), []).append(found.id)
        versions: list[dict[str, Any]] = [
            {
                "line": version.line,
                "version": version.version,
                "state": version.state.value,
                "guarantee": version.guarantee_class,
                "certificates": issued.get((version.line, version.version, CertificateKind.DELETION), []),
                "absences": issued.get((version.line, version.version, CertificateKind.ABSENCE), []),
                "digest": version.digest,
            }
            for line in models.lines(connection)
            for version in models.versions(connection, line)
        ]
        leftover = live_descendants_of_revoked(connection)
    out.result = {"versions": versions, "live_with_revoked_channels": len(leftover)}
    if not versions:
        out.say("There is no model line yet: train one with `mbd train`.")
        return
    out.table(
        "Model lines",
        ["line", "version", "state", "guarantee", "certificate", "digest"],
        [
            (
                row["line"],
                row["version"],
                row["state"],
                row["guarantee"] or "-",
                _some(row["certificates"]),
                row["digest"][:12],
            )
            for row in versions
        ],
    )
    _show_absences(out, [row | {"certificate": _some(row["absences"])} for row in versions if row["absences"]])
    if leftover:
        out.say(
            f"revoked channels are still in live models ({len(leftover)}): run `mbd revoke --resume`.",
            lead="Unfinished:",
            style="red",
        )
    else:
        out.say("No live model descends from a revoked channel.", style="green")


def _some(certificates: list[str]) -> str:
    """The first certificate, and how many more there are."""
    return (certificates[0] + (f" +{len(certificates) - 1}" if len(certificates) > 1 else "")) if certificates else "-"
