"""What can be wrong with a certificate, a log proof or a key file: one code each, never reused, listed in SPEC.md.

    CertificateError                 a code, a message for the person who meets it, and the remedy
    ├── KeyFileError                 a private key file that cannot be made or used
    └── VerificationError            the same as CertificateError, and the number of the step that failed

It knows no formats: the modules that read them choose the code.
"""

from enum import StrEnum


class Code(StrEnum):
    """Every failure, by its stable name. Append only: programs of others match on these."""

    JSON_MALFORMED = "json-malformed"
    JSON_DUPLICATE_KEY = "json-duplicate-key"
    JSON_NUMBER = "json-number"
    JSON_SURROGATE = "json-surrogate"
    JSON_TOO_DEEP = "json-too-deep"
    JSON_TOO_LARGE = "json-too-large"
    BUNDLE_VERSION_UNKNOWN = "bundle-version-unknown"
    BUNDLE_MALFORMED = "bundle-malformed"
    BUNDLE_NOT_CANONICAL = "bundle-not-canonical"
    TRUSTED_ROOT_MALFORMED = "trusted-root-malformed"

    KEY_INVALID = "key-invalid"
    KEY_UNKNOWN = "key-unknown"
    KEY_NOT_VALID = "key-not-valid"

    PAYLOAD_TYPE_UNKNOWN = "payload-type-unknown"
    SIGNATURE_INVALID = "signature-invalid"

    TIMESTAMP_INVALID = "timestamp-invalid"
    TIMESTAMP_AUTHORITY_UNKNOWN = "timestamp-authority-unknown"

    LOG_UNKNOWN = "log-unknown"
    LOG_KEY_NOT_VALID = "log-key-not-valid"
    ENTRY_MISMATCH = "entry-mismatch"
    CHECKPOINT_MALFORMED = "checkpoint-malformed"
    CHECKPOINT_SIGNATURE_INVALID = "checkpoint-signature-invalid"
    CHECKPOINT_ORIGIN_MISMATCH = "checkpoint-origin-mismatch"
    CHECKPOINT_MISMATCH = "checkpoint-mismatch"
    POLICY_MALFORMED = "policy-malformed"
    WITNESS_QUORUM_MISSING = "witness-quorum-missing"
    INCLUSION_INVALID = "inclusion-invalid"
    CONSISTENCY_INVALID = "consistency-invalid"
    PROOF_MALFORMED = "proof-malformed"
    TILE_MALFORMED = "tile-malformed"
    TILE_MISMATCH = "tile-mismatch"
    TILE_MISSING = "tile-missing"

    NOTICE_MALFORMED = "notice-malformed"
    LOG_COPY_INVALID = "log-copy-invalid"
    CERTIFICATE_REVOKED = "certificate-revoked"
    KEY_COMPROMISED = "key-compromised"

    STATEMENT_MALFORMED = "statement-malformed"
    PREDICATE_UNKNOWN = "predicate-unknown"
    TIME_ORDER = "time-order"
    MODEL_IDENTITY = "model-identity"
    SCOPE_INVALID = "scope-invalid"
    DATASET_INVALID = "dataset-invalid"
    ABSENCE_INVALID = "absence-invalid"
    STATISTICS_INVALID = "statistics-invalid"
    PROCEDURE_INVALID = "procedure-invalid"
    SENSITIVITY_MISMATCH = "sensitivity-mismatch"
    NOISE_INVALID = "noise-invalid"
    CLASS_NOT_ALLOWED = "class-not-allowed"
    MU_UNDERSTATED = "mu-understated"
    EPSILON_UNDERSTATED = "epsilon-understated"
    AUDIT_CONTRADICTS = "audit-contradicts"
    COMMITMENT_MISMATCH = "commitment-mismatch"

    ARTIFACT_UNKNOWN = "artifact-unknown"
    ARTIFACT_MISMATCH = "artifact-mismatch"
    OPENING_MISMATCH = "opening-mismatch"

    KEY_FILE_EXISTS = "key-file-exists"
    KEY_FILE_PERMISSIONS = "key-file-permissions"
    KEY_FILE_UNREADABLE = "key-file-unreadable"
    KEY_FILE_PASSPHRASE = "key-file-passphrase"  # noqa: S105 - the name of a failure, not a passphrase


class CertificateError(Exception):
    """Base of the tree.

    Attributes:
        code: the failure's stable name.
        message: what is wrong, for a person.
        remedy: what that person can do about it.
    """

    def __init__(self, code: Code, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"[{self.code}] {self.message} Remedy: {self.remedy}"


class KeyFileError(CertificateError):
    """A private key file that cannot be made or used."""


class VerificationError(CertificateError):
    """A certificate that does not verify.

    Attributes:
        step: the number of the failed step, 1 to 8, as in SPEC.md.
    """

    def __init__(self, step: int, code: Code, message: str, *, remedy: str) -> None:
        super().__init__(code, message, remedy=remedy)
        self.step = step

    def __str__(self) -> str:
        return f"Step {self.step}: {super().__str__()}"
