"""Pages of a list: how long one is, and the cursor that says where the next begins.

A cursor is the key of the last row of a page, opaque outside. One that was changed is refused, or begins elsewhere.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, Field

from app.api.problems import invalid

LIMIT_DEFAULT = 50
LIMIT_MAX = 1000
CURSOR_CHARACTERS_MAX = 2048

# The parts of a key. No database takes an integer of any size, or a NUL in text.
Number = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Text = Annotated[str, msgspec.Meta(max_length=512, pattern="^[^\\x00]*$")]

Row = TypeVar("Row")
Key = TypeVar("Key", bound=tuple[Any, ...])


class PageQuestion(BaseModel):
    """What every list takes; an unknown parameter is refused, for a misspelt filter would filter nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=LIMIT_MAX)] = LIMIT_DEFAULT
    cursor: Annotated[str, Field(min_length=1, max_length=CURSOR_CHARACTERS_MAX)] | None = None

    @property
    def rows_wanted(self) -> int:
        """One row more than are shown says whether there is another page."""
        return self.limit + 1

    def after(self, shape: type[Key]) -> Key | None:
        """The key in the cursor, None without one; a problem where it holds no key of this shape."""
        if self.cursor is None:
            return None
        try:
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            key: Key = msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True), type=shape)
        except (ValueError, msgspec.MsgspecError):
            raise invalid("cursor", "must be a next_cursor of this list as it came") from None
        return key

    def next_cursor(self, rows: Sequence[Row], key: Callable[[Row], tuple[Any, ...]]) -> str | None:
        """Where the page after these rows begins, None where there is none."""
        if len(rows) <= self.limit:
            return None
        return base64.urlsafe_b64encode(msgspec.json.encode(key(rows[self.limit - 1]))).rstrip(b"=").decode()
