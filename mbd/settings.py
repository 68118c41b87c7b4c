"""The only reader of the environment: one frozen `Settings`, prefix ``MBD_``. It opens nothing itself."""

import os
from datetime import date
from functools import cached_property
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ORIGIN = r"^[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~-]+)*$"
"""A log's name: a host and a path, no scheme."""

KEY_URI = r"^(hsm:[0-9]+\?label=[^&]+|awskms:.+|gcpkms:.+|azurekms://[^/.]+\.[^/]+/keys/[^/]+/[^/]+)$"
"""A private key in a PKCS#11 token or a cloud's key service."""

DOMAIN = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
"""A full host name, in lower case."""

NOTIFIER = (
    r"^(folder:/.+|(smtp|smtps|smtp\+starttls)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"|python:[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$"
)
"""How people are told: a folder, a mail server without any password, or a plug-in's factory."""


def token_library() -> str | None:
    """The PKCS#11 library of the token, by the variable ``PYKCS11LIB``, which securesystemslib reads as well."""
    return os.environ.get("PYKCS11LIB")


def default_home() -> Path:
    """Where state lives when nobody says otherwise: ``$XDG_STATE_HOME/mbd`` or ``~/.local/state/mbd``."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "mbd"


class Settings(BaseSettings):
    """Everything a deployment can set. Defaults run on one machine, with SQLite and no network."""

    model_config = SettingsConfigDict(env_prefix="MBD_", frozen=True, hide_input_in_errors=True)

    home: Path | None = None
    """State folder: keys, cohorts, weights, certificates, the SQLite file."""

    database_url: SecretStr | None = None
    """SQLAlchemy URL, perhaps with a password. Default: a SQLite file in the state folder."""

    next_database_url: SecretStr | None = None
    """Where `mbd ledger retire` makes the new records, an empty database; needed where `database_url` is set."""

    checkpoint: Path | None = None
    """Where the last signed checkpoint is remembered. Default: in the state folder. A place outside of what the
    backups restore lets the program notice that an old backup was restored."""

    destroyed_keys: Path | None = None
    """The journal of destroyed openings. Default: in the state folder. A place outside of what the backups restore lets
    the program destroy again what an old backup brings back."""

    witness_policy: Path | None = None
    """A C2SP tlog-policy file, whose witnesses are asked for cosignatures. Without it nobody is asked."""

    origin: str = Field(default="mbd.local/log", pattern=ORIGIN)
    """The log's name in its checkpoints: a host and a path, no scheme."""

    key_passphrase: SecretStr | None = None
    """Encrypts private keys on disk. Without it they are protected by file mode 0600 alone."""

    key_passphrase_file: Path | None = None
    """A file with the same, readable by its owner alone; one newline at its end does not count."""

    certificate_key: str | None = Field(
        default=None,
        pattern=KEY_URI,
    )
    """The URI of the private key that signs certificates, in a token or a key service. Default: a file in the state
    folder."""

    token_pin: SecretStr | None = None
    """The PIN of the token, for a ``certificate_key`` of the scheme ``hsm``."""

    token_pin_file: Path | None = None
    """A file with the same, readable by its owner alone; one newline at its end does not count."""

    ml_dsa_checkpoints: bool = False
    """Of new deployments: sign checkpoints with ML-DSA-44 beside Ed25519. Clients that do not know it ignore it."""

    timestamp_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """The RFC 3161 authority that stamps certificates, one that `mbd keys trust-authority` has registered. Default: the
    deployment's own."""

    certify_absence: bool = False
    """Answer requests for what no live model holds with certificates of absence, instead of an error."""

    tau: float = Field(default=1e-6, gt=0)
    """Of new model lines: the bound of every released head's residual."""

    epsilon: float = Field(default=0.1, gt=0)
    """Of new model lines: the epsilon that releasing all heads together costs; no deletion costs more."""

    delta: float = Field(default=1e-9, gt=0, lt=1)
    """Of new model lines: the delta at which epsilon, and the budget below, are stated."""

    budget_epsilon: float = Field(default=1.0, gt=0)
    """Of new model lines: when the composed epsilon would pass it, deletions become exact refits."""

    exact_rows: int = Field(default=0, ge=0)
    """Of new model lines: up to so many training rows, a deletion reads them all again and is an exact refit."""

    indicator_penalty: float = Field(default=1.0, ge=1, allow_inf_nan=False)
    """Of new model lines: the penalty of presence indicators, often the least of all. Lines of several hundred
    thousand rows need more, because noise and release grid are in inverse proportion to the least penalty."""

    entangled: Literal["retrain", "noisy-fine-tuning", "surgical"] = "retrain"
    """What a deletion does to a backbone that everybody's rows shaped: train it again (exact), drown in noise what it
    knows (certified, or refused where that breaks it), or the published update of the MBD paper (empirical)."""

    deadline_days: int = Field(default=30, ge=1, le=365)
    """Days to answer a request under a regime that sets no time, such as BIPA."""

    holidays: frozenset[date] | None = None
    """Days besides Saturdays and Sundays on which no deadline ends, where the regime counts working days."""

    four_eyes: bool = False
    """Who filed a request over the API does not approve it."""

    oidc_issuer: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """The OpenID Connect provider whose tokens the API takes. Default: none, and local API keys alone open it."""

    oidc_audience: str | None = None
    """Whom its tokens must be made for; needed where there is an issuer."""

    oidc_jwks_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Where its keys are. Default: where its discovery document says."""

    oidc_subject_claim: str = "sub"
    """The claim that names a person as the cohorts do: a login as that person is a proof of identity."""

    attack: bool = False
    """Attack every deletion before it is certified, and search everything for the withdrawn values afterwards."""

    callback_allow: frozenset[str] | None = None
    """Hosts (``host`` or ``host:port``) that call-backs may reach by plain HTTP and at private addresses, and networks
    to which https names may lead although they are private."""

    callback_hosts: frozenset[str] | None = None
    """If set, call-backs go only to these domains and to what is below them."""

    opendsr_domain: str | None = Field(default=None, max_length=253, pattern=DOMAIN)
    """The domain at which controllers reach this service by OpenDSR 2.0. Default: none, and it speaks no OpenDSR."""

    opendsr_vouched: bool = False
    """Whether a controller's word counts as proof of who asked it. Otherwise an officer attests it."""

    notifier: str | None = Field(default=None, pattern=NOTIFIER)
    """How people are told what became of their requests. Without it nobody is, and no codes are sent."""

    smtp_user: str | None = None
    """Whom to log in as at the mail server. Default: nobody."""

    smtp_password: SecretStr | None = None
    """The password of that user."""

    smtp_password_file: Path | None = None
    """A file with the same, readable by its owner alone; one newline at its end does not count."""

    mail_from: str | None = None
    """Whom mail is from: one address, perhaps with a name."""

    public_url: str | None = Field(default=None, pattern=r"^https?://[^\s?#]+$")
    """Where people reach this service; messages then say where a certificate is."""

    code_minutes: int = Field(default=30, ge=1, le=1440)
    """For how long a verification code is valid, counted from when it was asked for."""

    worker_silence: int = Field(default=60, ge=2)
    """On PostgreSQL: after so many seconds without a sign of life a worker's jobs are taken over by another one."""

    predictor_socket: Path | None = None
    """The Unix socket between the API and `mbd predictor`. Default: in the state folder."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From which level on log lines are written."""

    rate_per_minute: int = Field(default=600, ge=0)
    """Requests that the API answers to one client in a minute; 0 is no limit."""

    trusted_proxies: frozenset[IPv4Network | IPv6Network] | None = None
    """Proxies whose word on a client's address counts."""

    traces_endpoint: str | None = Field(default=None, pattern=r"^https?://\S+$")
    """Where traces are sent (OTLP over HTTP). Default: nowhere, and none are made."""

    @model_validator(mode="after")
    def _no_unknown_variables(self) -> Self:
        """A misspelt MBD_EPSILON must not be ignored in silence. MBD_TEST_ belongs to the tests."""
        known = {f"MBD_{name.upper()}" for name in type(self).model_fields}
        ours = {name.upper() for name in os.environ if name.upper().startswith("MBD_")}
        unknown = sorted(name for name in ours - known if not name.startswith("MBD_TEST_"))
        if unknown:
            raise ValueError(f"there is no setting {', '.join(unknown)}")
        return self

    @model_validator(mode="after")
    def _one_source_of_each_secret(self) -> Self:
        """Of two passphrases nobody knows which one counts."""
        for name in ("key_passphrase", "token_pin", "smtp_password"):
            if getattr(self, name) is not None and getattr(self, f"{name}_file") is not None:
                raise ValueError(f"MBD_{name.upper()} and MBD_{name.upper()}_FILE are both set")
        return self

    @model_validator(mode="after")
    def _tokens_are_for_us(self) -> Self:
        """A token that was made for another service must not open this one."""
        if self.oidc_issuer is not None and self.oidc_audience is None:
            raise ValueError("MBD_OIDC_ISSUER is set, and MBD_OIDC_AUDIENCE is not")
        return self

    @cached_property
    def state(self) -> Path:
        """The state folder in force."""
        return (self.home or default_home()).expanduser()

    @cached_property
    def database(self) -> str:
        """The database URL in force."""
        return self.database_url.get_secret_value() if self.database_url else f"sqlite:///{self.state / 'mbd.sqlite3'}"
