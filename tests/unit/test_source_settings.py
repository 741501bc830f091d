"""`[sources.*]`: what follows from a connector, where secrets may stand, and what stops the start."""

from pathlib import Path

import pytest

from app.connectors.registry import MAKERS, make_connector
from app.connectors.source_settings import CONNECTORS, SourceSettings
from app.connectors.standard import Standard
from app.domain.errors import StartupError
from app.domain.updates import SourcePriority, UpdateKind
from app.settings import Settings, load_settings
from tests.webhooks import OLD_SECRET, SECRET

CANARY = "c4n4ry"
SIGNED = f'secrets = ["{SECRET}"]'
POLLED = f'connector = "rest"\n[sources.p.poll]\nurl = "http://h/stock"\ntoken = "{CANARY}"\n%s'


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "lastunit.toml"


def load(toml: Path, text: str) -> Settings:
    toml.write_text(text)
    return load_settings(config=toml)


def source(toml: Path, text: str, name: str = "wms") -> SourceSettings:
    return load(toml, text).sources[name]


def test_every_connector_can_be_made() -> None:
    assert MAKERS.keys() == CONNECTORS.keys()


@pytest.mark.parametrize(
    ("name", "priority", "deduct_on"),
    [
        ("wms", SourcePriority.WAREHOUSE, UpdateKind.SHIP),
        ("erp", SourcePriority.PARTNER, UpdateKind.SHIP),
        ("pos", SourcePriority.PARTNER, UpdateKind.SALE),
    ],
)
def test_what_follows_from_the_connector(
    toml: Path, name: str, priority: SourcePriority, deduct_on: UpdateKind
) -> None:
    for table in (f"[sources.{name}]", f'[sources.other]\nconnector = "{name}"'):
        (found,) = load(toml, f"{table}\n{SIGNED}").sources.values()
        assert (found.connector, found.priority, found.deduct_on) == (name, priority, deduct_on)
        assert (found.channel, found.default_location, found.unknown_sku) == ("direct", "main", "dead_letter")
        assert (found.silent_after_seconds, found.locations, found.skus, found.poll) == (None, None, None, None)
        assert isinstance(make_connector(name, found), Standard)


def test_what_the_table_says(toml: Path) -> None:
    found = source(
        toml,
        f"""
        [sources.wms]
        {SIGNED}
        priority = "marketplace"
        deduct_on = "pick"
        channel = "shop"
        default_location = "WEST"
        unknown_sku = "create"
        silent_after_seconds = 3600
        [sources.wms.locations]
        "E1" = "EAST"
        [sources.wms.skus]
        "2718" = "Cafe\u0301"
        """,
    )
    assert (found.priority, found.deduct_on, found.channel) == (SourcePriority.MARKETPLACE, UpdateKind.PICK, "shop")
    assert (found.default_location, found.unknown_sku, found.silent_after_seconds) == ("WEST", "create", 3600)
    assert (found.locations, found.skus) == ({"E1": "EAST"}, {"2718": "Café"})


def test_where_a_source_is_asked(toml: Path) -> None:
    found = source(toml, f"[sources.p]\n{POLLED % 'interval_seconds = 0.1'}", "p").poll
    assert found is not None
    assert (found.url, found.interval_seconds, found.off_peak_interval_seconds) == ("http://h/stock", 0.1, 300)
    assert (found.peak_hours, found.page_size, found.pages_max) == ("00:00-24:00", 1000, 1000)
    assert (found.timeout_seconds, found.backoff_seconds_max) == (10, 60)


def test_secrets_are_written_read_and_shown_nowhere(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEW", OLD_SECRET)
    (tmp_path / "secret").write_text(f"{OLD_SECRET}\n")
    settings = load(
        toml,
        f'[sources.wms]\nsecrets = ["{SECRET}", {{env = "NEW"}}, {{file = "{tmp_path}/secret"}}]\n'
        f"[sources.p]\n{POLLED % ''}",
    )
    secrets = settings.sources["wms"].secrets
    assert [secret.get_secret_value() for secret in secrets] == [SECRET, OLD_SECRET, OLD_SECRET]
    shown = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert SECRET not in shown
    assert OLD_SECRET not in shown
    assert CANARY not in shown
    assert "http://h/stock" not in repr(settings), "a URL may have a password in it"


REFUSED = [
    (f"[sources.wms]\n{SIGNED}\ncolour = '{CANARY}'", "sources.wms.colour"),
    (f"[sources.p]\n{POLLED % f'colour = {CANARY!r}'}", "sources.p.poll.colour"),
    (f"[sources.east]\n{SIGNED}", "sources.east.connector"),
    (f"[sources.wms]\nconnector = '{CANARY}'\n{SIGNED}", "sources.wms.connector"),
    (f"[sources.wms]\nconnector = 5\n{SIGNED}", "sources.wms.connector"),
    ("[sources.wms]", "sources.wms.secrets"),
    ("[sources.wms]\nsecrets = []", "sources.wms.secrets"),
    (f"[sources.wms]\nsecrets = '{CANARY}'", "sources.wms.secrets"),
    (f"[sources.wms]\nsecrets = ['{SECRET}', '{CANARY}!']", "sources.wms.secrets"),
    ("[sources.wms]\nsecrets = ['whsec_AAAAA']", "sources.wms.secrets"),
    ("[sources.wms]\nsecrets = ['whsec_']", "sources.wms.secrets"),
    (f"[sources.wms]\nsecrets = ['{SECRET}', '']", "sources.wms.secrets.1"),
    (f"[sources.wms]\nsecrets = [{{env = '{CANARY}'}}]", "sources.wms.secrets.0"),
    (f"[sources.wms]\nsecrets = [{{file = '/{CANARY}'}}]", "sources.wms.secrets.0"),
    (f"[sources.wms]\nsecrets = [{{env = 'PATH', file = '{CANARY}'}}]", "sources.wms.secrets.0"),
    (f"[sources.wms]\nsecrets = [{{vault = '{CANARY}'}}]", "sources.wms.secrets.0"),
    (f"[sources.wms]\n{SIGNED}\npriority = '{CANARY}'", "sources.wms.priority"),
    (f"[sources.wms]\n{SIGNED}\ndeduct_on = 'return'", "sources.wms.deduct_on"),
    (f"[sources.wms]\n{SIGNED}\nunknown_sku = '{CANARY}'", "sources.wms.unknown_sku"),
    (f"[sources.wms]\n{SIGNED}\nsilent_after_seconds = 0", "sources.wms.silent_after_seconds"),
    (f"[sources.wms]\n{SIGNED}\nchannel = ' {CANARY}'", "sources.wms.channel"),
    (f"[sources.wms]\n{SIGNED}\nlocations = {{E1 = ''}}", "sources.wms.locations.E1"),
    (f"[sources.wms]\n{SIGNED}\nskus = {{'' = 'A'}}", "sources.wms.skus."),
    (f"[sources.wms]\n{SIGNED}\npoll = {{url = 'http://h', token = '{CANARY}'}}", "sources.wms.poll"),
    ("[sources.p]\nconnector = 'rest'", "sources.p.poll"),
    ("[sources.p]\nconnector = 'rest'\npoll = {url = 'http://h'}", "sources.p.poll.token"),
    (f"[sources.p]\n{POLLED % 'interval_seconds = 0.05'}", "sources.p.poll.interval_seconds"),
    (f"[sources.p]\n{POLLED % 'interval_seconds = true'}", "sources.p.poll.interval_seconds"),
    (f"[sources.p]\n{POLLED % f'peak_hours = {CANARY!r}'}", "sources.p.poll.peak_hours"),
    (f"[sources.p]\n{POLLED % 'page_size = 0'}", "sources.p.poll.page_size"),
    (f"[sources.p]\nconnector = 'rest'\npoll = {{url = 'ftp://{CANARY}', token = 't'}}", "sources.p.poll.url"),
    *(
        (f"[sources.{name}]\nconnector = 'wms'\n{SIGNED}", f"sources.{name.strip(chr(39))}")
        for name in ("adjustment", "import", "operator", "lastunit", "Wms", "-wms", "w" * 65, "'w ms'")
    ),
    (f"sources = '{CANARY}'", "sources"),
    (f"[sources]\nwms = '{CANARY}'", "sources.wms"),
]


@pytest.mark.parametrize(("text", "key"), REFUSED)
def test_the_start_is_stopped_with_file_and_key(toml: Path, text: str, key: str) -> None:
    with pytest.raises(StartupError) as refused:
        load(toml, text)
    sentence = str(refused.value)
    assert sentence.startswith(f"{toml}: key '{key}': ")
    assert CANARY not in sentence.removeprefix(f"{toml}")
    assert SECRET not in sentence


def test_an_environment_that_is_no_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTUNIT_SOURCES", f'{{"{CANARY}"')
    with pytest.raises(StartupError, match=r"^environment variable LASTUNIT_SOURCES: must be a JSON object\.$"):
        load_settings()
    monkeypatch.setenv("LASTUNIT_SOURCES", '{"wms": {"secrets": [5]}}')
    with pytest.raises(StartupError, match=r"^environment variable LASTUNIT_SOURCES, key 'wms\.secrets\.0': "):
        load_settings()
