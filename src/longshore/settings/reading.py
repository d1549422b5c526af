"""Reading settings: defaults < TOML file < environment < flags, and every unknown key is an error.

Each layer is read into a table of only what it gives, so that "not given" stays different from "a
default" until the last layer is merged.
"""

from __future__ import annotations

import difflib
import fnmatch
import math
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from longshore.errors import InvalidArgument
from longshore.settings.schema import (
    NO_AUTHENTICATION,
    AuthSettings,
    Caps,
    ProjectSettings,
    Settings,
    StoreSettings,
    Texts,
)

ENVIRONMENT_PREFIX = "LONGSHORE_"
DEFAULT_FILE = "longshore.toml"
MIN_LEASE_SECONDS = 2.0
MIN_KEEP_DAYS = 30.0
DATABASES = ("postgresql://", "postgres://")
NOT_SETTINGS = frozenset({"CONFIG", "SERVER", "PROJECT", "TOKEN", "TOKEN_FILE"})
"""Variables with our prefix that are for the command line rather than settings."""
MODES = (NO_AUTHENTICATION, "tokens", "oidc")


def load(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, Any]) -> Settings:
    """Settings from a TOML file, overridden by ``environment``, overridden by ``flags``.

    The file is ``path``, else the variable LONGSHORE_CONFIG, else ``./longshore.toml`` if there is
    one. A variable is LONGSHORE_ and the key in capitals, with ``__`` for a dot
    (LONGSHORE_REST__LISTEN; names of stores are lower case there); where a setting is no text, its
    value is read as TOML. Flags go by dotted key ("rest.listen"); None is a flag not given.

    Raises InvalidArgument, saying where the key stood, for an unknown key (with the nearest known
    one), a wrong value, a store without a kind, a pattern that two stores have, and a file that is
    not there or no TOML.
    """
    given: dict[str, Any] = {}
    for layer in (
        _from_file(path, environment),
        _from_environment(environment),
        _from_flags(flags),
    ):
        for table, source in layer:
            _merge(given, _read(Settings, table, "", source))
    settings = _build(given)
    _check_patterns(settings.stores.values())
    _check_auth(settings.auth)
    _check_logs(settings)
    if settings.database is not None and not settings.database.startswith(DATABASES):
        raise InvalidArgument(
            "database must be the URL of PostgreSQL, like postgresql://longshore@db.example/jobs;"
            " leave it out for SQLite in the data directory."
        )
    if settings.lease_seconds < MIN_LEASE_SECONDS:
        raise InvalidArgument(
            f"lease_seconds is {settings.lease_seconds:g}; it must be at least"
            f" {MIN_LEASE_SECONDS:g}: a third of it is all the time that a call of a store has."
        )
    if settings.retention.keep_days < MIN_KEEP_DAYS:
        raise InvalidArgument(
            f"retention.keep_days is {settings.retention.keep_days:g}; it must be at least"
            f" {MIN_KEEP_DAYS:g}, as clients of the API expect. Delete single jobs with `longshore"
            " jobs delete`."
        )
    return settings


def check_options(store: StoreSettings, known: Iterable[str]) -> None:
    """Raises InvalidArgument for an option that this kind of store does not know."""
    _check_known(store.options, (*_STORE_KEYS, *known), f"[stores.{store.name}]")


def _check_known(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises InvalidArgument for a key of ``given`` that is not ``known``, naming the nearest."""
    names = sorted(known)
    for key in given:
        if key not in names:
            (nearest,) = difflib.get_close_matches(key, names, n=1, cutoff=0.0)
            raise InvalidArgument(
                f"Unknown setting {key!r} in {where}: the nearest known one is {nearest!r}."
            )


class _Source(NamedTuple):
    """Where a value stood; ``text``: what is no text must still be parsed."""

    where: str
    text: bool


_Layer = Iterator[tuple[Mapping[str, Any], _Source]]


def file_of(path: Path | None, environment: Mapping[str, str]) -> Path | None:
    """The file that ``load`` reads with these arguments, if any."""
    named = path or environment.get(f"{ENVIRONMENT_PREFIX}CONFIG")
    file = Path(named or DEFAULT_FILE)
    return file if named or file.exists() else None


def _from_file(path: Path | None, environment: Mapping[str, str]) -> _Layer:
    file = file_of(path, environment)
    if file is None:
        return
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(f"Cannot read the settings file {file}: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidArgument(f"The settings file {file} is no TOML: {error}.") from error
    yield table, _Source(str(file), text=False)


def _from_environment(environment: Mapping[str, str]) -> _Layer:
    for variable, value in sorted(environment.items()):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name != variable and name not in NOT_SETTINGS:
            source = _Source(f"the environment variable {variable}", text=True)
            yield _nested(name.lower().split("__"), value), source


def _from_flags(flags: Mapping[str, Any]) -> _Layer:
    for name, value in flags.items():
        if value is not None:
            yield _nested(name.split("."), value), _Source("the command line", text=False)


def _nested(keys: list[str], value: Any) -> Mapping[str, Any]:
    head, *rest = keys
    return {head: _nested(rest, value) if rest else value}


def _merge(below: dict[str, Any], above: Mapping[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(below.get(key), dict):
            _merge(below[key], value)
        else:
            below[key] = value


_STORES = Mapping[str, StoreSettings]
_LIMITS = Mapping[str, Caps]
_GRANTS = Mapping[str, Texts]
_TABLES: Mapping[Any, tuple[str, Any]] = {
    _STORES: ("NAME", StoreSettings),
    _LIMITS: ("BUCKETS", Caps),
    Mapping[str, ProjectSettings]: ("PROJECT", ProjectSettings),
    Mapping[str, _GRANTS]: ("PRINCIPAL", _GRANTS),
    _GRANTS: ("PROJECT", Texts),
}
"""Tables by names that users choose: what the key is called in messages, and what each holds."""
_STORE_KEYS = frozenset(get_type_hints(StoreSettings)) - {"name", "options", "call_seconds"}


def _read(kind: Any, given: Any, name: str, source: _Source) -> Any:
    """``given`` as ``kind`` wants it: a checked value, or a table of nothing but what is given."""
    if kind not in _TABLES and not is_dataclass(kind):
        return _read_value(kind, given, name, source)
    if not isinstance(given, dict):
        raise InvalidArgument(f"Setting {name!r} in {source.where} must be a table, not {given!r}.")
    hints = {} if kind in _TABLES else get_type_hints(kind)
    table: dict[str, Any] = {}
    for key, value in given.items():
        path = f"{name}.{key}" if name else key
        if kind in _TABLES:
            table[key] = _read(_TABLES[kind][1], value, path, source)
        elif kind is StoreSettings and key not in _STORE_KEYS:
            table.setdefault("options", {})[key] = _read(Any, value, path, source)
        elif key in hints:
            table[key] = _read(hints[key], value, path, source)
        elif source.text:
            _check_known([_variable(path)], _known_variables(), "the environment")
        else:
            _check_known([path], _known_names(Settings), source.where)
    return table


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper().replace(".", "__")


def _known_variables() -> Iterator[str]:
    yield from map(_variable, _known_names(Settings))
    yield from map(_variable, NOT_SETTINGS)


def _known_names(kind: Any) -> Iterator[str]:
    for key, hint in get_type_hints(kind).items():
        if kind is StoreSettings and key not in _STORE_KEYS:
            continue
        yield key
        label, inner = _TABLES.get(hint, ("", hint))
        if is_dataclass(inner):
            prefix = f"{key}.{label}" if label else key
            yield from (f"{prefix}.{name}" for name in _known_names(inner))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value > 0


def _is_path(value: Any) -> bool:
    return isinstance(value, str | Path) and str(value) != ""


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_text_or_texts(value: Any) -> bool:
    return isinstance(value, str) or _is_texts(value)


def _tuple(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


_VALUES: Mapping[Any, tuple[str, Callable[[Any], bool], Callable[[Any], Any]]] = {
    str: ("a text", lambda value: isinstance(value, str), str),
    str | None: ("a text", lambda value: isinstance(value, str), str),
    Path | None: ("a path", _is_path, Path),
    Path: ("a path", _is_path, Path),
    int: ("a whole number above 0", lambda value: type(value) is int and value > 0, int),
    float: ("a number above 0", _is_number, float),
    float | None: ("a number above 0", _is_number, float),
    int | None: ("a whole number above 0", lambda value: type(value) is int and value > 0, int),
    tuple[str, ...]: ("a list of texts", _is_texts, tuple),
    Texts: ("a text or a list of texts", _is_text_or_texts, _tuple),
    bool: ("true or false", lambda value: type(value) is bool, bool),
}
"""What the type of a setting is called, which values it takes, and what it makes of them."""


def _read_value(kind: Any, given: Any, name: str, source: _Source) -> Any:
    if source.text and kind not in (str, str | None, Path, Path | None):
        given = _parse(given)
    if kind is Any:
        return given
    expected, accepts, convert = _VALUES[kind]
    if not accepts(given):
        raise InvalidArgument(
            f"Setting {name!r} in {source.where} must be {expected}, not {given!r}."
        )
    return convert(given)


def _parse(text: str) -> Any:
    """A variable's text as TOML; text that is no TOML value stands for itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _build(given: Mapping[str, Any]) -> Settings:
    tables = dict(given)
    if "stores" in given:
        stores = given["stores"].items()
        tables["stores"] = {name: _build_store(name, table) for name, table in stores}
    if "projects" in given:
        projects = given["projects"].items()
        tables["projects"] = {name: ProjectSettings(**table) for name, table in projects}
    settings: Settings = _overlay(Settings(), tables)
    optional = [settings.metrics] if settings.metrics.listen else []
    for listener in (settings.rest, settings.grpc, *optional):
        _ = listener.address  # Raises for what is no address, before anything is started.
    return settings


def _overlay(defaults: Any, given: Mapping[str, Any]) -> Any:
    """A dataclass with what is given in place of its defaults, at every level."""
    fields = {
        key: _overlay(default, value) if is_dataclass(default) else value
        for key, value in given.items()
        for default in (getattr(defaults, key),)
    }
    return replace(defaults, **fields)


def _build_store(name: str, table: Mapping[str, Any]) -> StoreSettings:
    if "kind" not in table:
        raise InvalidArgument(f'[stores.{name}] lacks its kind: add kind = "local".')
    limits = {pattern: Caps(**caps) for pattern, caps in table.get("limits", {}).items()}
    return StoreSettings(**{**table, "name": name, "limits": limits})


def _check_patterns(stores: Iterable[StoreSettings]) -> None:
    owners: dict[str, str] = {}
    for store in stores:
        for pattern in store.buckets:
            owner = owners.setdefault(pattern, store.name)
            if owner != store.name:
                raise InvalidArgument(
                    f"The stores {owner!r} and {store.name!r} both claim the buckets {pattern!r}:"
                    " leave the pattern to one of them."
                )


def _check_logs(settings: Settings) -> None:
    settings.logs.check()
    bucket = settings.logs.bucket
    patterns = [pattern for store in settings.stores.values() for pattern in store.buckets]
    if bucket and not any(fnmatch.fnmatchcase(bucket, pattern) for pattern in patterns):
        raise InvalidArgument(
            f"logs.to names the bucket {bucket!r}, which no store of the settings has: add it to"
            " the buckets of a [stores.NAME]."
        )


def _check_auth(auth: AuthSettings) -> None:
    for mode in auth.mode:
        if mode not in MODES:
            raise InvalidArgument(f"auth.mode {mode!r} is none of {', '.join(MODES)}.")
    if not auth.mode or (len(auth.mode) > 1 and not auth.on):
        raise InvalidArgument(
            f'auth.mode is {list(auth.mode)}: it must be "none" or modes of authentication.'
        )
    if "tokens" in auth.mode and auth.tokens_file is None:
        raise InvalidArgument(
            'auth.mode has "tokens", but there is no auth.tokens_file; `longshore auth token` makes'
            " what belongs into it."
        )
    oidc = auth.oidc
    if "oidc" in auth.mode and not (oidc.issuer and oidc.audience):
        raise InvalidArgument('auth.mode has "oidc", which needs auth.oidc.issuer and .audience.')
    if "oidc" in auth.mode and (oidc.jwks_url is None) == (oidc.jwks_file is None):
        raise InvalidArgument(
            'auth.mode has "oidc", which needs either auth.oidc.jwks_url or auth.oidc.jwks_file.'
        )
