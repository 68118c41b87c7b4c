"""Every route of the API is in docs/api.md."""

from api.app import create_app
from mbd.records.database import upgrade
from mbd.settings import Settings
from mbd.workflow.identities import SECRET

EXAMPLES = {"{certificate_id}": "{id}", "{path}": "...", "{name}": "not-found"}


def test_every_route_is_documented(root, tmp_path):
    settings = Settings(home=tmp_path)
    upgrade(settings.database)
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / SECRET).touch(mode=0o600)
    app = create_app(settings)
    text = (root / "docs" / "api.md").read_text("utf-8")
    paths = list(app.openapi()["paths"])
    assert "/readyz" in paths
    for path in paths:
        shown = path
        for parameter, example in EXAMPLES.items():
            shown = shown.replace(parameter, example)
        assert f"{shown}`" in text, path
    app.state.office.engine.dispose()
