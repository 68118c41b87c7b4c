"""The C2SP policy file: what it may say, what it may not, and which checkpoints are good enough for it."""

from datetime import UTC, datetime
from hashlib import sha256
from itertools import combinations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from certs import checkpoint as checkpoints
from certs.checkpoint import Checkpoint
from certs.encoding import encode_base64
from certs.errors import CertificateError, Code
from certs.keys import Ed25519Signer, MlDsa44Signer, PublicKey
from certs.note import NoteKey, SignatureType
from certs.policy import NONE, Policy, PolicyGroup, PolicyLog, PolicyWitness, build_policy, parse

ORIGIN = "example.org/log"
HEAD = Checkpoint(ORIGIN, 42, bytes(range(32)))
AT = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)
NAMES = ("X1", "X2", "X3", "Y1", "Y2", "Y3")


def key_of(name, signer):
    of = {Ed25519Signer: SignatureType.COSIGNATURE_ED25519, MlDsa44Signer: SignatureType.COSIGNATURE_ML_DSA_44}
    return NoteKey(name, PublicKey.from_spki(signer.public_key), of[type(signer)])


def seed(name):
    """The same keys in every process: pytest-xdist compares what its workers collect."""
    return sha256(f"policy test {name}".encode()).digest()


def signer_of(name):
    if name.endswith("3"):
        return MlDsa44Signer(MLDSA44PrivateKey.from_seed_bytes(seed(name)))
    return Ed25519Signer(Ed25519PrivateKey.from_private_bytes(seed(name)))


LOG = signer_of("log")
LOG_KEY = NoteKey(ORIGIN, PublicKey.from_spki(LOG.public_key))
SIGNERS = {name: signer_of(name) for name in NAMES}
KEYS = {name: key_of(f"witness.example/{name}", signer) for name, signer in SIGNERS.items()}
NOTE = checkpoints.sign(HEAD, [LOG], at=AT)

EXAMPLE = f"""
log {LOG_KEY.vkey}

witness X1 {KEYS["X1"].vkey}
witness X2 {KEYS["X2"].vkey}
witness X3 {KEYS["X3"].vkey} https://x3.example/
  # three of another organisation
group X-witnesses 2 X1 X2 X3

witness\tY1\t {KEYS["Y1"].vkey}
witness Y2 {KEYS["Y2"].vkey}
\twitness Y3 {KEYS["Y3"].vkey}\t
group Y-witnesses any Y1 Y2 Y3

group X-and-Y all X-witnesses Y-witnesses
quorum X-and-Y
"""
W1, W2 = f"witness w1 {KEYS['X1'].vkey}\n", f"witness w2 {KEYS['X2'].vkey}\n"


def cosigned(names, note=NOTE):
    lines = [checkpoints.cosign(HEAD, KEYS[name].name, SIGNERS[name], at=AT).text for name in names]
    return note + "".join(lines)


def refused(data, message, code=Code.POLICY_MALFORMED):
    with pytest.raises(CertificateError, match=message) as failure:
        parse(data if isinstance(data, bytes) else data.encode())
    assert failure.value.code is code


def test_the_example_of_the_specification_is_read():
    policy = parse(EXAMPLE.encode())
    assert policy.logs == (PolicyLog(LOG_KEY),)
    assert [witness.name for witness in policy.witnesses] == list(NAMES)
    assert [witness.url for witness in policy.witnesses] == [None, None, "https://x3.example/", None, None, None]
    assert policy.groups == (
        PolicyGroup("X-witnesses", 2, ("X1", "X2", "X3")),
        PolicyGroup("Y-witnesses", 1, ("Y1", "Y2", "Y3")),
        PolicyGroup("X-and-Y", 2, ("X-witnesses", "Y-witnesses")),
    )
    assert policy.quorum == "X-and-Y"


def test_the_quorum_of_the_example_is_reached_by_two_of_one_and_one_of_the_other_and_by_no_fewer():
    policy = parse(EXAMPLE.encode())
    for count in range(len(NAMES) + 1):
        for names in combinations(NAMES, count):
            enough = sum(name[0] == "X" for name in names) >= 2 and any(name[0] == "Y" for name in names)
            if enough:
                witnesses = tuple(KEYS[name] for name in names)
                checkpoint, logs, cosigners = policy.check(cosigned(names))
                assert (checkpoint, logs, set(cosigners)) == (HEAD, (LOG_KEY,), set(witnesses))
            else:
                with pytest.raises(CertificateError) as failure:
                    policy.check(cosigned(names))
                assert failure.value.code is Code.WITNESS_QUORUM_MISSING


def test_a_witness_counts_once_however_often_its_line_stands_there():
    policy = parse(EXAMPLE.encode())
    with pytest.raises(CertificateError) as failure:
        policy.check(cosigned(["X1", "X1", "X1", "Y1"]))
    assert failure.value.code is Code.WITNESS_QUORUM_MISSING


def test_a_single_witness_can_be_the_quorum():
    policy = parse((W1 + W2 + "quorum w2\n").encode())
    assert policy.check(cosigned(["X2"]))[2] == (KEYS["X2"],)
    with pytest.raises(CertificateError, match="not reached"):
        policy.check(cosigned(["X1"]))


def test_without_a_quorum_the_witnesses_there_are_are_told_all_the_same():
    policy = parse(f"quorum none\n{W1}".encode())
    assert policy.check(NOTE) == (HEAD, (), ())
    assert policy.check(cosigned(["X1", "X2"])) == (HEAD, (), (KEYS["X1"],))


def test_a_log_of_the_policy_must_have_signed_under_its_origin():
    stranger = NoteKey(ORIGIN, PublicKey.from_spki(Ed25519Signer.generate().public_key))
    elsewhere = NoteKey("other.example", LOG_KEY.key)
    for key in (stranger, elsewhere):
        with pytest.raises(CertificateError, match="No log of the policy") as failure:
            parse(f"log {key.vkey}\nquorum none\n".encode()).check(NOTE)
        assert failure.value.code is Code.CHECKPOINT_SIGNATURE_INVALID
    both = parse(f"log {stranger.vkey}\nlog {LOG_KEY.vkey}\nquorum none\n".encode())
    assert both.check(NOTE)[1] == (LOG_KEY,)


def test_a_witness_whose_name_is_the_origin_does_not_stand_for_the_log():
    signer = MlDsa44Signer.generate()
    key = key_of(ORIGIN, signer)
    policy = parse(f"log {LOG_KEY.vkey}\nwitness w {key.vkey}\nquorum w\n".encode())
    line = checkpoints.cosign(HEAD, ORIGIN, signer, at=AT).text
    alone = HEAD.text + "\n" + line
    with pytest.raises(CertificateError, match="No log of the policy"):
        policy.check(alone)
    assert policy.check(NOTE + line)[2] == (key,)


@pytest.mark.parametrize("whose", ["log", "witness"])
def test_a_wrong_line_of_a_known_key_spoils_the_note(whose):
    policy = parse(f"log {LOG_KEY.vkey}\n{W1}quorum none\n".encode())
    key, size = (LOG_KEY, 64) if whose == "log" else (KEYS["X1"], 72)
    forged = NOTE + f"— {key.name} {encode_base64(key.key_id + bytes(size))}\n"
    with pytest.raises(CertificateError) as failure:
        policy.check(forged)
    assert failure.value.code is Code.CHECKPOINT_SIGNATURE_INVALID


def test_a_cosignature_over_another_checkpoint_does_not_count():
    other = checkpoints.cosign(Checkpoint(ORIGIN, 41, HEAD.root), KEYS["X1"].name, SIGNERS["X1"], at=AT)
    with pytest.raises(CertificateError, match="is wrong"):
        parse((W1 + "quorum w1\n").encode()).check(NOTE + other.text)


def test_something_else_than_a_checkpoint_is_refused():
    for note in ("", "x\n\n", NOTE[:-1]):
        with pytest.raises(CertificateError) as failure:
            parse(b"quorum none\n").check(note)
        assert failure.value.code is Code.CHECKPOINT_MALFORMED


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no quorum"),
        ("# quorum none\n", "no quorum"),
        (W1, "no quorum"),
        ("quorum none", "not complete"),
        ("quorum none\nquorum none\n", "Line 2.*second quorum"),
        ("quorum\n", "neither"),
        ("quorum none # nobody\n", "neither"),
        ("quorum w1\n" + W1, "Line 1.*no line above"),
        ("Quorum none\n", "neither"),
        ("quorum\u00a0none\n", "neither"),
        ("quorum none\r\n", "control character 0d"),
        ("\n\nquorum none\x0b\n", "Line 3.*control character 0b"),
        ("quorum none\n#\x7f\n", "Line 2.*control character 7f"),
        ("quorum none\n#\x00\n", "control character 00"),
        ("log\nquorum none\n", "neither"),
        (f"log {LOG_KEY.vkey} https://a https://b\nquorum none\n", "neither"),
        (f"log {LOG_KEY.vkey}\nlog {LOG_KEY.vkey}\nquorum none\n", "Line 2.*stands in it twice"),
        (f"log {LOG_KEY.vkey}\nlog {NoteKey('other', LOG_KEY.key).vkey}\nquorum none\n", "stands in it twice"),
        (f"log {KEYS['X1'].vkey}\nquorum none\n", "type 0x04 is not that of a log"),
        (f"witness w {LOG_KEY.vkey}\nquorum w\n", "type 0x01 is not that of a witness"),
        (W1 + f"witness w2 {KEYS['X1'].vkey}\nquorum w1\n", "stands in it twice"),
        (W1 + f"witness w2 {NoteKey('b', KEYS['X1'].key, KEYS['X1'].type).vkey}\nquorum w1\n", "stands in it twice"),
        (W1 + f"witness w1 {KEYS['X2'].vkey}\nquorum w1\n", "'w1' is taken"),
        (f"witness none {KEYS['X1'].vkey}\nquorum none\n", "'none' is taken"),
        (W1 + "group none any w1\nquorum none\n", "'none' is taken"),
        (W1 + "group w1 any w1\nquorum none\n", "'w1' is taken"),
        (W1 + "group g any\nquorum g\n", "neither"),
        ("group g any none\nquorum g\n", "'none'"),
        ("group g any w1\n" + W1 + "quorum g\n", "Line 1.*no line above"),
        ("group g any g\nquorum g\n", "no line above"),
        (W1 + "group g 0 w1\nquorum g\n", "cannot need 0"),
        (W1 + "group g 2 w1\nquorum g\n", "cannot need 2"),
        (W1 + "group g 01 w1\nquorum g\n", "'01'"),
        (W1 + "group g +1 w1\nquorum g\n", r"'\+1'"),
        (W1 + "group g ANY w1\nquorum g\n", "'ANY'"),
        (W1 + "group g any w1 w1\nquorum g\n", "member twice"),
        (W1 + W2 + "group g any w1\ngroup h any w1 w2\nquorum h\n", "Line 4.*member twice"),
    ],
)
def test_what_the_specification_forbids_is_refused(text, message):
    refused(text, message)


def test_a_verifier_key_that_is_none_is_refused():
    refused(
        f"witness w {KEYS['X1'].vkey[:-4]}\nquorum none\n",
        "not of the form|hash does not fit|32 bytes",
        Code.KEY_INVALID,
    )
    refused(b"witness w \xff" + KEYS["X1"].vkey.encode() + b"\nquorum none\n", "not UTF-8")


def test_a_log_may_be_known_by_two_keys():
    second = key_of(ORIGIN, MlDsa44Signer.generate())
    policy = parse(f"log {LOG_KEY.vkey}\nlog {second.vkey} https://log.example\nquorum none\n".encode())
    assert policy.logs == (PolicyLog(LOG_KEY), PolicyLog(second, "https://log.example"))


def test_names_are_octets_and_need_not_be_text():
    kelvin, broken = "\u212a".encode(), b"\xff\xfe"
    data = b"".join(
        b"witness " + name + b" " + KEYS[key].vkey.encode() + b"\n"
        for name, key in ((b"K", "X1"), (kelvin, "X2"), (broken, "X3"))
    )
    policy = parse(data + b"# \xff\ngroup g all " + kelvin + b" " + broken + b"\nquorum g\n")
    assert len({witness.name for witness in policy.witnesses}) == 3
    assert policy.check(cosigned(["X2", "X3"]))[2]
    assert build_policy(policy).count(broken) == 2
    refused(data + b"quorum \xff\n", r"'\\udcff'")


def test_a_large_policy_is_read_and_an_endless_one_is_not():
    logs = [PolicyLog(key_of(ORIGIN, MlDsa44Signer.generate())) for _ in range(32)]
    witnesses = [PolicyWitness(f"w{n}", key_of(f"w/{n}", MlDsa44Signer.generate())) for n in range(32)]
    groups = [PolicyGroup("g0", 1, ("w0",)), *(PolicyGroup(f"g{n}", 2, (f"g{n - 1}", f"w{n}")) for n in range(1, 32))]
    policy = Policy(tuple(logs), tuple(witnesses), tuple(groups), "g31")
    assert parse(build_policy(policy)) == policy
    assert policy.is_quorum(tuple(witness.key for witness in witnesses))
    assert not policy.is_quorum(tuple(witness.key for witness in witnesses[1:]))
    refused(b"#" * (1 << 20) + b"\nquorum none\n", "more than")


@pytest.mark.parametrize("name", ["", "two words", "tab\t", "none", "#", "a\nquorum b"])
def test_what_could_not_be_read_back_is_not_written(name):
    policy = Policy((), (PolicyWitness(name, KEYS["X1"], "https://w"),), (), NONE)
    if name == "#":  # a line is a comment by its first item alone
        assert parse(build_policy(policy)) == policy
        return
    with pytest.raises(CertificateError) as failure:
        build_policy(policy)
    assert failure.value.code in (Code.POLICY_MALFORMED, Code.KEY_INVALID)


WORDS = st.sampled_from(
    [
        *b"log witness group quorum none any all 1 2 w1 g #".split(),
        *(key.vkey.encode() for key in (LOG_KEY, *KEYS.values())),
        b"\xff",
    ]
)
LINES = st.lists(WORDS, max_size=6).map(b" ".join)


@given(st.one_of(st.binary(max_size=200), st.lists(LINES, max_size=8).map(lambda lines: b"\n".join(lines) + b"\n")))
def test_whatever_comes_is_a_policy_or_a_refusal(data):
    try:
        policy = parse(data)
    except CertificateError as error:
        assert error.code in (Code.POLICY_MALFORMED, Code.KEY_INVALID)
        str(error).encode()  # it can be printed
    else:
        assert parse(build_policy(policy)) == policy
