"""Puts a candidate into service, or takes a version out of it and destroys its files. It makes no version."""

from mbd.records import promotion
from mbd.records.database import begin_locked
from mbd.records.models import ModelVersion
from mbd.workflow.office import refuse_rollback
from mbd.workflow.system import System, remove_unregistered


def promote_version(system: System, line: str, version: int) -> ModelVersion:
    """Put a candidate live; what it takes the place of is destroyed.

    Crash point: once it is live, the next command that changes the deployment destroys the old version.

    Raises:
        RecordsError: see `mbd.records.promotion.promote`.
        SettingsError: another command is changing the deployment.
        SignerError: see `remove_unregistered`.
    """
    with system.exclusive():
        with begin_locked(system.engine) as connection:
            refuse_rollback(system, connection)
            promoted = promotion.promote(connection, line, version)
        _clean_up(system)
        return promoted


def retire_version(system: System, line: str, version: int) -> ModelVersion:
    """Take the live version of a line out of service, or discard a candidate, and destroy its files.

    Crash point: once it is retired, the next command that changes the deployment destroys it.

    Raises:
        RecordsError: there is no such version.
        SettingsError: another command is changing the deployment.
        SignerError: see `remove_unregistered`.
    """
    with system.exclusive():
        with begin_locked(system.engine) as connection:
            refuse_rollback(system, connection)
            retired = promotion.retire(connection, line, version)
        _clean_up(system)
        return retired


def _clean_up(system: System) -> None:
    # In a transaction of its own: before the first one has committed, the old folder is the live one.
    with begin_locked(system.engine) as connection:
        remove_unregistered(system, connection)
