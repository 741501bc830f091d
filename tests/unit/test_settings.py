"""What the environment may say to the service, and what it must not."""

import re

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
