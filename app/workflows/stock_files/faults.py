"""How stock files say what is wrong with them, and how they name a policy."""

from collections.abc import Mapping

import msgspec

from app.domain.errors import LastunitError


class StockFileError(LastunitError):
    """A file that cannot be imported: one sentence, which quotes nothing of it.

    `where` names the line and the column; it is empty where the whole file is meant.
    """

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where
        self.message = message


def encode_policy(fields: Mapping[str, str]) -> str:
    """What the ledger keeps of a policy that was set, and a StockRow has."""
    return msgspec.json.encode({"policy": fields}).decode()


def decode_policy(text: str) -> dict[str, str]:
    """The fields that a StockRow names."""
    return msgspec.json.decode(text, type=dict[str, dict[str, str]])["policy"] if text else {}
