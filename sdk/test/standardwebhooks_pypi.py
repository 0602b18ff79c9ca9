"""Asks the published package about deliveries: a list of {headers, body, secret} on stdin, a list of
verdicts on stdout. Any other error than its own ends the program."""

import base64
import json
import sys

from standardwebhooks import Webhook, WebhookVerificationError


def accepts(one):
    try:
        Webhook(one["secret"]).verify(base64.b64decode(one["body"]), one["headers"])
    except WebhookVerificationError:
        return False
    return True


print(json.dumps([accepts(one) for one in json.load(sys.stdin)]))
