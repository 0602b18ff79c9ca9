"""Asks a receiver made with a framework about deliveries, by the framework's own client: a secret, a
header and a body a line on stdin, the last two in base64; a verdict a line on stdout. Whatever the
receiver makes of a body that it takes, the verdict is whether it took it."""

import base64
import contextlib
import sys

import receiver


def ask_fastapi():
    from fastapi.testclient import TestClient

    client = TestClient(receiver.app, raise_server_exceptions=False)

    def ask(header, body):
        headers = [(b"x-senderz-signature", header)]
        return client.post("/hook", content=body, headers=headers).status_code

    return ask


def ask_flask():
    client = receiver.app.test_client()

    def ask(header, body):
        headers = {"X-Senderz-Signature": header.decode("latin-1")}
        return client.post("/hook", data=body, headers=headers).status_code

    return ask


ask = {"fastapi": ask_fastapi, "flask": ask_flask}[sys.argv[1]]()
verdicts = []
for line in sys.stdin:
    receiver.SECRET, header, body = line.rstrip("\n").split("\t")
    # What the receiver prints is not asked for.
    with contextlib.redirect_stdout(sys.stderr):
        status = ask(base64.b64decode(header), base64.b64decode(body))
    verdicts.append(str(status != 401).lower())
print("\n".join(verdicts))
