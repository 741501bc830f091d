"""Systems outside that send: their tables in lastunit.toml, and how they sign, by the specification alone."""

import base64
import hmac
import itertools
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.gateway import JSON, Answer, Gateway

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # the specification's own example
OLD_SECRET = "whsec_" + base64.b64encode(b"the one before, in use still").decode()
SOURCES: dict[str, Any] = {
    "wms": {"secrets": [SECRET, OLD_SECRET]},
    "erp": {
        "secrets": [SECRET],
        "locations": {"E1": "EAST"},
        "skus": {"271878346596884015": "OUR-OWN"},
        "default_location": "WEST",
        "channel": "outlet",
        "unknown_sku": "create",
    },
    "pos": {"secrets": [SECRET], "unknown_sku": "create"},
    "shop": {"connector": "erp", "secrets": [SECRET]},
    "robot": {"connector": "wms", "secrets": [SECRET], "unknown_sku": "create"},
}
TIME = "2026-11-21T10:00:00Z"
numbers = itertools.count(1)


def signature(secret: str, delivery_id: str, timestamp: str, content: bytes) -> str:
    """As Standard Webhooks has it: HMAC-SHA256 over id, time and body."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = b".".join((delivery_id.encode(), timestamp.encode(), content))
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def signed_headers(
    content: bytes, *, delivery_id: str | None = None, secret: str = SECRET, age_seconds: int = 0
) -> dict[str, str]:
    """What goes with these bytes; the delivery has an id of its own, or this one."""
    delivery_id = delivery_id or f"msg_{next(numbers)}"
    timestamp = str(int(time.time()) - age_seconds)
    return {
        "content-type": JSON,
        "webhook-id": delivery_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(secret, delivery_id, timestamp, content),
    }


def said(kind: str, *lines: tuple[str, int], **fields: object) -> dict[str, Any]:
    """A delivery of this type about these SKUs and quantities."""
    rows = [{"sku": sku, "quantity": quantity} for sku, quantity in lines]
    return {"type": kind, "occurred_at": TIME, "location_id": "WH1", "lines": rows, **fields}


def deliver(
    gateway: Gateway,
    source: str,
    body: Mapping[str, object] | bytes,
    *,
    delivery_id: str | None = None,
    secret: str = SECRET,
    age_seconds: int = 0,
    **changed: str | None,
) -> Answer:
    """Sends it, signed; `changed` headers are sent as they are here, or not at all."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = signed_headers(content, delivery_id=delivery_id, secret=secret, age_seconds=age_seconds)
    for name, text in changed.items():
        headers.pop(name.replace("_", "-"))
        if text is not None:
            headers[name.replace("_", "-")] = text
    return gateway.send("POST", f"webhooks/{source}", content, headers.items())
