"""What a schema cannot say: what there is to ask for, which URLs lead nowhere, how lines are sent."""

import json
import os

import schemathesis
from schemathesis.core import NOT_SET
from schemathesis.core.parameters import ParameterLocation as Place

TENANT = "acme"
# What `run` has made, by the path and then by what is to be done with it.
MADE = json.loads(os.environ["OPENAPI_MADE"])
# Nobody listens on it: attempts fail at once and never leave this machine.
NOWHERE = os.environ["OPENAPI_NOWHERE"]


@schemathesis.serializer("application/x-ndjson", "application/ndjson")
def lines(_, value):
    if isinstance(value, bytes):
        return value
    items = value if isinstance(value, list) else [value]
    return "\n".join(json.dumps(item) for item in items).encode()


@schemathesis.hook
def before_call(context, case, kwargs):
    method, path = case.operation.method.upper(), case.operation.path
    if (method, path) == ("DELETE", "/v1/tenants/{id}") and case.path_parameters["id"] == TENANT:
        case.path_parameters["id"] = "nobody"
    if is_right(case, Place.HEADER):
        case.headers["Senderz-Tenant"] = TENANT
    if is_right(case, Place.PATH):
        if "{id}" in path:
            case.path_parameters["id"] = existing(method, path, case.path_parameters["id"])
        if "{tenant}" in path:
            case.path_parameters["tenant"] = TENANT
    if is_right(case, Place.QUERY) and case.query:
        case.query.update(answerable(case.query))
        # No string is right but the one that the page before gave.
        case.query.pop("cursor", None)
    if case.operation.body and case.body is NOT_SET:
        # Schemathesis judges a case that was changed anew, and takes a body that may be left out and
        # is for a mistake.
        case.body = {}
    elif is_right(case, Place.BODY):
        case.body = possible(path, case.body)


def is_right(case, place):
    """What is wrong stays so: a mended mistake would count as one that was let pass."""
    made = case.meta.components.get(place)
    return made is None or made.mode.is_positive


def existing(method, path, value):
    """Of an object that there is. A value says by itself which, so that runs are the same."""
    made = MADE[path.split("/")[2]]["doomed" if method == "DELETE" else "kept"]
    return made[sum(str(value).encode()) % len(made)]


def answerable(query):
    if "recipient" in query:
        # Not the one of the events that are kept; and the limit is of bytes.
        yield "recipient", "nobody"
    if "webhook" in query:
        yield "webhook", MADE["webhooks"]["kept"][0]
    since, until = query.get("since"), query.get("until")
    if min(since or "1970", until or "1970") < "1970" or since and until and since > until:
        yield from ((name, "2026-11-23T04:20:00+01:00") for name in ("since", "until") if name in query)


def possible(path, body):
    """With the tenant that there is, and within the limits that a schema cannot say."""
    if path == "/v1/events" and isinstance(body, list):
        return [{**line, "tenant": TENANT, "payload": within_bytes(line["payload"])} for line in body]
    if path == "/v1/tenants/{tenant}/events":
        return within_bytes(body)
    if path.startswith("/v1/webhooks") and isinstance(body, dict):
        return {**body, **dict(within_webhook(body))}
    if path == "/v1/replays" and isinstance(body, dict):
        said = {name: value for name, value in body.items() if value is not None}
        return {**body, **dict(answerable(said))}
    if path == "/v1/backups" and isinstance(body, dict):
        # As fast as it goes: there is one at a time.
        return {**body, "rate": None}
    if path == "/v1/signing-secret/rotate" and isinstance(body, dict) and body.get("overlap"):
        return {"overlap": "1m"}
    # … and so do links.
    if path == "/v1/portal/sessions" and isinstance(body, dict) and body.get("expires_in"):
        return {"expires_in": "5m"}
    if path == "/v1/keys" and isinstance(body, dict) and isinstance(body.get("tenant"), str):
        return {**body, "tenant": TENANT}
    return body


def within_webhook(body):
    if isinstance(body.get("url"), str):
        yield "url", NOWHERE
    if isinstance(body.get("timeout"), str):
        yield "timeout", "500ms"
    if isinstance(body.get("headers"), dict):
        # All of them together have as much as one may have alone, and case makes no other name.
        headers = {name.lower()[:50]: value and value[:50].strip() for name, value in body["headers"].items()}
        yield "headers", headers


def within_bytes(payload):
    """The limits are of bytes; a schema knows characters only, of up to four bytes."""

    def shorter(value):
        return value[: max(1, len(value) // 4)] if isinstance(value, str) and not value.isascii() else value

    return {**payload, "data": {name: shorter(value) for name, value in payload["data"].items()}}
