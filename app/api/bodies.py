"""How much of requests' bodies this process holds, of all requests together. It is bounded: memory is not, else."""

from starlette.types import Scope

from app.api.problems import Problem

BYTES_MAX = 64 * 1024 * 1024
HELD = "body_bytes_held"  # in a request's scope


class Bodies:
    """Counts what has been read of bodies until their requests are answered. What is only announced takes no room."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self.held_bytes = 0
        self._bytes_max = bytes_max

    def take(self, scope: Scope, size: int) -> None:
        """So many bytes more are held for a request; a problem where there is no room for them."""
        if self.held_bytes + size > self._bytes_max:
            raise Problem(
                "busy",
                "Too many bodies are on their way at once. Nothing happened; come back later.",
                headers=((b"connection", b"close"),),
            )
        self.held_bytes += size
        scope[HELD] = scope.get(HELD, 0) + size

    def give_back(self, scope: Scope) -> None:
        """The request is over."""
        self.held_bytes -= scope.pop(HELD, 0)
