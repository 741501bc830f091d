"""The gate that the settings ask for."""

from app.access.gate import Gate, make_gate
from app.settings import Settings


def gate_of(settings: Settings) -> Gate | None:
    """None where everybody may come in; raises StartupError where keys cannot be read."""
    return make_gate(
        keys_file=settings.api_keys_file,
        jwks=settings.jwt_jwks,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
