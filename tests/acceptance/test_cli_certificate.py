"""``mbd certificate``: strangers verify offline with nothing but two files; the issuer replays."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

import certs
from mbd.cli.demo import tampered

BLOCKED = ("torch", "numpy", "scipy", "sqlalchemy", "alembic", "pyarrow", "safetensors")
WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
from mbd.cli.app import main
main()
"""
OPENSSL = re.search(
    r"^```sh\n(.*?)^```$", (Path(certs.__file__).parent / "SPEC.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)


@pytest.fixture
def strangers(demo, tmp_path):
    """A folder with the two files that a stranger gets, and the command that verifies them."""
    shutil.copy(demo.bundle, tmp_path / "mdc.sigstore.json")
    shutil.copy(demo.trusted_root, tmp_path / "trusted_root.json")
    return tmp_path, ("certificate", "verify", "mdc.sigstore.json", "--trusted-root", "trusted_root.json")


def forge(bundle, name):
    """A changed copy of a certificate."""
    if name == "claim":
        return tampered(bundle)
    if name == "cut":
        return bundle[:-1]
    if name == "twice":
        return bundle.replace(b"{", b'{"mediaType":"",', 1)
    document = json.loads(bundle)
    proof = document["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    proof["checkpoint"]["envelope"] = proof["checkpoint"]["envelope"].replace("\n2\n", "\n3\n", 1)
    return json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


def test_verification_needs_no_network(strangers, run, program):
    folder, command = strangers
    namespace = ("unshare", "--net", "--map-root-user")
    if shutil.which("unshare") is None or run(*namespace, "true").code != 0:
        pytest.skip("this machine lets nobody make a network namespace (unshare)")
    done = run(*namespace, program, *command, "--json", cwd=folder)
    assert (done.code, done.json["valid"]) == (0, True), done.err


def test_verification_needs_no_torch_no_database_and_no_home(strangers, run):
    folder, command = strangers
    here = set(folder.iterdir())
    nowhere = str(folder / "nobody")
    done = run(sys.executable, "-c", WITHOUT, *command, "--json", cwd=folder, HOME=nowhere, XDG_STATE_HOME=nowhere)
    assert (done.code, done.json["valid"]) == (0, True), done.err
    assert set(folder.iterdir()) == here


def test_a_command_that_needs_an_absent_library_says_what_to_install(strangers, run):
    folder, _ = strangers
    done = run(sys.executable, "-c", WITHOUT, "data", "describe", folder, "--json")
    assert done.code == 1
    assert "pyarrow, which is not installed" in done.json["error"]["message"]
    assert "missing-by-design[science]" in done.json["error"]["remedy"]


def test_openssl_verifies_the_certificate_and_its_checkpoint(strangers, run):
    if any(shutil.which(tool) is None for tool in ("openssl", "python3", "sh")):
        pytest.skip("openssl is not installed")
    folder, _ = strangers
    done = run("sh", "-c", OPENSSL[1], cwd=folder)
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["Verified OK", "Signature Verified Successfully", "Verification: OK"]


def test_verification_shows_every_step_and_never_a_bare_valid(strangers, installed):
    folder, command = strangers
    done = installed(*command, cwd=folder)
    assert done.code == 0
    for number in range(1, 9):
        assert re.search(rf"^ +{number}   .*(passed|not present)", done.out, re.MULTILINE)
    assert "Valid as of checkpoint size 2 of mbd.local/log." in done.out
    assert "Not covered:" in done.out


@pytest.mark.parametrize(
    ("name", "step", "code"),
    [
        ("claim", 3, "signature-invalid"),
        ("cut", 1, "json-malformed"),
        ("twice", 1, "json-duplicate-key"),
        ("log", 5, "checkpoint-signature-invalid"),
    ],
)
def test_a_tampered_copy_is_rejected_with_its_step_and_code(strangers, mbd, name, step, code):
    folder, _ = strangers
    forged, root = folder / "forged.json", folder / "trusted_root.json"
    forged.write_bytes(forge((folder / "mdc.sigstore.json").read_bytes(), name))
    done = mbd("certificate", "verify", forged, "--trusted-root", root, "--json")
    assert (done.code, done.json["valid"]) == (1, False)
    assert (done.json["error"]["step"], done.json["error"]["code"]) == (step, code)
    spoken = mbd("certificate", "verify", forged, "--trusted-root", root)
    assert spoken.code == 1
    assert spoken.out == ""
    assert spoken.err.startswith(f"Error: step {step}, {code}: ")
    assert "\nRemedy: " in spoken.err


def test_the_model_files_are_compared_by_name_and_content(home, demo, mbd, tmp_path):
    verify = ("certificate", "verify", demo.bundle, "--trusted-root", demo.trusted_root, "--json", "--artifact")
    heads = home / "lines" / "demo" / "2" / "model" / "heads.safetensors"
    assert mbd(*verify, heads).json["steps"][-1]["result"] == "passed"
    heads.write_bytes(heads.read_bytes()[:-1] + b"!")
    assert mbd(*verify, heads).json["error"]["code"] == "artifact-mismatch"
    shutil.copy(heads, tmp_path / "other.safetensors")
    assert mbd(*verify, tmp_path / "other.safetensors").json["error"]["code"] == "artifact-unknown"


def test_the_noise_commitment_is_checked_against_its_own_certificate(demo, mbd):
    verify = ("certificate", "verify", demo.bundle, "--trusted-root", demo.trusted_root, "--json", "--noise-commitment")
    commitment = demo.home / "published" / "noise-commitment.sigstore.json"
    assert "logged before it" in mbd(*verify, commitment).json["steps"][-1]["detail"]
    assert mbd(*verify, demo.bundle).json["error"]["step"] == 8


def test_showing_a_certificate_says_that_nothing_was_verified(demo, mbd, tmp_path):
    forged = tmp_path / "forged.json"
    forged.write_bytes(tampered(demo.bundle.read_bytes()))
    done = mbd("certificate", "show", forged)
    assert done.code == 0
    assert done.out.startswith("Not verified.")
    assert "Guarantee: certified, epsilon" in done.out
    assert mbd("certificate", "show", demo.bundle, "--json").json["predicate"]["lineage"]["modelLine"] == "demo"


@pytest.mark.parametrize("path", ["missing.json", "."])
def test_a_certificate_that_is_no_file_is_a_usage_error(demo, installed, tmp_path, path):
    done = installed("certificate", "verify", tmp_path / path, "--trusted-root", demo.trusted_root)
    assert done.code == 2
    assert "BUNDLE" in done.err
    assert done.out == ""


def test_the_issuer_recomputes_what_the_certificate_claims(home, demo, mbd):
    done = mbd("certificate", "replay", demo.bundle, "--home", home, "--json")
    assert (done.code, done.json["matched"]) == (0, True), done.out
    names = {check["name"] for check in done.json["checks"]}
    assert {"manifest of D'", "statistics of D'", "sigma", "noise commitment", "residual of head tav"} <= names


def test_a_replay_with_changed_weights_differs(home, demo, mbd):
    heads = home / "lines" / "demo" / "2" / "model" / "heads.safetensors"
    heads.write_bytes(heads.read_bytes()[:-1] + b"!")
    done = mbd("certificate", "replay", demo.bundle, "--home", home)
    assert done.code == 1
    assert "Traceback" not in done.err
    assert "heads.safetensors" in done.out + done.err
