"""``mbd revoke``: withdraw modalities of people, from every live model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from certs.errors import CertificateError
from mbd.cli.attack import show_reports
from mbd.cli.options import (
    CertifyAbsence,
    Everyone,
    Home,
    Json,
    Modalities,
    Regime,
    Subjects,
    UsageError,
    check_scope,
)
from mbd.cli.output import Output, command, settings_for
from mbd.cli.towers import start_retraining
from mbd.cohort.modality import Modality, parse_modality, pattern_name
from mbd.errors import CohortError, MbdError


def revoke(
    subject: Subjects = None,
    modality: Modalities = None,
    everyone: Everyone = False,
    regime: Regime = "gdpr",
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="CSV",
            exists=True,
            dir_okay=False,
            help="Many requests at once: columns subject and modality (empty: all there is).",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Only finish what was interrupted.")] = False,
    certify_absence: CertifyAbsence = False,
    retrain_towers: Annotated[
        bool, typer.Option("--retrain-towers", help="Then train dropped towers again, in the background.")
    ] = False,
    attack: Annotated[
        bool, typer.Option("--attack", help="Attack the deletion before it is certified. Always: MBD_ATTACK.")
    ] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Withdraw channels of people from every live model.

    The channels are suppressed at once, then deleted from each model line; every line gets a certificate.

    --subject S --modality audio withdraws one channel, several of both all combinations; --subject S alone everything
    of that person; --everyone --modality audio a modality of all people. --file carries out many requests together:
    each model is solved once, and each person gets a certificate that names nobody else. With --certify-absence a model
    that holds nothing of a request gives a certificate of that, and the channels are suppressed all the same. With
    --retrain-towers the towers that a deletion dropped come back in a later version; nobody waits for it. With --attack
    a deletion whose claim an attack breaks is not certified.
    """
    _check_usage(subject or [], modality or [], everyone=everyone, file=file, resume=resume)
    with command(as_json) as out:
        from mbd.cohort.cohort import EVERYONE
        from mbd.workflow import filing, revocation
        from mbd.workflow.system import open_system

        batch: dict[str, list[Any]] = {}
        whole = True
        with open_system(settings_for(home, certify_absence=certify_absence, attack=attack), create=False) as system:
            with out.stages() as stages, _hint_at_unfinished(system):

                def on_step(step: str) -> None:
                    stages.update("revoking", None, step)

                if resume:
                    results = revocation.resume(system, on_step=on_step)
                elif file is not None:
                    asked = _requests_in(system, file)
                    wanted = [[(person, m) for m in modalities] for person, modalities in asked.items()]
                    batch = dict(
                        zip(asked, revocation.revoke_batch(system, wanted, regime=regime, on_step=on_step), strict=True)
                    )
                    results = [result for each in batch.values() for result in each]
                else:
                    people = [EVERYONE] if everyone else subject or []
                    pairs = {(p, m) for p in people for m in modality or filing.channels_of(system, p)}
                    results = revocation.revoke(system, pairs, regime=regime, on_step=on_step)
            trusted_root, state = system.trusted_root_path, system.home
        out.result = {"results": [result_json(result) for result in results], "trusted_root": str(trusted_root)}
        lacking = dict.fromkeys(result.line for result in results if result.outcome and result.outcome.towers)
        if retrain_towers and lacking:
            process, log = start_retraining(state, lacking)
            out.result["retraining"] = {"lines": list(lacking), "process": process, "log": str(log)}
            out.say(f"Training the towers of {', '.join(lacking)} again in process {process}; it writes to {log}.")
        if resume and not results:
            out.say("Nothing was interrupted.")
        if file is not None:
            _show_batch(out, batch)
        for result in results if file is None else ():
            show_result(out, result)
            out.command(
                "  Verify it with", "mbd", "certificate", "verify", result.bundle, "--trusted-root", trusted_root
            )
        if reports := {id(report): report for result in results for report in result.reports}:
            whole = show_reports(out, list(reports.values()))
    if not whole:
        raise typer.Exit(1)


def show_result(out: Output, result: Any) -> None:
    """What happened to one line, for people."""
    if result.kind == "absence":
        _show_absence(out, result)
    else:
        _show_version(out, result)
    out.unbroken("  Certificate", result.bundle)


def _show_absence(out: Output, result: Any) -> None:
    out.say(f"Model line '{result.line}', version {result.version}, holds none of it. Nothing was deleted.")
    out.item("the channels are suppressed from now on: import, training and prediction refuse them")
    out.item("names are compared exactly: make sure that this is the one that the cohorts use")


def _show_version(out: Output, result: Any) -> None:
    out.say(f"Model line '{result.line}' is now version {result.version}.")
    outcome = result.outcome
    if outcome is not None:
        rows = f", {outcome.rows_touched} rows taken out of the statistics" if outcome.rows_touched else ""
        out.item(f"{outcome.mechanism} in {result.deletion_seconds * 1000:.0f} ms{rows}")
        out.item(f"guarantee: {_guarantee(outcome)}")
        for what, patterns in (
            ("released again", outcome.updated),
            ("the same bits as before", outcome.unchanged),
            ("dropped", outcome.dropped),
        ):
            if patterns:
                out.item(f"heads {what}: {' '.join(map(pattern_name, patterns))}")
        if outcome.towers:
            out.item(f"towers dropped: {' '.join(outcome.towers)}; `mbd towers retrain` brings them back")


def _guarantee(outcome: Any) -> str:
    from mbd.privacy.guarantee import Certified, epsilon_at

    if not isinstance(outcome.guarantee, Certified):
        return str(outcome.guarantee.name)
    delta = outcome.model.policy.delta
    epsilon = epsilon_at(delta, [outcome.guarantee.mu], outcome.guarantee.departed)
    return f"certified, epsilon {epsilon:.3g} at delta {delta:g}"


@contextmanager
def _hint_at_unfinished(system: Any) -> Iterator[None]:
    """An error that leaves a filed request behind says so."""
    from mbd.records import requests
    from mbd.records.database import begin_snapshot

    try:
        yield
    except (MbdError, CertificateError) as error:
        with begin_snapshot(system.engine) as connection:
            if requests.unfinished(connection):
                error.remedy += "; what was asked is suppressed already, and `mbd revoke --resume` finishes it"
        raise


def result_json(result: Any) -> dict[str, Any]:
    """What happened to one line, for programs."""
    outcome = result.outcome
    return {
        "line": result.line,
        "version": result.version,
        "kind": result.kind.value,
        "certificate": result.certificate,
        "bundle": str(result.bundle),
        "mechanism": outcome.mechanism if outcome else None,
        "guarantee": outcome.guarantee.name if outcome else None,
        "rows_touched": outcome.rows_touched if outcome else None,
        "deletion_seconds": result.deletion_seconds,
    }


def _show_batch(out: Output, batch: dict[str, list[Any]]) -> None:
    """What happened to each line once, and each person's certificates."""
    results = [result for results in batch.values() for result in results]
    for result in {result.line: result for result in results if result.kind == "deletion"}.values():
        _show_version(out, result)
    rows = [(who, each.line, each.version, each.kind, each.certificate) for who, mine in batch.items() for each in mine]
    out.table(
        f"{len(batch)} requests, at most one deletion for each model line",
        ["subject", "line", "version", "what", "certificate"],
        rows,
    )
    if results:
        out.unbroken("Certificates are in", results[0].folder.parent)


def _requests_in(system: Any, file: Path) -> dict[str, set[Modality]]:
    """What each person in a file asks for, in the order of their first lines."""
    from mbd.cohort.importers.files import read_csv
    from mbd.workflow import filing

    asked: dict[str, set[Modality]] = {}
    for number, record in enumerate(read_csv(file, ("subject", "modality")), start=2):
        person, named = (record["subject"] or "").strip(), (record["modality"] or "").strip()
        if not person or person == "*":
            raise CohortError(
                f"{file}, line {number}: '{person}' is nobody's name.",
                remedy="give each line a subject; to withdraw a modality of all people, use --everyone",
            )
        wanted = asked.setdefault(person, set())
        wanted |= {parse_modality(named)} if named else set(filing.channels_of(system, person))
    if not asked:
        raise CohortError(f"{file} asks for nothing.", remedy="give one line for each person and modality")
    return asked


def _check_usage(
    subject: list[str], modality: list[Modality], *, everyone: bool, file: Path | None, resume: bool
) -> None:
    if resume or file:
        if subject or modality or everyone or (resume and file):
            raise UsageError(f"{'--resume' if resume else '--file'} goes alone")
        return
    check_scope(subject, modality, everyone=everyone)
