"""The only reader of the environment: one frozen `Settings`, prefix ``MBD_``. It opens nothing itself."""

import os
from functools import cached_property
from pathlib import Path

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


def default_home() -> Path:
    """Where state lives when nobody says otherwise: ``$XDG_STATE_HOME/mbd`` or ``~/.local/state/mbd``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mbd"


class Settings(BaseSettings):
    """Everything a deployment can set. Defaults run on one machine, with SQLite and no network."""

    model_config = SettingsConfigDict(env_prefix="MBD_", frozen=True)

    home: Path | None = None
    """State folder: keys, cohorts, weights, certificates, the SQLite file."""

    database_url: str | None = None
    """SQLAlchemy URL. Default: a SQLite file in the state folder."""

    origin: str = "mbd.local/log"
    """The log's name in its checkpoints: a host and a path, no scheme."""

    key_passphrase: SecretStr | None = None
    """Encrypts private keys on disk. Without it they are protected by file mode 0600 alone."""

    epsilon: float = 0.1
    """Per deletion: the epsilon that each certified release is calibrated to."""

    delta: float = 1e-9
    """The delta at which epsilon, and the budget below, are stated."""

    budget_epsilon: float = 1.0
    """Per model line: when the composed epsilon would pass it, deletions become exact refits."""

    @cached_property
    def state(self) -> Path:
        """The state folder in force."""
        return (self.home or default_home()).expanduser()

    @cached_property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url or f"sqlite:///{self.state / 'mbd.sqlite3'}"
