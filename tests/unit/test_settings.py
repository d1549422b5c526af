"""Settings: three layers over the defaults, and an error that helps for whatever is wrong."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from longshore import extensions
from longshore.errors import InvalidArgument
from longshore.settings import (
    Caps,
    RetentionSettings,
    Settings,
    StoreSettings,
    TlsSettings,
    check_options,
    load,
)
from longshore.store import Stores


def _file(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def _message(path: Path | None, environment: dict[str, str], **flags: Any) -> str:
    with pytest.raises(InvalidArgument) as caught:
        load(path, environment, flags)
    return caught.value.message


WHOLE = """
data_dir = "/srv/longshore"
workers = 3
lease_seconds = 45
[rest]
listen = "0.0.0.0:80"
[tls]
certificate = "server.pem"
key = "server.key"
[grpc]
listen = "[::1]:81"
[logs]
max_file_bytes = 1000
[retention]
max_job_days = 0.5
keep_days = 90
[stores.logs]
kind = "local"
buckets = ["logs-*", "audit"]
max_objects_per_second = 20000
directory = "/srv/logs"
[stores.logs.limits."logs-*"]
max_requests_per_second = 100.5
max_concurrency = 8
"""


def test_without_anything_the_defaults_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(None, {"HOME": "/root", "LONGSHORE_CONFIG": ""}, {}) == Settings()


def test_every_setting_can_stand_in_the_file(tmp_path):
    settings = load(_file(tmp_path, WHOLE), {}, {})
    assert settings.data_dir == Path("/srv/longshore")
    assert (settings.workers, settings.lease_seconds) == (3, 45.0)
    assert (settings.rest.address, settings.grpc.address) == (("0.0.0.0", 80), ("::1", 81))
    assert settings.tls == TlsSettings(certificate=Path("server.pem"), key=Path("server.key"))
    assert settings.logs.max_file_bytes == 1000
    assert settings.logs.max_shard_bytes == Settings().logs.max_shard_bytes
    assert settings.retention == RetentionSettings(max_job_days=0.5, keep_days=90.0)
    assert settings.stores["logs"] == StoreSettings(
        name="logs",
        kind="local",
        buckets=("logs-*", "audit"),
        max_objects_per_second=20000.0,
        limits={"logs-*": Caps(max_requests_per_second=100.5, max_concurrency=8)},
        options={"directory": "/srv/logs"},
    )


def test_the_file_is_the_flag_else_the_variable_else_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("longshore.toml").write_text("workers = 1001")
    Path("named.toml").write_text("workers = 1002")
    Path("flag.toml").write_text("workers = 1003")
    variable = {"LONGSHORE_CONFIG": "named.toml"}
    assert load(None, {}, {}).workers == 1001
    assert load(None, variable, {}).workers == 1002
    assert load(Path("flag.toml"), variable, {}).workers == 1003


def test_environment_overrides_the_file_and_flags_override_both(tmp_path):
    path = _file(tmp_path, WHOLE)
    environment = {
        "LONGSHORE_WORKERS": "5",
        "LONGSHORE_REST__LISTEN": "127.0.0.1:9",
        "LONGSHORE_TLS__CLIENT_CA": "clients.pem",
        "LONGSHORE_STORES__LOGS__MAX_OBJECTS_PER_SECOND": "1.5",
        "LONGSHORE_STORES__LOGS__BUCKETS": '["a", "b"]',
        "LONGSHORE_STORES__LOGS__DIRECTORY": "/elsewhere",
        "LONGSHORE_STORES__NEW__KIND": "local",
        "LONGSHORE_STORES__NEW__PATH_STYLE": "true",
    }
    settings = load(path, environment, {"workers": 7, "rest.listen": None})
    assert settings.workers == 7
    assert settings.rest.listen == "127.0.0.1:9"
    assert (settings.tls.key, settings.tls.client_ca) == (Path("server.key"), Path("clients.pem"))
    assert settings.grpc.listen == "[::1]:81"
    logs = settings.stores["logs"]
    assert (logs.max_objects_per_second, logs.buckets) == (1.5, ("a", "b"))
    assert logs.options == {"directory": "/elsewhere"}
    assert settings.stores["new"].options == {"path_style": True}


def test_a_flag_equal_to_the_default_still_overrides(tmp_path):
    path = _file(tmp_path, "workers = 3")
    assert load(path, {"LONGSHORE_WORKERS": "4"}, {"workers": 1}).workers == 1


def test_variables_of_the_command_line_are_no_settings(tmp_path):
    environment = {
        f"LONGSHORE_{name}": "x" for name in ("SERVER", "PROJECT", "TOKEN", "TOKEN_FILE")
    }
    assert load(_file(tmp_path, ""), environment, {}) == Settings()


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("worker = 1", "worker", "workers"),
        ("[rest]\nlissten = 'x:1'", "rest.lissten", "rest.listen"),
        ("[restt]\nlisten = 'x:1'", "restt", "rest"),
        ("listen = 'x:1'", "listen", "rest.listen"),
        (
            "[stores.a.limits.b]\nmax_concurency = 1",
            "stores.a.limits.b.max_concurency",
            "stores.NAME.limits.BUCKETS.max_concurrency",
        ),
    ],
)
def test_an_unknown_key_in_the_file_names_the_nearest_and_the_file(tmp_path, text, key, nearest):
    path = _file(tmp_path, text)
    message = _message(path, {})
    assert f"{key!r} in {path}" in message
    assert f"{nearest!r}" in message


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("LONGSHORE_REST__LISSTEN", "LONGSHORE_REST__LISTEN"),
        ("LONGSHORE_WORKER", "LONGSHORE_WORKERS"),
        ("LONGSHORE_PROJCT", "LONGSHORE_PROJECT"),
    ],
)
def test_an_unknown_variable_names_itself_and_the_nearest(tmp_path, variable, nearest):
    message = _message(_file(tmp_path, ""), {variable: "x:1"})
    assert f"{variable!r} in the environment" in message
    assert f"{nearest!r}" in message


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("workers = '3'", "workers"),
        ("workers = true", "workers"),
        ("workers = 0", "workers"),
        ("workers = 1.5", "workers"),
        ("lease_seconds = nan", "lease_seconds"),
        ("data_dir = 3", "data_dir"),
        ("data_dir = ''", "data_dir"),
        ("rest = 'x:1'", "rest"),
        ("stores = 1", "stores"),
        ("stores.a = 1", "stores.a"),
        ("[stores.a]\nkind = 'local'\nbuckets = 'logs'", "stores.a.buckets"),
        ("[stores.a]\nkind = 'local'\nbuckets = [1]", "stores.a.buckets"),
        ("[stores.a]\nkind = 'local'\nmax_objects_per_second = 0", "max_objects_per_second"),
        ("[stores.a]\nkind = 'local'\nmax_concurrency = 0.5", "stores.a.max_concurrency"),
        ("[stores.a]\nkind = 'local'\nlimits = 3", "stores.a.limits"),
        ("[stores.a]\nkind = 'local'\nlimits.'b-*' = 3", "stores.a.limits.b-*"),
        ("[stores.a.limits.b]\nmax_concurrency = 0", "stores.a.limits.b.max_concurrency"),
    ],
)
def test_a_wrong_value_names_its_key_and_place(tmp_path, text, key):
    path = _file(tmp_path, text)
    message = _message(path, {})
    assert key in message
    assert str(path) in message


def test_a_lease_shorter_than_a_call_may_take_is_refused_with_the_limit(tmp_path):
    message = _message(_file(tmp_path, "lease_seconds = 1.9"), {})
    assert message.startswith("lease_seconds is 1.9; it must be at least 2:")
    assert load(_file(tmp_path, "lease_seconds = 2"), {}, {}).lease_seconds == 2.0


@pytest.mark.parametrize(("lease", "call"), [(2, 2 / 3), (21, 7), (30, 10), (300, 10)])
def test_a_call_has_a_third_of_a_lease_and_10_seconds_at_most(lease, call):
    assert Settings(lease_seconds=lease).call_seconds == pytest.approx(call)


def test_how_long_a_call_may_take_is_no_key_of_a_store(tmp_path):
    path = _file(tmp_path, "[stores.a]\nkind = 'local'\ncall_seconds = 60")
    store = load(path, {}, {}).stores["a"]
    assert (store.call_seconds, store.options) == (10, {"call_seconds": 60})
    with pytest.raises(InvalidArgument, match="Unknown setting 'call_seconds'"):
        check_options(store, ())


def test_a_job_is_kept_for_30_days_at_least(tmp_path):
    message = _message(_file(tmp_path, "[retention]\nkeep_days = 29.9"), {})
    assert message.startswith("retention.keep_days is 29.9; it must be at least 30,")
    path = _file(tmp_path, "[retention]\nkeep_days = 30")
    assert load(path, {}, {}).retention.keep_days == 30.0


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the cores of a process")
def test_there_is_a_worker_for_each_core_that_may_be_used():
    count = "from longshore.settings import Settings; print(Settings().workers)"
    for cores in ({min(os.sched_getaffinity(0))}, os.sched_getaffinity(0)):
        counted = subprocess.run(
            [sys.executable, "-c", count],
            capture_output=True,
            check=True,
            preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),
        )
        assert int(counted.stdout) == len(cores)


@pytest.mark.parametrize("value", ["many", "", "[1]", "-1"])
def test_a_wrong_value_in_a_variable_names_the_variable(tmp_path, value):
    assert "LONGSHORE_WORKERS" in _message(_file(tmp_path, ""), {"LONGSHORE_WORKERS": value})


@pytest.mark.parametrize("listen", ["8080", ":8080", "host:", "host:http", "host:70000", "h:²"])
def test_an_address_is_host_and_port(tmp_path, listen):
    message = _message(_file(tmp_path, ""), {}, **{"rest.listen": listen})
    assert repr(listen) in message


def test_a_cap_of_a_bucket_is_that_of_the_most_specific_pattern_that_sets_it():
    store = StoreSettings(
        name="a",
        kind="local",
        limits={
            "*": Caps(max_objects_per_second=100, max_concurrency=4),
            "logs-*": Caps(max_objects_per_second=900),
            "*-2026": Caps(max_objects_per_second=700),
            "logs-2026": Caps(max_requests_per_second=5),
        },
    )
    assert store.caps_of("x") == Caps(max_objects_per_second=100, max_concurrency=4)
    assert store.caps_of("logs-1") == Caps(max_objects_per_second=900, max_concurrency=4)
    assert store.caps_of("logs-2026") == Caps(
        max_objects_per_second=700, max_requests_per_second=5, max_concurrency=4
    )
    assert StoreSettings(name="a", kind="local").caps_of("x") == Caps()


def test_a_store_needs_a_kind(tmp_path):
    assert "[stores.a]" in _message(_file(tmp_path, "[stores.a]\nbuckets = ['x']"), {})


def test_two_stores_with_one_pattern_are_refused(tmp_path):
    text = "[stores.a]\nkind='local'\nbuckets=['x*']\n[stores.b]\nkind='local'\nbuckets=['x*']"
    message = _message(_file(tmp_path, text), {})
    assert "'a'" in message
    assert "'b'" in message
    assert "'x*'" in message


@pytest.mark.parametrize("text", ["workers = ", "\xff\xfe"])
def test_a_file_that_is_no_toml_is_refused_by_name(tmp_path, text):
    path = tmp_path / "settings.toml"
    path.write_bytes(text.encode("latin-1"))
    assert str(path) in _message(path, {})


def test_a_named_file_must_exist(tmp_path):
    assert "missing.toml" in _message(tmp_path / "missing.toml", {})
    assert "missing.toml" in _message(None, {"LONGSHORE_CONFIG": "missing.toml"})


@pytest.mark.parametrize(
    ("option", "nearest"), [("directry", "directory"), ("bukets", "buckets"), ("kin", "kind")]
)
def test_a_kind_of_store_checks_its_own_options(option, nearest):
    store = StoreSettings(name="a", kind="local", options={option: "x"})
    with pytest.raises(InvalidArgument, match=rf"{option!r} in \[stores.a\].*{nearest!r}"):
        check_options(store, ["directory"])
    check_options(store, ["directory", option])


WHO_MAY_DO_WHAT = """
[auth]
mode = ["tokens", "oidc"]
tokens_file = "tokens"
[auth.oidc]
issuer = "https://login.example"
audience = ["longshore"]
jwks_url = "https://login.example/keys"
leeway_seconds = 5
[auth.roles."ann@example.com"]
"*" = "viewer"
payroll = ["operator", "storagebatchoperations.jobs.delete"]
[projects.payroll]
buckets = ["payroll-*", "shared"]
[projects.closed]
"""


def test_authentication_and_projects(tmp_path):
    settings = load(_file(tmp_path, WHO_MAY_DO_WHAT), {}, {})
    assert settings.auth.mode == ("tokens", "oidc")
    assert settings.auth.on
    assert (settings.auth.oidc.leeway_seconds, settings.auth.oidc.principal) == (5.0, "sub")
    assert settings.auth.roles == {
        "ann@example.com": {
            "*": ("viewer",),
            "payroll": ("operator", "storagebatchoperations.jobs.delete"),
        }
    }


@pytest.mark.parametrize(
    ("project", "bucket", "without", "with_authentication"),
    [
        ("payroll", "payroll-1", True, True),
        ("payroll", "shared", True, True),
        ("payroll", "shared-too", False, False),
        ("payroll", "Payroll-1", False, False),
        ("closed", "payroll-1", False, False),
        ("other", "payroll-1", True, False),
    ],
)
def test_which_buckets_a_project_may_use(tmp_path, project, bucket, without, with_authentication):
    path = _file(tmp_path, WHO_MAY_DO_WHAT)
    assert load(path, {}, {}).may_use(project, bucket) is with_authentication
    off = load(path, {"LONGSHORE_AUTH__MODE": "none"}, {})
    assert off.may_use(project, bucket) is without


def test_a_rule_for_every_project_is_for_those_without_their_own(tmp_path):
    every = WHO_MAY_DO_WHAT + '[projects."*"]\nbuckets = ["*"]'
    settings = load(_file(tmp_path, every), {}, {})
    assert settings.may_use("other", "payroll-1")
    assert not settings.may_use("payroll", "harbour")


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ('mode = "open"', "auth.mode 'open' is none of none, tokens, oidc."),
        ('mode = ["none", "tokens"]', 'it must be "none" or modes of authentication'),
        ("mode = []", 'it must be "none" or modes of authentication'),
        ('mode = "tokens"', "there is no auth.tokens_file"),
        ('mode = "oidc"', "needs auth.oidc.issuer and .audience"),
        (
            'mode = "oidc"\noidc = {issuer = "i", audience = ["a"]}',
            "needs either auth.oidc.jwks_url or auth.oidc.jwks_file",
        ),
        ("dangerously_serve_anyone = 1", "must be true or false, not 1"),
        ("roles = {ann = 5}", "must be a table, not 5"),
        ("roles = {ann = {p = 5}}", "must be a text or a list of texts, not 5"),
    ],
)
def test_authentication_that_is_set_wrong(tmp_path, auth, message):
    assert message in _message(_file(tmp_path, f"[auth]\n{auth}"), {})


def test_workers_import_their_stores_before_a_job_needs_them(tmp_path: Path) -> None:
    settings = load(_file(tmp_path, '[stores.m]\nkind = "memory"'), {}, {})
    extensions.load.cache_clear()
    Stores(settings).prepare()
    loaded = extensions.load.cache_info()
    assert (loaded.currsize, loaded.misses) == (1, 1)
