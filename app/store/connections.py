"""How every connection to the engine begins, whoever makes it."""

from typing import Any

# RESP2, so without HELLO and the hints for managed engines that redis-py adds to it. It says our name, and not the
# driver's: a user with the least rights may do the one on every engine, the other is unknown to Redis 7.0. Something it
# must say: over TLS 1.3 redis-py takes what comes before the first answer for an answer to somebody else.
BEGINNING: Any = {"protocol": 2, "client_name": "lastunit", "driver_info": None}
