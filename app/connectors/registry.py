"""Makes a source's connector. A new one is its module, its row here, and its row in app.connectors.source_settings."""

from collections.abc import Callable, Mapping

from app.connectors.connector import Hook, Poll
from app.connectors.rest import Rest
from app.connectors.source_settings import SourceSettings
from app.connectors.standard import Standard

Connector = Hook | Poll


def make_connector(source: str, settings: SourceSettings) -> Connector:
    """The connector of the source with this name; what settings have passed makes one."""
    return MAKERS[settings.connector](source, settings)


def _make_standard(_: str, settings: SourceSettings) -> Connector:
    return Standard([secret.get_secret_value() for secret in settings.secrets])


def _make_rest(source: str, settings: SourceSettings) -> Connector:
    assert settings.poll is not None
    return Rest(source, settings.poll)


MAKERS: Mapping[str, Callable[[str, SourceSettings], Connector]] = {
    "wms": _make_standard,
    "erp": _make_standard,
    "pos": _make_standard,
    "rest": _make_rest,
}
