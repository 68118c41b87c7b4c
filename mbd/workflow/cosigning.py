"""Collects the cosignatures of witnesses over our log's checkpoints, as a policy file asks for them.

The log's own note is signed and stored first; witnesses are asked outside of every lock, and what they say is kept
beside the note, so that it is asked for once. It signs nothing.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from certs import checkpoint as checkpoints
from certs import policy as policies
from certs.errors import CertificateError, Code
from certs.note import NoteKey, SignatureLine, SignatureType
from certs.policy import NONE, Policy, PolicyGroup, PolicyLog, PolicyWitness, build_policy
from mbd.errors import ForkAlarmError, SettingsError, WitnessError
from mbd.records import cosignatures, ledger
from mbd.records.database import begin_locked, begin_snapshot
from mbd.records.fsck import VerifyNote
from mbd.records.ledger import Checkpoint, TreeHead
from mbd.workflow.system import System
from mbd.workflow.witness_client import Ahead, Answer, Refused, Silent, ask

_SECOND = "log-ml-dsa-44"
_ALARM = (
    "issue nothing; hold this log against the witness's checkpoint of it; if an old copy was restored, bring back the "
    "newer one; if the witness is at fault, take it out of MBD_WITNESS_POLICY"
)


def collect(system: System, signed: Checkpoint) -> Checkpoint | None:
    """The same checkpoint with the cosignatures of all witnesses that gave one, once they are a quorum.

    Without a policy it is the checkpoint as it was.

    Crash point: what witnesses said is stored before it is used; what was not yet stored is asked for again, and a
    witness that had cosigned already says so (409) and cosigns once more.

    Returns:
        None if the log has grown past this checkpoint meanwhile, and witnesses with it: sign the new head and collect
        for that.

    Raises:
        WitnessError: too few witnesses cosigned.
        ForkAlarmError: a witness remembers another history of our log, however many cosigned.
        SettingsError, CertificateError: the policy is not usable.
    """
    policy = _policy(system)
    if policy is None:
        return signed
    answers = _ask(system, policy, signed)
    said = {_name(w.key): a.text for w, a in answers.items() if isinstance(a, SignatureLine)}
    with begin_locked(system.engine) as connection:
        cosignatures.keep_cosignatures(connection, signed.head.size, said)
        stored = cosignatures.cosignatures(connection, signed.head.size)
        size = ledger.head(connection).size
    overtaken = _refuse_forks(answers, size)
    lines = [stored[name] for name in (_name(witness.key) for witness in policy.witnesses) if name in stored]
    cosigned = Checkpoint(signed.head, signed.note + "".join(lines))
    try:
        policy.check(cosigned.note)
    except CertificateError as error:
        if error.code is not Code.WITNESS_QUORUM_MISSING:
            raise
        if overtaken:
            return None
        raise _too_few(error, answers) from None
    return cosigned


def verify_note(system: System) -> VerifyNote:
    """Checks stored notes, and the lines of those witnesses in them that the policy knows."""
    policy = _policy(system)
    keys = [*system.keyring.log_keys, *(witness.key for witness in (policy.witnesses if policy else ()))]

    def verify(note: str) -> TreeHead:
        checkpoint, _ = checkpoints.verify(note, keys)
        return TreeHead(checkpoint.size, checkpoint.root)

    return verify


def policy_for_verifiers(system: System) -> bytes:
    """The tlog-policy that a deployment publishes: its log's keys, its witnesses and their quorum, as settings say.

    Where the log signs with ML-DSA-44 as well, that signature is demanded, as a cosigner's under the log's own name.
    """
    asked, second = _policy(system), system.keyring.ml_dsa_key
    logs = tuple(PolicyLog(key) for key in system.keyring.log_keys if key.type is SignatureType.LOG)
    made = Policy(logs, (), (), NONE) if asked is None else replace(asked, logs=logs)
    if second is None:
        return build_policy(made)
    witnesses = (*made.witnesses, PolicyWitness(_SECOND, second))
    if made.quorum == NONE:
        return build_policy(replace(made, witnesses=witnesses, quorum=_SECOND))
    both = PolicyGroup("log-and-witnesses", 2, (_SECOND, made.quorum))
    return build_policy(replace(made, witnesses=witnesses, groups=(*made.groups, both), quorum=both.name))


def _policy(system: System) -> Policy | None:
    path = system.settings.witness_policy
    if path is None:
        return None
    policy = policies.parse(path.read_bytes())
    if policy.logs and not {log.key for log in policy.logs} & set(system.keyring.log_keys):
        raise SettingsError(
            f"The policy {path} does not list this log.", remedy=f"add the line: log {system.keyring.note_key.vkey}"
        )
    return policy


def _ask(system: System, policy: Policy, signed: Checkpoint) -> dict[PolicyWitness, Answer]:
    """What the witnesses say that have a URL and have not cosigned yet; all are asked at once."""
    size = signed.head.size
    with begin_snapshot(system.engine) as connection:
        stored = cosignatures.cosignatures(connection, size)
        known = cosignatures.cosigned_sizes(connection)
    asked = [witness for witness in policy.witnesses if witness.url and _name(witness.key) not in stored]
    if not asked:
        return {}

    def proof(old: int) -> list[bytes]:
        with begin_snapshot(system.engine) as connection:
            return ledger.consistency_proof(connection, old, size)

    def answer(witness: PolicyWitness) -> Answer:
        return ask(witness, signed.note, proof, known=min(known.get(_name(witness.key), 0), size))

    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(answer, asked), strict=True))


def _refuse_forks(answers: dict[PolicyWitness, Answer], size: int) -> bool:
    """Whether a witness is ahead because our log has grown since.

    Raises:
        ForkAlarmError: it is ahead of all that we have, or says that our log does not extend what it remembers.
    """
    for witness, answer in answers.items():
        name = witness.key.name
        if isinstance(answer, Refused):
            raise ForkAlarmError(
                f"To the witness {name} our log looks forked: it remembers leaves that are not ours ({answer.reason}).",
                remedy=_ALARM,
            )
        if isinstance(answer, Ahead) and answer.size > size:
            raise ForkAlarmError(
                f"To the witness {name} our log looks rolled back: it remembers {answer.size} leaves, we have {size}.",
                remedy=_ALARM,
            )
    return any(isinstance(answer, Ahead) for answer in answers.values())


def _too_few(error: CertificateError, answers: dict[PolicyWitness, Answer]) -> WitnessError:
    silent = [f"{witness.key.name}: {a.reason}." for witness, a in answers.items() if isinstance(a, Silent)]
    return WitnessError(
        " ".join([error.message, *silent]), remedy="try again when the witnesses answer; what is logged stays logged"
    )


def _name(key: NoteKey) -> str:
    """How the records name a witness."""
    return f"{key.name}+{key.key_id.hex()}"
