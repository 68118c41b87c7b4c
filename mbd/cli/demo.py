"""``mbd demo``: the whole story on synthetic people, in the order in which it happens."""

import base64
import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certs.errors import VerificationError
from certs.verification import verify
from mbd.cli.certificate import guarantee_json, print_steps, verified_json
from mbd.cli.output import Home, Json, Output, command, settings_for

if TYPE_CHECKING:
    from mbd.cohort.cohort import Cohort
    from mbd.deletion.comparator import HeadDistance, Refit
    from mbd.lattice.model import LatticeModel
    from mbd.workflow.revocation import LineResult
    from mbd.workflow.system import System

LINE = "demo"


@dataclass(frozen=True)
class _Before:
    """The model line before the deletion, and what a refit on D' gives."""

    metrics: dict[str, dict[str, float]]
    reference: "Refit"
    refit_seconds: float


def demo(home: Home = None, as_json: Json = False) -> None:
    """Train on synthetic people, withdraw one voice, certify it, verify it, and try to cheat."""
    with command(as_json) as out:
        from mbd.workflow.evaluation import metrics_by_pattern
        from mbd.workflow.system import open_system

        folder_in_use = home or Path(tempfile.mkdtemp(prefix="mbd-demo-"))
        with open_system(settings_for(folder_in_use), create=True) as system:
            cohort, subject = _people(out)
            model = _train(out, system, cohort)
            before = _refit(system, cohort, model, subject)
            result = _withdraw(out, system, subject)
            after = _live_model(system)
            metrics = metrics_by_pattern(after, _live_cohort(system), system.suppressed())
            _show_accuracy(out, before.metrics, metrics)
            _show_comparison(out, before, after, result)
            _verify(out, system, result)
            exposures = _lineage(out, system, subject)
            out.result |= {
                "home": str(system.home),
                "subject": subject,
                "bundle": str(result.bundle),
                "trusted_root": str(system.trusted_root_path),
                "metrics_before": before.metrics,
                "metrics_after": metrics,
                "lineage": exposures,
            }
            out.path("\nEverything is in", system.home)
            out.path(
                "Verify it yourself",
                f"mbd certificate verify {result.bundle} --trusted-root {system.trusted_root_path}",
            )


def _people(out: Output) -> tuple["Cohort", str]:
    from mbd.cohort.cohort import Partition, Split
    from mbd.cohort.describe import describe
    from mbd.cohort.modality import Modality
    from mbd.cohort.synthetic import synthetic_cohort

    cohort = synthetic_cohort()
    about = describe(cohort)
    out.say("\n[bold]1. People.[/] " + about["description"])
    out.table(
        f"{about['rows']} clips of {about['subjects']} synthetic people",
        ["partition", "split", "clips", "people"],
        [(place["partition"], place["split"], place["rows"], place["subjects"]) for place in about["places"]],
    )
    subject = next(
        row.subject
        for i, row in enumerate(cohort.rows)
        if (row.partition, row.split) == (Partition.REVOCABLE, Split.TRAIN) and Modality.AUDIO in cohort.present(i)
    )
    return cohort, subject


def _train(out: Output, system: "System", cohort: "Cohort") -> "LatticeModel":
    from mbd.training.recipes import synthetic
    from mbd.workflow.training import train_line

    out.say("\n[bold]2. Training.[/] The backbone sees public people only; the heads know everyone, as exact integers.")
    with out.progress() as bar:
        tasks = {stage: bar.add_task(stage, total=1.0, about="") for stage in ("backbone", "heads")}
        trained = train_line(
            system,
            cohort,
            synthetic(),
            line=LINE,
            seed=0,
            on_progress=lambda stage, done, about: bar.update(tasks[stage], completed=done, about=about),
        )
    return trained.model


def _refit(system: "System", cohort: "Cohort", model: "LatticeModel", subject: str) -> _Before:
    from mbd.cohort.modality import Modality
    from mbd.deletion.comparator import refit
    from mbd.deletion.outcome import Revocation
    from mbd.workflow.evaluation import metrics_by_pattern

    metrics = metrics_by_pattern(model, cohort, system.suppressed())
    started = time.perf_counter()
    reference = refit(model, cohort, Revocation(frozenset({(subject, Modality.AUDIO)}), "comparator"))
    return _Before(metrics, reference, time.perf_counter() - started)


def _withdraw(out: Output, system: "System", subject: str) -> "LineResult":
    from mbd.cli.revoke import show_results
    from mbd.cohort.modality import Modality
    from mbd.workflow.revocation import revoke

    out.say(f"\n[bold]3. Withdrawal.[/] {subject} says: stop using my voice, keep my text and my face.")
    with out.progress() as bar:
        task = bar.add_task("revoking", total=None, about="")
        (result,) = revoke(system, {(subject, Modality.AUDIO)}, on_step=lambda step: bar.update(task, about=step))
        bar.update(task, total=1, completed=1, about="done")
    show_results(out, [result])
    return result


def _live_model(system: "System") -> "LatticeModel":
    from mbd.lattice.model import load_model

    return load_model(system.model_folder(LINE, system.live(LINE).version))


def _live_cohort(system: "System") -> "Cohort":
    from mbd.cohort import folder

    return folder.read(system.cohort_folder(LINE, system.live(LINE).version))


def _show_accuracy(out: Output, before: dict[str, Any], after: dict[str, Any]) -> None:
    out.table(
        "Accuracy on unseen people, by what is available",
        ["available", "clips", "MAE before", "MAE after", "Acc-2 before", "Acc-2 after", "Corr before", "Corr after"],
        [
            (
                pattern,
                now["rows"],
                before[pattern]["mae"],
                now["mae"],
                before[pattern]["acc2_non0"],
                now["acc2_non0"],
                before[pattern]["corr"],
                now["corr"],
            )
            for pattern, now in after.items()
        ],
    )


def _show_comparison(out: Output, before: _Before, after: "LatticeModel", result: "LineResult") -> None:
    from mbd.cohort.modality import pattern_name
    from mbd.deletion.comparator import compare

    out.say("\n[bold]4. The comparator.[/] The same algorithm, run from the start on the rows that remain.")
    equal = after.statistics == before.reference.statistics
    distances: dict[str, HeadDistance] = {pattern_name(p): d for p, d in compare(after, before.reference).items()}
    seconds = result.deletion_seconds or 0.0
    out.say(f"Statistics equal bit for bit: {'yes' if equal else 'NO'} (SHA-256 {after.statistics.digest[:16]}...).")
    out.say(f"Deletion {seconds * 1000:.0f} ms, refit of the heads {before.refit_seconds * 1000:.0f} ms.")
    out.table(
        "Released weights against the refit's solution",
        ["head", "distance", "bound", "within"],
        [
            (name, f"{d.distance:.5f}", f"{d.bound:.5f}", "yes" if d.distance <= d.bound else "NO")
            for name, d in distances.items()
        ],
    )
    out.result |= {
        "statistics_equal": equal,
        "weights_within_bound": all(d.distance <= d.bound for d in distances.values()),
        "deletion_seconds": seconds,
        "refit_seconds": before.refit_seconds,
    }


def _verify(out: Output, system: "System", result: "LineResult") -> None:
    out.say("\n[bold]5. The certificate[/], verified offline as a stranger would.")
    bundle, root, at = result.bundle.read_bytes(), system.trusted_root_path.read_bytes(), datetime.now(UTC)
    verified = verify(bundle, root, at=at)
    print_steps(out, verified)
    out.say("\n[bold]6. A forger[/] claims a ten times stronger guarantee in a copy.")
    try:
        verify(tampered(bundle), root, at=at)
    except VerificationError as error:
        rejected: dict[str, Any] | None = {"step": error.step, "code": error.code.value, "message": error.message}
        out.say(f"[bold green]Rejected[/] in step {error.step} ({error.code.value}): {error.message}")
    else:
        rejected = None
        out.say("[bold red]ACCEPTED: the verifier is broken.[/]")
    out.result |= {
        "verified": verified_json(verified)["valid"],
        "verdict": verified.verdict,
        "tampered_rejected": rejected is not None,
        "tampered_reason": rejected,
        "guarantee": guarantee_json(verified.statement),
    }


def tampered(bundle: bytes) -> bytes:
    """A copy of a certificate whose statement claims a tenth of its mu, in the certificate's own encoding."""
    document = json.loads(bundle)
    statement = json.loads(base64.b64decode(document["dsseEnvelope"]["payload"]))
    statement["predicate"]["guarantee"]["mu"] /= 10
    payload = json.dumps(statement, separators=(",", ":"), sort_keys=True).encode()
    document["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def _lineage(out: Output, system: "System", subject: str) -> list[dict[str, Any]]:
    from mbd.cohort.modality import Modality
    from mbd.records.database import begin_snapshot
    from mbd.records.exposure import models_exposed_to
    from mbd.records.suppression import Channel

    out.say("\n[bold]7. Lineage.[/] Which models ever saw this voice?")
    with begin_snapshot(system.engine) as connection:
        seen = models_exposed_to(connection, Channel(system.keyring.subject_key(subject), Modality.AUDIO.value))
    out.table(
        f"Models that saw audio of {subject}",
        ["model", "state", "ended by", "certificate"],
        [
            (
                f"{s.line} version {s.version}",
                s.state.value,
                f"version {s.ended_by.version}" if s.ended_by else "-",
                (s.ended_by.certificate_id or "-") if s.ended_by else "-",
            )
            for s in seen
        ],
    )
    return [
        {"line": s.line, "version": s.version, "ended_by": s.ended_by.version if s.ended_by else None} for s in seen
    ]
