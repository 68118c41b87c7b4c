"""``mbd demo``: the whole story on synthetic people, in the order in which it happens."""

import base64
import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from certs.errors import VerificationError
from certs.verification import verify
from mbd.cli.certificate import guarantee_json, print_verified, verified_json
from mbd.cli.data import show_places
from mbd.cli.lineage import exposures, show_exposures
from mbd.cli.options import Json
from mbd.cli.output import Output, command, settings_for
from mbd.cli.revoke import show_result
from mbd.cohort.modality import Modality, pattern_name
from mbd.errors import SettingsError

if TYPE_CHECKING:
    from mbd.cohort.cohort import Cohort
    from mbd.deletion.comparator import Refit
    from mbd.lattice.model import LatticeModel
    from mbd.workflow.steps import LineResult
    from mbd.workflow.system import System

LINE = "demo"


@dataclass(frozen=True)
class _Before:
    """The model line before the deletion, and what a refit on D' gives."""

    metrics: dict[str, dict[str, float]]
    reference: "Refit"
    refit_seconds: float


def demo(
    home: Annotated[
        Path | None,
        typer.Option("--home", metavar="DIR", file_okay=False, help="State folder. Default: a new temporary one."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Train, withdraw one voice, certify, verify, try to cheat.

    Everything is real but the people, who are synthetic. Takes less than a minute.
    """
    with command(as_json) as out:
        from mbd.workflow.evaluation import metrics_by_pattern
        from mbd.workflow.system import open_system

        if home is not None and (home / "lines" / LINE).exists():
            raise SettingsError(f"There is a demo in {home} already.", remedy="give another --home, or none")
        chosen = home or Path(tempfile.mkdtemp(prefix="mbd-demo-"))
        with open_system(settings_for(chosen), create=True) as system:
            cohort, subject = _people(out)
            model = _train(out, system, cohort)
            before = _refit(system, cohort, model, subject)
            result = _withdraw(out, system, subject)
            after = _live_model(system)
            metrics = metrics_by_pattern(after, _live_cohort(system), system.suppressed())
            _show_accuracy(out, before.metrics, metrics)
            claims = [_compare(out, before, after, result), _verify(out, system, result)]
            out.say("Which models ever saw this voice?", lead="\n7. Lineage.")
            seen = exposures(system, subject, [Modality.AUDIO])
            show_exposures(out, subject, seen)
            out.result |= {
                "home": str(system.home),
                "subject": subject,
                "bundle": str(result.bundle),
                "trusted_root": str(system.trusted_root_path),
                "metrics_before": before.metrics,
                "metrics_after": metrics,
                "lineage": seen,
            }
            out.unbroken("Everything is in", system.home)
            verify_it = ("mbd", "certificate", "verify", result.bundle, "--trusted-root", system.trusted_root_path)
            out.command("Verify it yourself", *verify_it)
    if not all(claims):
        raise typer.Exit(1)


def _people(out: Output) -> tuple["Cohort", str]:
    from mbd.cohort.cohort import Partition, Split
    from mbd.cohort.describe import describe
    from mbd.cohort.synthetic import synthetic_cohort

    cohort = synthetic_cohort()
    about = describe(cohort)
    out.say(about["description"], lead="1. People.")
    show_places(out, f"{about['rows']} clips of {about['subjects']} synthetic people", about)
    subject = next(
        row.subject
        for i, row in enumerate(cohort.rows)
        if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and Modality.AUDIO in cohort.present(i)
    )
    return cohort, subject


def _train(out: Output, system: "System", cohort: "Cohort") -> "LatticeModel":
    from mbd.training.recipes import synthetic
    from mbd.workflow.training import train_line

    out.say("The backbone sees public people only; the heads know everyone, as exact integers.", lead="2. Training.")
    with out.stages() as stages:
        return train_line(system, cohort, synthetic(), line=LINE, seed=0, on_progress=stages.update).model


def _refit(system: "System", cohort: "Cohort", model: "LatticeModel", subject: str) -> _Before:
    from mbd.deletion.comparator import refit
    from mbd.deletion.outcome import Revocation
    from mbd.workflow.evaluation import metrics_by_pattern

    metrics = metrics_by_pattern(model, cohort, system.suppressed())
    started = time.perf_counter()
    reference = refit(model, cohort, Revocation(frozenset({(subject, Modality.AUDIO)}), "comparator"))
    return _Before(metrics, reference, time.perf_counter() - started)


def _withdraw(out: Output, system: "System", subject: str) -> "LineResult":
    from mbd.workflow.revocation import revoke

    out.say(f"{subject} says: stop using my voice, keep my text and my face.", lead="\n3. Withdrawal.")
    with out.stages() as stages:
        (result,) = revoke(
            system, {(subject, Modality.AUDIO)}, on_step=lambda step: stages.update("revoking", None, step)
        )
    show_result(out, result)
    return result


def _live_model(system: "System") -> "LatticeModel":
    from mbd.workflow.live import load_live_model

    return load_live_model(system, system.live(LINE))


def _live_cohort(system: "System") -> "Cohort":
    from mbd.cohort import folder

    return folder.read(system.cohort_folder(LINE, system.live(LINE).version))


def _show_accuracy(out: Output, before: dict[str, Any], after: dict[str, Any]) -> None:
    shown = {"mae": "MAE", "acc2_non0": "Acc-2", "corr": "Corr"}
    out.table(
        "Accuracy on unseen people, by what is available",
        ["available", "clips", *(f"{name}\n{when}" for name in shown.values() for when in ("before", "after"))],
        [
            (pattern, now["rows"], *(table[pattern][key] for key in shown for table in (before, after)))
            for pattern, now in after.items()
        ],
    )


def _compare(out: Output, before: _Before, after: "LatticeModel", result: "LineResult") -> bool:
    from mbd.deletion.comparator import compare

    out.say("The same algorithm, run from the start on the rows that remain.", lead="4. The comparator.")
    equal = after.statistics == before.reference.statistics
    distances = compare(after, before.reference)
    within = all(d.distance <= d.bound for d in distances.values())
    seconds = result.deletion_seconds or 0.0
    out.say(f"Statistics equal bit for bit: {'yes' if equal else 'NO'} (commitment {after.commitment[:16]}...).")
    out.say(f"Deletion took {seconds * 1000:.0f} ms, the refit of the heads {before.refit_seconds * 1000:.0f} ms.")
    out.table(
        "Released weights against the refit's solution",
        ["head", "distance", "bound", "within"],
        [
            (pattern_name(p), f"{d.distance:.5f}", f"{d.bound:.5f}", "yes" if d.distance <= d.bound else "NO")
            for p in after.layout.patterns
            for d in (distances[p],)
        ],
    )
    out.result |= {
        "statistics_equal": equal,
        "weights_within_bound": within,
        "deletion_seconds": seconds,
        "refit_seconds": before.refit_seconds,
    }
    return equal and within


def _verify(out: Output, system: "System", result: "LineResult") -> bool:
    out.say("Verified offline, as a stranger would.", lead="5. The certificate.")
    bundle, root, at = result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), datetime.now(UTC)
    verified = verify(bundle, root, at=at)
    print_verified(out, verified)
    out.say("A copy of the certificate claims a ten times smaller mu.", lead="\n6. A forger.")
    rejected: dict[str, Any] | None = None
    try:
        verify(tampered(bundle), root, at=at)
    except VerificationError as error:
        rejected = {"step": error.step, "code": error.code.value, "message": error.message}
        out.say(f"In step {error.step} ({error.code.value}): {error.message}", lead="Rejected.", style="green")
    else:
        out.say("The verifier is broken.", lead="ACCEPTED.", style="red")
    out.result |= {
        "verified": verified_json(verified)["valid"],
        "verdict": verified.verdict,
        "tampered_rejected": rejected is not None,
        "tampered_reason": rejected,
        "guarantee": guarantee_json(verified.statement),
    }
    return rejected is not None


def tampered(bundle: bytes) -> bytes:
    """A copy of a certificate whose statement claims a tenth of its mu, in the certificate's own encoding."""
    document = json.loads(bundle)
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    statement["predicate"]["guarantee"]["mu"] /= 10
    payload = json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
