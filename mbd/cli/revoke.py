"""``mbd revoke``: withdraw modalities of people, from every live model."""

from typing import Annotated, Any

import typer

from mbd.cli.output import Home, Json, Output, command, settings_for


def revoke(
    subject: Annotated[list[str] | None, typer.Option(help="Whose channels; may be repeated.")] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="text, audio or vision; may be repeated. Default: all there is.")
    ] = None,
    everyone: Annotated[bool, typer.Option("--everyone", help="Withdraw the modality for everyone.")] = False,
    regime: Annotated[str, typer.Option(help="The law or policy: gdpr, ccpa, bipa, ...")] = "gdpr",
    resume: Annotated[bool, typer.Option("--resume", help="Only finish what was interrupted.")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Withdraw channels: suppress them at once, delete them from every live model, and issue certificates.

    --subject S --modality audio withdraws one channel; several of both withdraw all combinations; --subject S alone
    withdraws everything of that person; --everyone --modality audio withdraws a modality for all.
    """
    _check_usage(subject or [], modality or [], everyone=everyone, resume=resume)
    with command(as_json) as out:
        from mbd.cohort.cohort import EVERYONE
        from mbd.cohort.modality import parse_modality
        from mbd.workflow import revocation
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, out.progress() as bar:
            task = bar.add_task("revoking", total=None, about="")

            def on_step(step: str) -> None:
                bar.update(task, about=step)

            if resume:
                results = revocation.resume(system, on_step=on_step)
            else:
                people = [EVERYONE] if everyone else list(subject or [])
                named = [parse_modality(name) for name in modality or []]
                pairs = {(person, m) for person in people for m in named or revocation.channels_of(system, person)}
                results = revocation.revoke(system, pairs, regime=regime, on_step=on_step)
            bar.update(task, total=1, completed=1, about="done")
            trusted_root = system.trusted_root_path
        show_results(out, results)
        out.result = {"results": [result_json(result) for result in results], "trusted_root": str(trusted_root)}
        if results:
            out.path("Verify with", f"mbd certificate verify {results[0].bundle} --trusted-root {trusted_root}")


def show_results(out: Output, results: list[Any]) -> None:
    """What happened to each line, for people."""
    if not results:
        out.say("Nothing was interrupted.")
    for result in results:
        out.say(f"Model line '{result.line}' is now version {result.version}; certificate {result.certificate}.")
        outcome = result.outcome
        if outcome is not None:
            from mbd.cohort.modality import pattern_name

            def names(patterns: Any) -> str:
                return " ".join(pattern_name(pattern) for pattern in patterns) or "none"

            out.say(
                f"  {outcome.mechanism} in {result.deletion_seconds * 1000:.0f} ms, {outcome.rows_touched} rows; "
                f"heads released again: {names(outcome.updated)}; untouched: {names(outcome.unchanged)}; "
                f"dropped: {names(outcome.dropped)}."
            )
        out.path("  certificate", result.bundle)


def result_json(result: Any) -> dict[str, Any]:
    """What happened to one line, for programs."""
    return {
        "line": result.line,
        "version": result.version,
        "certificate": result.certificate,
        "bundle": str(result.bundle),
        "mechanism": result.outcome.mechanism if result.outcome else None,
        "deletion_seconds": result.deletion_seconds,
    }


def _check_usage(subject: list[str], modality: list[str], *, everyone: bool, resume: bool) -> None:
    if resume and (subject or modality or everyone):
        raise typer.BadParameter("--resume goes alone")
    if not resume and bool(subject) == everyone:
        raise typer.BadParameter("say who: --subject NAME, or --everyone")
    if everyone and not modality:
        raise typer.BadParameter("--everyone needs a --modality")
