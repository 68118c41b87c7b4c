"""``mbd certificate``: show and verify need no network, no database and no torch; replay needs the deployment."""

from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from certs import bundle as bundles
from certs.absence_statement import AbsenceStatement
from certs.commitment import read_opening
from certs.payload import Statement, from_payload
from certs.statement import Certified, CommitmentStatement, DeletionStatement, Empirical, Exact
from certs.verification import Verified
from certs.verification import verify as verify_certificate
from mbd.cli.options import BundleFile, CertificateId, Home, Json
from mbd.cli.output import Output, command, settings_for
from mbd.workflow.log_source import open_source

app = typer.Typer(
    help="Everything about one certificate.",
    no_args_is_help=True,
)

_SCOPES = {
    "subject-modality": "one person",
    "subject": "everything of one person",
    "modality": "everyone",
    "several": "several channels",
}


@app.command()
def show(bundle: BundleFile, as_json: Json = False) -> None:
    """Print what a certificate says, without checking it."""
    with command(as_json) as out:
        parsed = bundles.parse(bundle.read_bytes())
        statement = from_payload(parsed.dsse_envelope.payload)
        out.result = statement.model_dump(mode="json", by_alias=True)
        out.say("This is only what the file says.", lead="Not verified.", style="yellow")
        summarise(out, statement)


@app.command()
def verify(
    bundle: BundleFile,
    trusted_root: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The issuer's trusted_root.json, from a source that you trust.",
        ),
    ],
    artifact: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="A file of the model that the certificate is about; may be repeated.",
        ),
    ] = None,
    noise_commitment: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="The noise commitment's certificate: noise-commitment.sigstore.json.",
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="A copy of its log (a folder or URL of C2SP tiles), to see what the log says later; may be repeated.",
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", exists=True, dir_okay=False, help="A C2SP tlog-policy: which witnesses must have cosigned."
        ),
    ] = None,
    opening: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Your opening, as the issuer gave it: shows that the certificate is about you; may be repeated.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a certificate offline, step by step.

    Needs no network, no database and no torch. Exit code 0: valid as of the log's size that is shown; 1: not valid.
    """
    with command(as_json) as out, ExitStack() as opened:
        out.result = {"valid": False}
        given = [read_opening(path.read_bytes()) for path in opening or []]
        verified = verify_certificate(
            bundle.read_bytes(),
            trusted_root.read_bytes(),
            at=datetime.now(UTC),
            artifacts={path.name: sha256(path.read_bytes()).hexdigest() for path in artifact or []},
            openings={each.subject: each.key for each in given},
            noise_commitment=noise_commitment.read_bytes() if noise_commitment else None,
            policy=policy.read_bytes() if policy else None,
            logs=[opened.enter_context(open_source(place)).fetch for place in log or []],
        )
        out.result = verified_json(verified)
        print_verified(out, verified)


class RevocationReason(StrEnum):
    """Why a certificate is revoked."""

    ISSUED_IN_ERROR = "issued-in-error"
    KEY_COMPROMISED = "key-compromised"
    CLAIM_WITHDRAWN = "claim-withdrawn"


@app.command()
def revoke(
    certificate: CertificateId,
    reason: Annotated[
        RevocationReason, typer.Option(metavar="REASON", help="issued-in-error, key-compromised or claim-withdrawn.")
    ],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Say in the log, for good, that a certificate must not be relied upon. The deletion itself stands."""
    with command(as_json) as out:
        from certs.notice import Reason
        from mbd.workflow.log import sign_checkpoint
        from mbd.workflow.notices import revoke_certificate
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            said = revoke_certificate(system, certificate, Reason(reason.value))
            sign_checkpoint(system)
        out.result = {"certificate": certificate, "entry": said.leaf_index}
        out.say(f"Entry {said.leaf_index} of the log revokes {certificate}: whoever has a copy of the log sees it.")


@app.command()
def reissue(certificate: CertificateId, home: Home = None, as_json: Json = False) -> None:
    """Sign what a certificate says once more, with today's key; the log says that the old one is superseded."""
    with command(as_json) as out:
        from mbd.workflow.issuance import publish_certificate
        from mbd.workflow.notices import reissue as run
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            new = run(system, certificate)
            folder = publish_certificate(system, new)
        out.result = {"certificate": new.id, "supersedes": certificate, "folder": str(folder)}
        out.unbroken("New certificate", folder / "mdc.sigstore.json")
        out.say(f"It supersedes {certificate}, of which the log says so.")


class ExportFormat(StrEnum):
    """What a certificate can be exported as."""

    JWS = "jws"


@app.command()
def export(
    bundle: BundleFile,
    to: Annotated[ExportFormat, typer.Option("--format", metavar="FORMAT", help="jws.")] = ExportFormat.JWS,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Sign a certificate's statement once more as a JWS (RFC 7515), for tools that read nothing else.

    A convenience without log, time stamp and witnesses: it does not replace the certificate.
    """
    with command(as_json) as out:
        from mbd.workflow.export import export_jws
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            text = export_jws(system, bundle.read_bytes())
        out.result = {"format": to.value, "jws": text}
        if not as_json:
            typer.echo(text)


@app.command()
def replay(bundle: BundleFile, home: Home = None, as_json: Json = False) -> None:
    """Recompute what a certificate claims from the rows that remain.

    Compares model files, manifest, statistics, sigma, noise and residuals with those of the deployment that issued it;
    of a certificate of absence, model files and manifest, and that no row has the channels. Exit code 0: everything
    matched; 1: something differs.
    """
    with command(as_json) as out:
        from mbd.workflow.replay import replay as run
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system, out.stages() as stages:
            result = run(system, bundle.read_bytes(), on_check=lambda name: stages.update("replaying", None, name))
        out.result = {"matched": result.matched, "checks": [asdict(check) for check in result.checks]}
        rows = [(c.name, "matched" if c.matched else "DIFFERS", c.detail) for c in result.checks]
        out.table("Recomputed from the rows that remain", ["what", "result", "detail"], rows)
        if result.matched:
            out.say("Everything is as the certificate says.", style="green")
        else:
            out.say("This deployment does not hold what the certificate says.", style="red")
    if not result.matched:
        raise typer.Exit(1)


def verified_json(verified: Verified) -> dict[str, Any]:
    """A verification's result for programs."""
    return {
        "valid": True,
        "verdict": verified.verdict,
        "steps": [
            {"number": step.number, "title": step.title, "result": step.result, "detail": step.detail}
            for step in verified.steps
        ],
        "leaf_index": verified.leaf_index,
        "tree_size": verified.tree_size,
        "key_id": verified.key_id,
        "signed_at": verified.signed_at.isoformat() if verified.signed_at else None,
        "guarantee": guarantee_json(verified.statement),
    }


def print_verified(out: Output, verified: Verified) -> None:
    """The numbered steps, the statement and the verdict, for people."""
    rows = [(step.number, step.title, step.result, step.detail) for step in verified.steps]
    out.table("Verification", ["step", "what", "result", "detail"], rows)
    summarise(out, verified.statement)
    out.say("", lead=f"{verified.verdict[0].upper()}{verified.verdict[1:]}.", style="green")


def guarantee_json(statement: Statement) -> dict[str, Any] | None:
    """The guarantee as signed, or None where nothing was deleted."""
    if not isinstance(statement, DeletionStatement):
        return None
    return statement.predicate.guarantee.model_dump(mode="json", by_alias=True)


def summarise(out: Output, statement: Statement) -> None:
    """What the statement claims, and what it does not, in a few lines."""
    if isinstance(statement, CommitmentStatement):
        created_at = f"{statement.predicate.created_at:%Y-%m-%d %H:%M:%S} UTC"
        out.unbroken(f"Noise commitment, made {created_at}", statement.predicate.commitment)
        return
    if isinstance(statement, AbsenceStatement):
        _summarise_absence(out, statement)
    else:
        _summarise_deletion(out, statement)
    out.say("", lead="Not covered:")
    for sentence in statement.predicate.not_covered:
        out.item(sentence)


def _summarise_absence(out: Output, statement: AbsenceStatement) -> None:
    predicate = statement.predicate
    lineage, scope, manifest = predicate.lineage, predicate.request.scope, predicate.dataset.manifest
    out.say(
        f"Absence of {', '.join(scope.modalities)} ({_SCOPES[scope.kind]}) from model line '{lineage.model_line}', "
        f"version {lineage.version}, {predicate.checked_at:%Y-%m-%d %H:%M:%S} UTC. Nothing was deleted."
    )
    out.say(
        f"absence from that version's manifest, which has {manifest.leaves} channels of {manifest.rows} rows.",
        lead="Guarantee:",
    )


def _summarise_deletion(out: Output, statement: DeletionStatement) -> None:
    predicate = statement.predicate
    lineage, scope = predicate.lineage, predicate.request.scope
    out.say(
        f"Deletion of {', '.join(scope.modalities)} ({_SCOPES[scope.kind]}) from model line '{lineage.model_line}', "
        f"version {lineage.parent_version} -> {lineage.version}, {predicate.deleted_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"by {predicate.procedure.mechanism}."
    )
    match predicate.guarantee:
        case Certified(curve=curve, mu=mu, total_curve=total, departed=departed):
            point, whole = curve[0], total[0]
            out.say(
                f"certified, epsilon {point.epsilon:.3g} at delta {point.delta:g} (mu {mu:.4g}); "
                f"together with all earlier deletions of the line epsilon {whole.epsilon:.3g}.",
                lead="Guarantee:",
            )
            for tower in departed:
                who = "1 person has" if tower.subjects == 1 else f"{tower.subjects} people have"
                out.item(
                    f"tower {tower.tower}, which {who} left: {tower.steps} steps of DP-SGD, each person in one with "
                    f"probability {tower.rate:g}, noise {tower.noise_multiplier:g} norms"
                )
        case Exact(equalities=equalities):
            out.say("exact.", lead="Guarantee:")
            for equality in equalities:
                out.item(equality)
        case Empirical(report=report):
            out.say("empirical; nothing is proved, and there is no epsilon.", lead="Guarantee:")
            for found in report.measurements:
                out.item(f"{found.attack}: {found.statistic} between {found.low:.4g} and {found.high:.4g}")
