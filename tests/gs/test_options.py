"""What the settings of a store of kind "gs" may say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longshore.errors import InvalidArgument
from longshore.settings import Ramp, StoreSettings
from longshore.stores.gs.options import GsSettings, read_options

KEY = "/etc/longshore/key.json"


def read(environment: dict[str, str] | None = None, **options: Any) -> GsSettings:
    return read_options(StoreSettings(name="main", kind="gs", options=options), environment or {})


def test_nothing_has_to_be_said() -> None:
    settings = read()
    assert settings.endpoint.url == "https://storage.googleapis.com"
    assert (settings.anonymous, settings.key_file, settings.user_project) == (False, None, None)


def test_all_can_be_said() -> None:
    settings = read(
        endpoint="https://private.example:8443", key_file=KEY, user_project="payer", project="port"
    )
    assert settings.endpoint.url == "https://private.example:8443"
    assert settings.key_file == Path(KEY)
    assert (settings.user_project, settings.project) == ("payer", "port")


@pytest.mark.parametrize(
    "said", ["localhost:9023", "http://localhost:9023", "http://localhost:9023/"]
)
def test_an_emulator_is_found_as_google_s_clients_find_it(said: str) -> None:
    environment = {"STORAGE_EMULATOR_HOST": said, "GOOGLE_CLOUD_PROJECT": "port"}
    settings = read(environment)
    assert settings.endpoint.url == "http://localhost:9023"
    assert (settings.anonymous, settings.project) == (True, "port")


def test_what_the_settings_say_comes_before_the_environment() -> None:
    settings = read(
        {"STORAGE_EMULATOR_HOST": "localhost:9023", "GOOGLE_CLOUD_PROJECT": "port"},
        endpoint="https://storage.googleapis.com",
        project="own",
    )
    assert settings.endpoint.url == "https://storage.googleapis.com"
    assert (settings.anonymous, settings.project) == (False, "own")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_tokens_may_go_unencrypted_within_the_machine(host: str) -> None:
    assert not read(endpoint=f"http://{host}:9023").anonymous


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"endpoint": "http://storage.example"}, "endpoint"),
        ({"endpoint": "storage.example"}, "endpoint"),
        ({"endpoint": "https://user:secret@storage.example"}, "endpoint"),
        ({"endpoint": "https://storage.example/storage/v1"}, "endpoint"),
        ({"endpoint": ""}, "endpoint"),
        ({"key_file": 7}, "key_file"),
        ({"key_file": KEY, "anonymous": True}, "key_file"),
        ({"anonymous": "yes"}, "anonymous"),
        ({"transport": "http2"}, "transport"),
        ({"transport": "lean", "proxy": "http://proxy.example"}, "transport"),
        ({"keyfile": KEY}, "keyfile"),
    ],
)
def test_what_cannot_be_is_refused_by_its_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        read(**options)
    assert key in refused.value.message
    assert "secret" not in refused.value.message


def test_nothing_of_google_is_imported_before_a_token_is_needed() -> None:
    """A worker with a store is to stay small."""
    code = (
        "import sys, longshore.stores.gs;"
        "print([name for name in sys.modules if name.startswith(('google', 'requests'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_google_is_asked_for_more_by_and_by_and_an_emulator_for_all() -> None:
    assert read().ramp == Ramp(writes_per_second=1_000, double_seconds=1_200, prove_seconds=10)
    assert read(anonymous=True).ramp is None
    assert read(initial_writes_per_second=0).ramp is None
    slow = {"initial_writes_per_second": 50, "double_seconds": 600.0, "prove_seconds": 600}
    wanted = Ramp(writes_per_second=50, double_seconds=600, prove_seconds=600)
    assert read(**slow).ramp == read(anonymous=True, **slow).ramp == wanted


@pytest.mark.parametrize("key", ["initial_writes_per_second", "double_seconds", "prove_seconds"])
@pytest.mark.parametrize("value", ["20m", True, -1, float("inf"), float("nan")])
def test_a_ramp_takes_numbers(key: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"stores.main.{key}' must be a number"):
        read(**{key: value})


@pytest.mark.parametrize("key", ["double_seconds", "prove_seconds"])
def test_a_ramp_takes_its_time(key: str) -> None:
    with pytest.raises(InvalidArgument, match=f"stores.main.{key}' must be more than 0"):
        read(**{key: 0})
