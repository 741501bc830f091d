"""What the environment may say to the service, and what it must not."""

import re
from pathlib import Path

import pytest

from app.domain.errors import StartupError
from app.settings import Settings, load_settings


@pytest.mark.parametrize("name", ["LASTUNIT_ENGINE_WAITING_MAX", "lastunit_engine_waiting_max"])
def test_a_setting_is_taken(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "7")
    assert load_settings().engine_waiting_max == 7


@pytest.mark.parametrize("setting", Settings.model_fields)
def test_a_letter_missing_is_found_and_corrected(monkeypatch: pytest.MonkeyPatch, setting: str) -> None:
    name = f"LASTUNIT_{setting.upper()}"
    monkeypatch.setenv(name[:-1], "secret")
    sentence = f"unknown environment variable {name[:-1]}: remove it or correct its name to {name}."
    with pytest.raises(StartupError, match=f"^{re.escape(sentence)}$"):
        load_settings()


@pytest.mark.parametrize(
    ("urls", "name"),
    [
        ((None,), "archive.sqlite"),
        (
            (
                "redis://db:6379",
                "rediss://user:c4n4ry@db:6379/0",
                "redis://:c4%2Fn4ry@db/?password=c4n4ry",
                "redis://db/0",
            ),
            "archive-db-6379-0.sqlite",
        ),
        (("redis://db:7000/3", "redis://db:7000?db=3", "redis://db:7000/0?timeout=1&db=3"), "archive-db-7000-3.sqlite"),
        (("redis://[::1]:6379/0",), "archive--1-6379-0.sqlite"),
        (("unix:///run/lastunit/s", "unix://user:c4n4ry@/run/lastunit/s?db=0"), "archive-run-lastunit-s-0.sqlite"),
        (("unix:///run/lastunit/s?password=a@b&db=2",), "archive-run-lastunit-s-2.sqlite"),
    ],
)
def test_every_engine_has_an_archive_of_its_own(urls: tuple[str | None, ...], name: str) -> None:
    for url in urls:
        assert Settings(redis_url=url, data_dir=Path("data")).archive_address == f"sqlite:///data/{name}"
        assert Settings(redis_url=url, archive_url="sqlite:///x").archive_address == "sqlite:///x"
        assert Settings(redis_url=url, archive_url="").archive_address is None


@pytest.mark.parametrize("name", ["LASTUNIT_", "LASTUNIT_SERVICE_HOST", "lastunit_zzz"])
def test_a_name_like_no_other_is_refused_without_a_guess(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "secret")
    with pytest.raises(StartupError, match=f"^unknown environment variable {name}: remove it or correct its name\\.$"):
        load_settings()


def test_the_variables_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_LASTUNIT_WORKERS", "2")
    monkeypatch.setenv("LASTUNITS", "2")
    monkeypatch.setenv("LASTUNIT_CONFIG", "")
    assert load_settings() == Settings()


def test_no_source_has_the_name_of_the_engines_breaker(tmp_path: Path) -> None:
    config = tmp_path / "lastunit.toml"
    config.write_text('[sources.engine]\nconnector = "wms"\nsecrets = ["whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"]\n')
    with pytest.raises(StartupError, match=r"lastunit\.toml: key 'sources': no source may be called engine: "):
        load_settings(config=config)


def test_an_authority_is_a_source_of_the_same_file(tmp_path: Path) -> None:
    config = tmp_path / "lastunit.toml"
    config.write_text('[locations."R-1"]\nauthority = "erq"\n')
    with pytest.raises(StartupError, match=r"lastunit\.toml: key 'locations': the authority of R-1 is no source: "):
        load_settings(config=config)
