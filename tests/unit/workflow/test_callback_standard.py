import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mbd.errors import SettingsError
from mbd.records.webhooks import Delivery, Webhook
from mbd.workflow.callbacks.standard import NAME, StandardWebhooks, sign
from mbd.workflow.identities import Identities

# Of Svix, from where the specification comes: its manual's example of v1, and its server's test of v1a.
PUBLISHED = "whsec_plJ3nmyCDGBKInavdOK15jsl"
PUBLISHED_SEED = "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc="

AT = datetime.fromtimestamp(1731705121, UTC)
IDENTITIES = Identities(b"i" * 32)
FORMAT = StandardWebhooks(IDENTITIES)
BODY = '{"event_type":"ping","data":{"success":true}}'
DELIVERY = Delivery("msg_loFOjxBNrRLzqYUf", "wh_1", BODY, AT, 1, AT, None, None)


def webhook(webhook_id: str) -> Webhook:
    sealed = IDENTITIES.seal(PUBLISHED.encode(), "call-back secret wh_1")
    return Webhook(webhook_id, "key-1", "https://hooks.example.com/", NAME, AT, sealed)


@pytest.mark.parametrize(
    ("message_id", "body", "seconds", "signature"),
    [
        ("msg_loFOjxBNrRLzqYUf", BODY, 1731705121, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0="),
        (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            '{"test": 2432232314}',
            1614265330,
            "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg==",
        ),
    ],
)
def test_published_messages_have_the_published_signatures(message_id, body, seconds, signature):
    key = Ed25519PrivateKey.from_private_bytes(base64.b64decode(PUBLISHED_SEED))
    both = sign(message_id, body, datetime.fromtimestamp(seconds, UTC), secret=PUBLISHED, key=key).split(" ")
    assert [each.partition(",")[0] for each in both] == ["v1", "v1a"]
    assert signature in both


def test_a_message_is_signed_as_ever():
    """Receivers keep the public key: how it follows from the deployment's secret never changes."""
    message = FORMAT.message(webhook("wh_1"), DELIVERY, at=AT)
    assert message.body == BODY.encode()
    assert message.headers == {
        "content-type": "application/json",
        "webhook-id": "msg_loFOjxBNrRLzqYUf",
        "webhook-timestamp": "1731705121",
        "webhook-signature": "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0= "
        "v1a,fioT9QDG+XjVKba+jiP2FiHhO2KpraFYyvuktNIHa0PNx1qVhmS+M0u5PeYBCVS+UXd9TKDJh+4y9sIeKNhzDA==",
    }
    assert FORMAT.public_key == "whpk_Q5yhFv2mN5YactCVys+gbvwh/96lwRLLsar8uYBA8B0="


def test_a_secret_signs_for_its_own_endpoint_alone():
    with pytest.raises(SettingsError, match="does not open"):
        FORMAT.message(webhook("wh_2"), DELIVERY, at=AT)
