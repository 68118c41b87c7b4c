"""The commands that SPEC.md prints, run as they stand with the real openssl."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import certs
from certs.vectors import make, make_absence, make_stamped

COMMANDS = re.search(
    r"^```sh\n(.*?)^```$", (Path(certs.__file__).parent / "SPEC.md").read_text(), re.DOTALL | re.MULTILINE
)

pytestmark = pytest.mark.skipif(
    any(shutil.which(program) is None for program in ("openssl", "python3", "sh")), reason="openssl is not installed"
)


@pytest.mark.parametrize(
    ("vectors", "name"),
    [
        *((make.V1, name) for name in ("certified", "exact", "empirical", "noise-commitment")),
        *((make_absence.V1, name) for name in ("person", "channel", "everyone")),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_openssl_verifies_a_certificate_and_its_checkpoint(vectors, name, tmp_path):
    done = _run(name, tmp_path, vectors=vectors)
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["Verified OK", "Signature Verified Successfully"]


@pytest.mark.parametrize("name", ["before-the-theft", "successor"])
def test_openssl_verifies_the_time_stamp_too(name, tmp_path):
    done = _run(name, tmp_path, vectors=make_stamped.STAMPED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["Verified OK", "Signature Verified Successfully", "Verification: OK"]


def test_openssl_refuses_a_changed_time_stamp(tmp_path):
    token = json.loads((make_stamped.STAMPED / "successor.sigstore.json").read_bytes())["verificationMaterial"][
        "timestampVerificationData"
    ]["rfc3161Timestamps"][0]["signedTimestamp"].encode()
    done = _run("successor", tmp_path, change=(token[-8:], b"AAAA" + token[-4:]), vectors=make_stamped.STAMPED)
    assert done.returncode != 0
    assert "Verification: FAILED" in done.stdout + done.stderr


def test_openssl_refuses_a_changed_statement(tmp_path):
    done = _run("certified", tmp_path, change=(b'"payload":"ey', b'"payload":"fy'))
    assert "Verification failure" in done.stdout + done.stderr
    assert "Verified OK" not in done.stdout


def test_openssl_refuses_a_changed_checkpoint(tmp_path):
    done = _run("certified", tmp_path, change=(b"log\\n6\\n", b"log\\n7\\n"))
    assert "Signature Verification Failure" in done.stdout + done.stderr
    assert done.returncode != 0


def _run(
    name: str, folder: Path, change: tuple[bytes, bytes] | None = None, *, vectors: Path = make.V1
) -> subprocess.CompletedProcess[str]:
    certificate = (vectors / f"{name}.sigstore.json").read_bytes()
    if change:
        assert certificate.count(change[0]) == 1
        certificate = certificate.replace(*change)
    (folder / "mdc.sigstore.json").write_bytes(certificate)
    shutil.copy(vectors / "trusted_root.json", folder)
    assert COMMANDS
    return subprocess.run(["sh", "-c", COMMANDS[1]], cwd=folder, capture_output=True, text=True, check=False)
