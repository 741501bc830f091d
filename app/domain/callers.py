"""Who calls and what they may: scopes, the agent that a key is bound to, and whose reservations it is good for."""

from dataclasses import dataclass
from typing import Literal

AGENT, READER, OPERATOR = "agent", "reader", "operator"
WEBHOOK = "webhook:"  # before the name of a source


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose a reservation must be: an agent's, or of whoever holds the key that it was reserved with."""

    kind: Literal["agent", "holder"]
    owner: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever holds a key. Bound to an agent, the key is good for that agent alone."""

    holder: str
    scopes: frozenset[str]
    agent_id: str | None = None

    @property
    def claim(self) -> Claim | None:
        """Whose reservations it may change: None for anybody's."""
        if OPERATOR in self.scopes:
            return None
        return Claim("holder", self.holder) if self.agent_id is None else Claim("agent", self.agent_id)

    def account_for(self, agent_id: str) -> str:
        """Under which name counts what it holds for an agent.

        The agent's, where the key is bound to it or is an operator's; else its own, for it may name any agent.
        """
        is_believed = self.agent_id is not None or not self.holder or OPERATOR in self.scopes
        return f"agent:{agent_id}" if is_believed else f"holder:{self.holder}"

    @property
    def claim_to_read(self) -> Claim | None:
        """Whose reservations it may see: a reader sees the ledger, and so anybody's."""
        return None if READER in self.scopes else self.claim


# Of a service without keys, where everybody may do everything; and whoever shows no key that is good.
OPEN = Caller("", frozenset({AGENT, READER, OPERATOR}))
NOBODY = Caller("", frozenset())
