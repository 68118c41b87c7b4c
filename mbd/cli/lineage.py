"""``mbd lineage``: which models saw whose channel, and which certificate covers which step."""

from typing import Annotated, Any

import typer

from mbd.cli.output import Home, Json, Output, command, settings_for


def lineage(
    subject: Annotated[str | None, typer.Option(help="Which models saw this person's channels?")] = None,
    modality: Annotated[str | None, typer.Option(help="Only this modality: text, audio or vision.")] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Show model lines and their steps; with --subject, which versions saw that person, and what ended it."""
    with command(as_json) as out:
        from mbd.cohort.modality import Modality, parse_modality
        from mbd.workflow.system import open_system

        if modality is not None and subject is None:
            raise typer.BadParameter("--modality goes with --subject")
        with open_system(settings_for(home), create=False) as system:
            if subject is None:
                _lines(out, system)
            else:
                _exposures(out, system, subject, [parse_modality(modality)] if modality else list(Modality))


def _exposures(out: Output, system: Any, subject: str, modalities: list[Any]) -> None:
    from mbd.records.database import begin_snapshot
    from mbd.records.exposure import models_exposed_to
    from mbd.records.suppression import Channel

    key = system.keyring.subject_key(subject)
    rows, result = [], []
    with begin_snapshot(system.engine) as connection:
        for modality in modalities:
            for seen in models_exposed_to(connection, Channel(key, modality.value)):
                ended = seen.ended_by
                rows.append(
                    (
                        modality.value,
                        f"{seen.line} version {seen.version}",
                        seen.state.value,
                        f"version {ended.version}" if ended else "no: it is still in it",
                        (ended.certificate_id or "") if ended else "",
                    )
                )
                result.append(
                    {
                        "modality": modality.value,
                        "line": seen.line,
                        "version": seen.version,
                        "state": seen.state.value,
                        "ended_by_version": ended.version if ended else None,
                        "certificate": ended.certificate_id if ended else None,
                    }
                )
    out.result = {"subject": subject, "exposures": result}
    if rows:
        out.table(
            f"Models that saw channels of '{subject}'", ["channel", "model", "state", "ended by", "certificate"], rows
        )
    else:
        out.say(f"No model version ever saw these channels of '{subject}'.")


def _lines(out: Output, system: Any) -> None:
    from mbd.records import certificates, models
    from mbd.records.database import begin_snapshot
    from mbd.records.exposure import live_descendants_of_revoked

    rows, result = [], []
    with begin_snapshot(system.engine) as connection:
        by_version = {(c.model_line, c.version): c for c in certificates.all_certificates(connection)}
        for live in models.live_versions(connection):
            for version in models.versions(connection, live.line):
                found = by_version.get((version.line, version.version))
                rows.append(
                    (
                        version.line,
                        version.version,
                        version.state.value,
                        version.guarantee_class or "trained",
                        found.id if found else "",
                        version.digest[:16],
                    )
                )
                result.append(
                    {
                        "line": version.line,
                        "version": version.version,
                        "state": version.state.value,
                        "guarantee": version.guarantee_class,
                        "certificate": found.id if found else None,
                        "digest": version.digest,
                    }
                )
        leftover = live_descendants_of_revoked(connection)
    out.result = {"versions": result, "live_with_revoked_channels": len(leftover)}
    if not rows:
        out.say("There is no model line yet: train one with `mbd train`.")
        return
    out.table("Model lines", ["line", "version", "state", "made by", "certificate", "digest"], rows)
    if leftover:
        out.say(
            f"[bold red]{len(leftover)} revoked channels are still in live models:[/] "
            "run `mbd revoke --resume` to finish what was interrupted."
        )
    else:
        out.say("No live model descends from a revoked channel.")
