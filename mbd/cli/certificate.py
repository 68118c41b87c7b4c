"""``mbd certificate``: show and verify need no network, no database and no torch; replay needs the deployment."""

from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import typer

from certs import bundle as bundles
from certs.errors import CertificateError, Code
from certs.statement import Certified, DeletionStatement, Exact, Statement, from_payload
from certs.verification import Verified
from certs.verification import verify as verify_certificate
from mbd.cli.output import Home, Json, Output, command, settings_for

app = typer.Typer(help="Show, verify or replay a Modality Deletion Certificate.", no_args_is_help=True)

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The certificate: mdc.sigstore.json.")]


@app.command()
def show(bundle: BundleFile, as_json: Json = False) -> None:
    """Print what a certificate says, without checking that it is true."""
    with command(as_json) as out:
        parsed = bundles.parse(read_file(bundle))
        statement = from_payload(parsed.dsse_envelope.payload)
        out.result = statement.model_dump(mode="json", by_alias=True)
        out.say("[yellow]Not verified: this is only what the file says.[/]")
        summarise(out, statement)


@app.command()
def verify(
    bundle: BundleFile,
    trusted_root: Annotated[Path, typer.Option(help="The issuer's trusted_root.json, from a source you trust.")],
    artifact: Annotated[
        list[Path] | None, typer.Option(help="A file of the model after the deletion; may be repeated.")
    ] = None,
    noise_commitment: Annotated[
        Path | None, typer.Option(help="The certificate of the noise commitment: noise-commitment.sigstore.json.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify a certificate offline, step by step. Exit code 0: valid; 1: not."""
    with command(as_json) as out:
        verified = verify_certificate(
            read_file(bundle),
            read_file(trusted_root),
            at=datetime.now(UTC),
            artifacts={path.name: sha256(read_file(path)).hexdigest() for path in artifact or []},
            noise_commitment=read_file(noise_commitment) if noise_commitment else None,
        )
        out.result = verified_json(verified)
        print_steps(out, verified)


@app.command()
def replay(bundle: BundleFile, home: Home = None, as_json: Json = False) -> None:
    """Recompute manifest, statistics, residual and sigma from the rows that remain. Exit code 1: something differs."""
    with command(as_json) as out:
        from mbd.workflow.replay import replay as run
        from mbd.workflow.system import open_system

        with open_system(settings_for(home), create=False) as system:
            result = run(system, read_file(bundle))
        out.result = {"matched": result.matched, "checks": [asdict(check) for check in result.checks]}
        rows = [(c.name, "matched" if c.matched else "DIFFERS", c.detail) for c in result.checks]
        out.table("Replay against the rows that remain", ["what", "result", "detail"], rows)
    if not result.matched:
        raise typer.Exit(1)


def read_file(path: Path) -> bytes:
    """A file's bytes; one that cannot be read is an error with a remedy."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            Code.BUNDLE_MALFORMED, f"{path} cannot be read: {error.strerror}.", remedy="check the path"
        ) from None


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
        "guarantee": guarantee_json(verified.statement),
    }


def print_steps(out: Output, verified: Verified) -> None:
    """The numbered steps and the verdict, for people."""
    rows = [(step.number, step.title, step.result, step.detail) for step in verified.steps]
    out.table("Verification", ["step", "what", "result", "detail"], rows)
    summarise(out, verified.statement)
    out.say(f"[bold green]{verified.verdict[0].upper()}{verified.verdict[1:]}.[/]")


def guarantee_json(statement: Statement) -> dict[str, Any] | None:
    """The guarantee as signed, or None for a noise commitment."""
    if not isinstance(statement, DeletionStatement):
        return None
    return statement.predicate.guarantee.model_dump(mode="json", by_alias=True)


def summarise(out: Output, statement: Statement) -> None:
    """What the statement claims, and what it does not, in a few lines."""
    if not isinstance(statement, DeletionStatement):
        out.say(f"Noise commitment {statement.predicate.commitment}, made {statement.predicate.created_at}.")
        return
    predicate = statement.predicate
    lineage, scope = predicate.lineage, predicate.request.scope
    out.say(
        f"Deletion of {', '.join(scope.modalities)} ({scope.kind}) from model line '{lineage.model_line}': "
        f"version {lineage.parent_version} -> {lineage.version}, {predicate.deleted_at:%Y-%m-%d %H:%M:%S} UTC, "
        f"by {predicate.procedure.mechanism}."
    )
    match predicate.guarantee:
        case Certified(curve=curve, mu=mu, total_curve=total):
            point, whole = curve[0], total[0]
            out.say(
                f"Guarantee: certified, epsilon {point.epsilon:.3g} at delta {point.delta:g} (mu {mu:.4g}); "
                f"with all earlier deletions of the line epsilon {whole.epsilon:.3g}."
            )
        case Exact(equalities=equalities):
            out.say("Guarantee: exact.")
            for equality in equalities:
                out.say(f"  = {equality}")
        case _:
            out.say("Guarantee: empirical; nothing is proved, see the report.")
    out.say("Not covered:")
    for sentence in predicate.not_covered:
        out.say(f"  - {sentence}")
