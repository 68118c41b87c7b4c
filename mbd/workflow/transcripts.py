"""Records of how backbones were made, on disk. A certificate names them by digest.

A public backbone's record says nothing of revocable rows and is kept for good. An entangled one's does, so it lies with
its version and is destroyed with it, and random bytes in it keep its digest from confirming a guess at a row.
"""

import secrets
from collections.abc import Mapping
from typing import Any

from mbd.durable import write_durably
from mbd.hashing import canonical_json, sha256_hex
from mbd.training.transcript import Transcript
from mbd.workflow.claim import Provenance
from mbd.workflow.system import System

FORMAT = "mbd-entangled-transcript/1"
_FILE = "transcript.json"


def keep_transcript(system: System, line: str, version: int, transcript: Transcript) -> Provenance:
    """Write the record of a training run, and say what names it."""
    if "revocable" in transcript.rows:
        return keep_report(system, line, version, transcript.recipe_digest, transcript.to_json())
    folder = system.home / "transcripts"
    folder.mkdir(exist_ok=True)
    write_durably(folder / f"{transcript.digest}.json", transcript.to_bytes())
    return Provenance(transcript.recipe_digest, transcript.digest)


def keep_report(system: System, line: str, version: int, recipe_digest: str, report: Mapping[str, Any]) -> Provenance:
    """Write the record of what a deletion made of an entangled backbone, and say what names it."""
    record = {"format": FORMAT, "nonce": secrets.token_hex(32), "made": dict(report)}
    body = canonical_json(record)
    folder = system.version_folder(line, version)
    folder.mkdir(parents=True, exist_ok=True)
    write_durably(folder / _FILE, body)
    return Provenance(recipe_digest, sha256_hex(body))


def carry_transcript(system: System, line: str, before: int, after: int) -> None:
    """Where the backbone stays, the record that lies with its version, if one does, goes on with the next."""
    record = system.version_folder(line, before) / _FILE
    if record.exists():
        write_durably(system.version_folder(line, after) / _FILE, record.read_bytes())
