"""A small RFC 3161 time stamp authority: answers requests with tokens under a key of its own.

A time stamp of an operator's own authority binds a thief of the certificate key, who cannot make old ones, and not the
operator; against the operator, ask an authority of somebody else. It opens no socket and reads no clock.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import ClassVar, Final

from asn1crypto import algos, cms, core, tsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from certs.keys import EcdsaP256Signer
from certs.timestamp import CertificateChain

POLICY: Final = "2.25.90364526127154086012834659129803726493"
"""Our policy's object identifier, an arc of a random UUID: genTime is the issuing machine's clock in whole seconds."""

_DIGEST_BYTES: Final = {"sha256": 32, "sha384": 48, "sha512": 64}
_YEARS: Final = 20


@dataclass(frozen=True)
class TimestampAuthority:
    """An authority that can sign.

    Attributes:
        signer: the key of the chain's first certificate.
        chain: what others verify with.
    """

    signer: EcdsaP256Signer
    chain: CertificateChain

    @classmethod
    def generate(cls, name: str, *, now: datetime) -> "TimestampAuthority":
        """A new authority, valid for twenty years. The root's key is forgotten: it signs this one certificate alone."""
        root_key, signer = generate_ec_key(SECP256R1()), EcdsaP256Signer.generate()
        root_name, leaf_name = (
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {role}")])
            for role in ("time stamp root", "time stamps")
        )
        lifetime = timedelta(days=365 * _YEARS)
        root_id = x509.SubjectKeyIdentifier.from_public_key(root_key.public_key())
        root = (
            x509.CertificateBuilder(root_name, root_name, root_key.public_key(), x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(certificates=True), critical=True)
            .add_extension(root_id, critical=False)
            .sign(root_key, SHA256())
        )
        key = signer.private_key.public_key()
        leaf = (
            x509.CertificateBuilder(root_name, leaf_name, key, x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_id), critical=False)
            .sign(root_key, SHA256())
        )
        return cls(signer, CertificateChain((leaf, root)))

    def respond(self, request: bytes, *, at: datetime) -> bytes:
        """The DER TimeStampResp to a DER TimeStampReq: a token, or a rejection that says why (section 2.4.2)."""
        try:
            asked = tsp.TimeStampReq.load(request, strict=True)
            imprint = asked["message_imprint"]
            algorithm, digest = imprint["hash_algorithm"]["algorithm"].native, imprint["hashed_message"].native
            nonce, policy = asked["nonce"].native, asked["req_policy"].native
            wants_certificate = bool(asked["cert_req"].native)
        except (ValueError, TypeError):
            return _rejection("bad_data_format")
        if len(digest) != _DIGEST_BYTES.get(algorithm):
            return _rejection("bad_alg")
        if policy not in (None, POLICY):
            return _rejection("unaccepted_policy")
        info = tsp.TSTInfo(
            {
                "version": "v1",
                "policy": POLICY,
                "message_imprint": imprint,
                "serial_number": secrets.randbits(63) + 1,
                "gen_time": at,
                "accuracy": tsp.Accuracy({"seconds": 1}),
                **({"nonce": nonce} if nonce is not None else {}),
            }
        )
        signed = self._sign(info.dump(), at)
        if wants_certificate:
            signed["certificates"] = [cms.CertificateChoices.load(self.chain.der[0])]
        token = cms.ContentInfo({"content_type": "signed_data", "content": signed})
        return bytes(tsp.TimeStampResp({"status": {"status": "granted"}, "time_stamp_token": token}).dump())

    def _sign(self, info: bytes, at: datetime) -> cms.SignedData:
        leaf = asn1_x509.Certificate.load(self.chain.der[0])
        sha256_algorithm = algos.DigestAlgorithm({"algorithm": "sha256"})
        certificate_id = tsp.ESSCertIDv2({"cert_hash": sha256(self.chain.der[0]).digest()})
        attributes = cms.CMSAttributes(
            [
                cms.CMSAttribute({"type": "content_type", "values": ["tst_info"]}),
                cms.CMSAttribute({"type": "signing_time", "values": [cms.Time({"utc_time": at})]}),
                cms.CMSAttribute({"type": "message_digest", "values": [sha256(info).digest()]}),
                cms.CMSAttribute(
                    {
                        "type": "signing_certificate_v2",
                        "values": [tsp.SigningCertificateV2({"certs": [certificate_id]})],
                    }
                ),
            ]
        )
        signer = cms.SignerInfo(
            {
                "version": "v1",
                "sid": cms.SignerIdentifier(
                    {
                        "issuer_and_serial_number": cms.IssuerAndSerialNumber(
                            {"issuer": leaf.issuer, "serial_number": leaf.serial_number}
                        )
                    }
                ),
                "digest_algorithm": sha256_algorithm,
                "signed_attrs": attributes,
                "signature_algorithm": algos.SignedDigestAlgorithm({"algorithm": "sha256_ecdsa"}),
                "signature": self.signer.sign(attributes.untag().dump()),
            }
        )
        return cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [sha256_algorithm],
                "encap_content_info": {"content_type": "tst_info", "content": core.ParsableOctetString(info)},
                "signer_infos": [signer],
            }
        )


class _Rejection(core.Sequence):  # type: ignore[misc]  # asn1crypto ships no types
    """A TimeStampResp without a token, which asn1crypto's own class does not allow."""

    _fields: ClassVar = [("status", tsp.PKIStatusInfo)]


def _rejection(why: str) -> bytes:
    status = tsp.PKIStatusInfo({"status": "rejection", "fail_info": {why}})
    return bytes(_Rejection({"status": status}).dump())


def _key_usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
