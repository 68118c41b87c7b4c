"""Every setting is documented, with the default that it has."""

import re

from pydantic import SecretStr

from mbd.settings import Settings

ROW = re.compile(r"^\| `(MBD_[A-Z_]+)` \| (.+?) \| .+ \|$", re.MULTILINE)


def test_the_table_has_every_setting_and_no_other_with_its_default(root):
    documented = dict(ROW.findall((root / "docs" / "settings.md").read_text("utf-8")))
    fields = Settings.model_fields
    assert set(documented) == {f"MBD_{name.upper()}" for name in fields}
    for name, field in fields.items():
        if field.default is not None:
            assert documented[f"MBD_{name.upper()}"] == f"`{field.default}`"


def test_secrets_are_not_shown(monkeypatch):
    monkeypatch.setenv("MBD_KEY_PASSPHRASE", "correct horse")
    monkeypatch.setenv("MBD_DATABASE_URL", "postgresql://user:battery@localhost/x")
    settings = Settings()
    assert isinstance(settings.key_passphrase, SecretStr)
    assert "horse" not in repr(settings)
    assert "battery" not in repr(settings)


def test_settings_are_the_only_reader_of_the_environment(tracked):
    reads = re.compile(r"os\.environ|os\.getenv|getenv\(")
    allowed = {
        "mbd/settings.py",
        "mbd/cli/app.py",  # tells OpenMP how to wait, before torch is loaded
        "mbd/workflow/exports/mlflow.py",  # tells MLflow not to report its use, before it is loaded
    }
    found = {
        name for name, text in tracked.items() if name.startswith(("mbd/", "certs/", "api/")) and reads.search(text)
    }
    assert found <= allowed
