"""Files of keys."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def key_row(key: str, key_id: str, *scopes: str, **more: str) -> dict[str, Any]:
    """A row of the file; an agent's key, where nothing else is said."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return {"id": key_id, "sha256": digest, "scopes": [*scopes] or ["agent"], **more}


def write_keys(path: Path, *rows: dict[str, Any]) -> None:
    """In one step, as a careful person does it."""
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(json.dumps({"keys": rows}))
    os.replace(draft, path)  # noqa: PTH105 - likewise
