"""Every error of ours. It knows no HTTP, no SQL and no torch: the edges translate it.

MbdError                         a message for the person who meets it, and the remedy
├── SettingsError                the environment or the state folder is not usable
├── SignerError                  a token or key service that cannot be reached, or signs with another key
├── CohortError                  data that cannot be a cohort
│   ├── RowError                 one row is wrong; names the row
│   ├── UnsafePickleError        a pickle asked for something other than plain arrays
│   └── ChannelSuppressedError   the channel was revoked: no import, training or prediction
├── StoreError                   a blob store that cannot be used, or a blob that is missing or damaged
├── ClipError                    a clip that cannot be read, or a stage that cannot be made
├── TrainingError                a recipe, a checkpoint or a run that cannot go on
├── RanksError                   one of the processes that work together stopped, or is at other work
├── ExactnessError               integer arithmetic could stop being exact (2^53)
├── DeletionError                a revocation that cannot be carried out
│   ├── UnknownSubjectError      nobody of that name in the revocable cohort
│   ├── NothingToDeleteError     the person is known, the channel is not there
│   ├── NoMechanismError         a part of the model has no mechanism; fail closed
│   ├── NotCertifiedError        the residual stayed above tau; nothing was released
│   └── UtilityError             noise left too little of the model; drawing it has been paid for
├── PrivacyError                 parameters for which no guarantee can be calibrated
├── TimeStampError               a time stamp authority that cannot be used
├── FilingError                  a request to withdraw that cannot be taken as it is
├── DecisionError                a decision that this request or this deployment's policy does not allow
├── CallbackError                a URL that call-backs are not sent to
├── IdentityError                no code can be sent, or the one that was given is not looked at
├── NotifierError                a message that was not sent; it is tried again
├── PredictionError              clips that a model line cannot answer for
├── PredictorError               no predictor answers
├── AttackError                  an attack that has nothing to attack, or counts that have no interval
├── MonitorError                 another log, or a copy of ours, that cannot be followed
│   ├── UnreachableLogError      it cannot be reached, or serves what its checkpoint does not commit to
│   └── LogAlarmError            it has forked or gone back; the evidence is kept
├── WitnessError                 too few witnesses have cosigned the log
├── ExportError                  a file or a server that the lineage cannot be sent to
└── RecordsError                 the database
    ├── TransitionError          an action that a request cannot take, or not by them
    ├── LedgerError              the log would fork, skip, rewrite or go back
    │   └── ForkAlarmError       a witness remembers another history of our log than we have
    └── SchemaVersionError       the database is older or newer than this program
"""

import copyreg
from pathlib import Path
from typing import Any


class MbdError(Exception):
    """Base of the tree.

    Attributes:
        message: what is wrong, for a person.
        remedy: what that person can do about it.
    """

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} Remedy: {self.remedy}"

    def __reduce__(self) -> tuple[Any, ...]:
        """An error of a worker process arrives whole, whatever its constructor asks for."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]  # typeshed lacks it


class SettingsError(MbdError):
    """The environment or the state folder is not usable."""


class SignerError(MbdError):
    """A token or key service that cannot be reached, or that signs with another key; nothing was signed."""


class CohortError(MbdError):
    """Data that cannot be a cohort."""


class RowError(CohortError):
    """One row is wrong.

    Attributes:
        row: what names it to its owner, for example ``row 17 (clip 'abc_3')``.
    """

    def __init__(self, row: str, message: str, *, remedy: str) -> None:
        super().__init__(f"{row}: {message}", remedy=remedy)
        self.row = row


class UnsafePickleError(CohortError):
    """A pickle asked for something other than plain arrays and builtins; nothing of it was executed."""


class ChannelSuppressedError(CohortError):
    """The channel was revoked: import, training and prediction refuse it."""


class StoreError(MbdError):
    """A blob store that cannot be used, or a blob that is missing or damaged."""


class ClipError(MbdError):
    """A clip that cannot be read, a stage that cannot be made, or readings that may not be used."""


class TrainingError(MbdError):
    """A recipe, a checkpoint or a run that cannot go on."""


class BenchmarkError(MbdError):
    """A comparison of networks that cannot be made, or results that do not belong together."""


class RanksError(MbdError):
    """One of the processes that work together stopped, or is at other work than the rest."""


class ExactnessError(MbdError):
    """Integer arithmetic in float64 could stop being exact; raised before it does."""


class DeletionError(MbdError):
    """A revocation that cannot be carried out; nothing was changed."""


class UnknownSubjectError(DeletionError):
    """Nobody of that name in the revocable cohort."""


class NothingToDeleteError(DeletionError):
    """The person is known, but the channel is not there."""


class NoMechanismError(DeletionError):
    """A part of the model has a provenance that no mechanism can delete from, so nothing was changed."""


class NotCertifiedError(DeletionError):
    """The residual stayed above tau, so nothing was released."""


class UtilityError(DeletionError):
    """Noise left less of the model than its line allows, so nothing was released but this refusal.

    Attributes:
        mu: what the refusal itself costs: it follows from weights that carry the noise.
    """

    def __init__(self, message: str, *, remedy: str, mu: float) -> None:
        super().__init__(message, remedy=remedy)
        self.mu = mu


class PrivacyError(MbdError):
    """Parameters for which no guarantee can be calibrated."""


class TimeStampError(MbdError):
    """A time stamp authority that cannot be reached, refuses, or answers with what does not verify."""


class FilingError(MbdError):
    """A request to withdraw that cannot be taken as it is; nothing was filed."""


class DecisionError(MbdError):
    """A decision that this request or this deployment's policy does not allow; nothing was changed."""


class CallbackError(MbdError):
    """A URL that call-backs are not sent to, by its form or by where it leads."""


class PredictionError(MbdError):
    """Clips that a model line cannot answer for, or no such line. It repeats nothing of the clips."""


class PredictorError(MbdError):
    """No predictor is there, or it cannot answer now; the same can be asked again."""


class AttackError(MbdError):
    """An attack that has nothing to attack, or counts that have no interval."""


class MonitorError(MbdError):
    """Another log, or a copy of ours, that cannot be followed."""


class UnreachableLogError(MonitorError):
    """The log cannot be reached, or serves what its checkpoint does not commit to. It may be mended tomorrow."""


class LogAlarmError(MonitorError):
    """The log has forked, or it shows less than it had signed before.

    Attributes:
        alarm: ``fork`` or ``rollback``.
        evidence: the file that keeps both checkpoints.
    """

    def __init__(self, message: str, *, remedy: str, alarm: str, evidence: Path) -> None:
        super().__init__(message, remedy=remedy)
        self.alarm = alarm
        self.evidence = evidence


class WitnessError(MbdError):
    """Too few witnesses have cosigned the log; what was logged stays, and what needs them waits."""


class IdentityError(MbdError):
    """No code can be sent for a request, or what was given as one is not looked at any more."""


class NotifierError(MbdError):
    """A message to a person that was not sent. It is tried again, so nothing is lost by it."""


class ExportError(MbdError):
    """A file or a server that the lineage cannot be sent to; sending it again later is harmless."""


class RecordsError(MbdError):
    """The database cannot do what was asked."""


class TransitionError(RecordsError):
    """An action that a request cannot take in its state, or that is not for the one who takes it."""


class LedgerError(RecordsError):
    """The log would fork, skip, rewrite or go back."""


class ForkAlarmError(LedgerError):
    """A witness remembers another history of our log than we have: it was forked or rolled back."""


class SchemaVersionError(RecordsError):
    """The database is older or newer than this program."""
