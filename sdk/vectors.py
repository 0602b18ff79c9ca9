#!/usr/bin/env python3
"""Prints sdk/vectors.json: what every implementation of our signatures has to agree on.

The signatures are made here, with Python's own hmac, so that neither the gateway nor an SDK is
tested against itself. After a change: python3 sdk/vectors.py > sdk/vectors.json
"""

import base64
import hashlib
import hmac
import json

ID = "evt_01jd3a0000000000000000000a"
NOW = 1795407600
LARGEST = 256 * 1024

ABOUT = [
    "Made by sdk/vectors.py; do not edit.",
    "bodies: text is UTF-8; base64 is bytes; repeat is the middle, as often as it says, between start and end.",
    "sign: the secrets, the newest first, over a body give the header X-Senderz-Signature (hex), and with id and timestamp the header webhook-signature (standard).",
    "verify: what a receiver with these secrets says of a signature. Times are seconds; now and the tolerance (300) are as given at the top where an entry has none.",
    "strict: true where the signature would fit if the header were read less strictly.",
]


def secret(name, length):
    key = b"".join(hashlib.sha256(f"{name} {i}".encode()).digest() for i in range(2))[:length]
    return "whsec_" + base64.b64encode(key).decode()


# A whole string of more than 64 bytes is hashed before it is a key; 64 decoded bytes just are not.
SECRETS = {
    "new": secret("new", 32),
    "old": secret("old", 32),
    "older": secret("older", 32),
    "shortest": secret("shortest", 24),
    "longest": secret("longest", 64),
}

EVENT = (
    '{"type":"message.failed","timestamp":"2026-11-23T04:20:00.123Z","data":{"id":"msg_01J","channel":"sms",'
    '"recipient":"+15555550100","status_reason":"carrier_rejected"}}'
)
START = (
    '{"type":"message.inbound","timestamp":"2026-11-23T04:20:00.123Z","data":{"id":"msg_big","channel":"email",'
    '"recipient":"a@example.com","text":"'
)
END = '"}}'

BODIES = {
    "event": {"text": EVENT},
    "unicode": {
        "text": '{"type":"message.inbound","timestamp":"2026-11-23T04:20:00Z","data":{"id":"msg_ü","channel":"whatsapp",'
        '"recipient":"+15555550100","text":"Grüße, 世界 👩‍👩‍👧‍👦 e\u0301 \u202eשלום\u2028\\u0041\\ud83d\\ude00"}}'
    },
    "empty": {"text": ""},
    "binary": {"base64": base64.b64encode(bytes(range(256))).decode()},
    "zeros": {"base64": base64.b64encode(bytes(65)).decode()},
    "invalid_utf8": {"base64": base64.b64encode(b'{"a":"\xff\xc3\x28\xed\xa0\x80"}').decode()},
    "byte_order_mark": {"text": "\ufeff" + EVENT},
    "newline": {"text": EVENT + "\n"},
    "reserialised": {"text": json.dumps(json.loads(EVENT))},
    "other_case": {"text": EVENT.replace("msg_01J", "msg_01j")},
    "largest": {"repeat": "a", "times": LARGEST - len(START) - len(END), "start": START, "end": END},
    # Around the edges of SHA-256's blocks, where the padding has to go into one more.
    **{f"length_{n}": {"repeat": "x", "times": n} for n in (1, 54, 55, 56, 63, 64, 65, 119, 120, 128)},
}


def body(name):
    made = BODIES[name]
    if "base64" in made:
        return base64.b64decode(made["base64"])
    if "repeat" in made:
        return (made.get("start", "") + made["repeat"] * made["times"] + made.get("end", "")).encode()
    return made["text"].encode()


def hex_of(secret_name, body_name):
    return hmac.new(SECRETS[secret_name].encode(), body(body_name), hashlib.sha256).hexdigest()


def standard_of(secret_name, body_name, id=ID, timestamp=NOW):
    key = base64.b64decode(SECRETS[secret_name].removeprefix("whsec_"))
    content = f"{id}.{timestamp}.".encode() + body(body_name)
    return "v1," + base64.b64encode(hmac.digest(key, content, "sha256")).decode()


def signed():
    cases = [(name, ["new"]) for name in BODIES]
    cases += [("event", secrets) for secrets in (["shortest"], ["longest"], ["new", "old"], list(SECRETS))]
    for body_name, secrets in cases:
        yield {
            "name": f"{body_name} by {' '.join(secrets)}",
            "body": body_name,
            "secrets": secrets,
            "id": ID,
            "timestamp": NOW,
            "hex": ",".join(hex_of(s, body_name) for s in secrets),
            "standard": " ".join(standard_of(s, body_name) for s in secrets),
        }


def hex_case(name, signature, expect, body="event", secrets=("new",), strict=False):
    case = {"name": name, "scheme": "hex", "secrets": list(secrets), "body": body, "signature": signature}
    return case | {"expect": expect} | ({"strict": True} if strict else {})


def hex_cases():
    new, old = hex_of("new", "event"), hex_of("old", "event")
    zeros = "0" * 64
    for one in signed():
        for name in one["secrets"]:
            yield hex_case(f"{one['name']}, receiver has {name}", one["hex"], "valid", one["body"], [name])
    yield hex_case("the receiver has the new secret and the old one", old, "valid", secrets=["new", "old"])
    yield hex_case("overlap on both sides", f"{new},{old}", "valid", secrets=["old", "older"])
    yield hex_case("sixteen signatures, the last fits", ",".join([zeros] * 15 + [new]), "valid")
    mismatch = "signature_mismatch"
    yield hex_case("another tenant's secret", hex_of("older", "event"), mismatch)
    yield hex_case("neither of two secrets", hex_of("older", "event"), mismatch, secrets=["new", "old"])
    yield hex_case("a letter of the body differs", new, mismatch, "other_case")
    yield hex_case("the body was parsed and written again", new, mismatch, "reserialised")
    yield hex_case("the body got a line end", new, mismatch, "newline")
    yield hex_case("the body got a byte order mark", new, mismatch, "byte_order_mark")
    yield hex_case("the body is gone", new, mismatch, "empty")
    yield hex_case("the first digit differs", ("0" if new[0] != "0" else "1") + new[1:], mismatch)
    yield hex_case("the last digit differs", new[:-1] + ("0" if new[-1] != "0" else "1"), mismatch)
    yield hex_case("all zeros", zeros, mismatch)
    key = base64.b64decode(SECRETS["new"].removeprefix("whsec_"))
    decoded = hmac.new(key, body("event"), hashlib.sha256).hexdigest()
    yield hex_case("keyed with the decoded secret", decoded, mismatch)
    stripped = hmac.new(SECRETS["new"].removeprefix("whsec_").encode(), body("event"), hashlib.sha256).hexdigest()
    yield hex_case("keyed without whsec_", stripped, mismatch)
    plain = hashlib.sha256(body("event")).hexdigest()
    yield hex_case("a plain SHA-256", plain, mismatch)
    yield hex_case("an empty header", "", "empty_signature")
    malformed = "malformed_signature"
    yield hex_case("63 digits", new[:-1], malformed)
    yield hex_case("65 digits", new + "0", malformed)
    yield hex_case("half a signature", new[:32], malformed)
    yield hex_case("base64 instead of hex", standard_of("new", "event").removeprefix("v1,"), malformed)
    yield hex_case("with a scheme's name", f"sha256={new}", malformed)
    yield hex_case("not ASCII", "é" * 32, malformed)
    yield hex_case("digits of another script", "٠" * 64, malformed)
    yield hex_case("another separator", f"{old};{new}", malformed)
    yield hex_case("upper case", new.upper(), malformed, strict=True)
    yield hex_case("a space after the comma", f"{old}, {new}", malformed, strict=True)
    yield hex_case("a space behind", f"{new} ", malformed, strict=True)
    yield hex_case("a space before", f" {new}", malformed, strict=True)
    yield hex_case("a comma behind", f"{new},", malformed, strict=True)
    yield hex_case("a comma before", f",{new}", malformed, strict=True)
    yield hex_case("a word beside it", f"{new},none", malformed, strict=True)
    yield hex_case("seventeen signatures", ",".join([zeros] * 16 + [new]), "too_many_signatures", strict=True)


def standard_case(name, signature, expect, body="event", secrets=("new",), strict=False, **more):
    case = {"name": name, "scheme": "standard", "secrets": list(secrets), "body": body}
    case |= {"id": more.pop("id", ID), "timestamp": str(more.pop("timestamp", NOW)), "signature": signature}
    return case | more | {"expect": expect} | ({"strict": True} if strict else {})


def other_base64(signature):
    """The same bytes in another spelling: the last digit carries bits that count for nothing."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return signature[:-2] + digits[digits.index(signature[-2]) + 1] + "="


def standard_cases():
    new, old = standard_of("new", "event"), standard_of("old", "event")
    zeros = "v1," + base64.b64encode(bytes(32)).decode()
    for one in signed():
        for name in one["secrets"]:
            yield standard_case(f"{one['name']}, receiver has {name}", one["standard"], "valid", one["body"], [name])
    yield standard_case("the receiver has the new secret and the old one", old, "valid", secrets=["new", "old"])
    yield standard_case("sixteen signatures, the last fits", " ".join([zeros] * 15 + [new]), "valid")
    yield standard_case("another version beside it", f"v1a,c29tZXRoaW5n {new}", "valid")
    yield standard_case("as old as it may be", new, "valid", now=NOW + 300)
    yield standard_case("as new as it may be", new, "valid", now=NOW - 300)
    yield standard_case("no tolerance, the same second", new, "valid", tolerance=0)
    yield standard_case("a smaller tolerance", new, "timestamp_too_old", now=NOW + 11, tolerance=10)
    yield standard_case("a larger tolerance", new, "valid", now=NOW + 3600, tolerance=3600)
    yield standard_case("a second too old", new, "timestamp_too_old", now=NOW + 301)
    yield standard_case("a second too new", new, "timestamp_too_new", now=NOW - 301)
    yield standard_case("a day old", new, "timestamp_too_old", now=NOW + 86_400)
    yield standard_case("milliseconds", new, "timestamp_too_new", timestamp=NOW * 1000)
    yield standard_case("as many digits as there may be", new, "timestamp_too_new", timestamp="9" * 19)
    yield standard_case("the beginning of time", new, "timestamp_too_old", timestamp="0")
    mismatch = "signature_mismatch"
    yield standard_case("another tenant's secret", standard_of("older", "event"), mismatch)
    yield standard_case("a letter of the body differs", new, mismatch, "other_case")
    yield standard_case("the body was parsed and written again", new, mismatch, "reserialised")
    yield standard_case("another id", new, mismatch, id=ID[:-1] + "b")
    yield standard_case("no id", new, mismatch, id="")
    yield standard_case("another second", new, mismatch, timestamp=NOW + 1)
    yield standard_case("another spelling of the second", new, mismatch, timestamp=f"0{NOW}", strict=True)
    yield standard_case("only another version", "v2," + new.removeprefix("v1,"), mismatch)
    whole = hmac.digest(SECRETS["new"].encode(), f"{ID}.{NOW}.{EVENT}".encode(), "sha256")
    yield standard_case("keyed with the whole secret", "v1," + base64.b64encode(whole).decode(), mismatch)
    yield standard_case("an empty header", "", "empty_signature")
    malformed = "malformed_signature"
    yield standard_case("no version", new.removeprefix("v1,"), malformed)
    yield standard_case("an empty version", new.removeprefix("v1"), malformed)
    yield standard_case("no signature", "v1,", malformed)
    yield standard_case("another version without a signature", f"v2, {new}", malformed, strict=True)
    yield standard_case("hex instead of base64", "v1," + hex_of("new", "event"), malformed)
    yield standard_case("31 bytes", "v1," + base64.b64encode(bytes(31)).decode(), malformed)
    yield standard_case("33 bytes", "v1," + base64.b64encode(bytes(33)).decode(), malformed)
    yield standard_case("no padding", new.rstrip("="), malformed, strict=True)
    yield standard_case("stray bits", other_base64(new), malformed, strict=True)
    yield standard_case("two spaces", f"{old}  {new}", malformed, strict=True)
    yield standard_case("commas instead of spaces", f"{old},{new}", malformed)
    yield standard_case("seventeen signatures", " ".join([zeros] * 16 + [new]), "too_many_signatures", strict=True)
    for timestamp in ("", "+1795407600", "-1", "1795407600.0", "0x6b03d2f0", "1e9", " 1795407600", "now", "9" * 20, f"{NOW:020}"):
        yield standard_case(f"timestamp {timestamp!r}", new, "malformed_timestamp", timestamp=timestamp, strict=True)


def main():
    print(
        json.dumps(
            {
                "about": ABOUT,
                "now": NOW,
                "tolerance": 300,
                "secrets": SECRETS,
                "bodies": BODIES,
                "sign": list(signed()),
                "verify": [*hex_cases(), *standard_cases()],
            },
            indent=1,
        )
    )


main()
