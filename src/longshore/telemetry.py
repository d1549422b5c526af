"""Structured events: one line each, ``time level event key=value …``, to standard error."""

from __future__ import annotations

import logging
import sys
from typing import Any

import orjson

_logger = logging.getLogger("longshore")


def set_up(level: int = logging.INFO) -> None:
    """Send events to standard error; call it once per process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _logger.handlers = [handler]
    _logger.setLevel(level)
    _logger.propagate = False


def event(name: str, **fields: Any) -> None:
    """Something worth a line has happened. Never pass a token or an object's content."""
    _logger.info("%s", _line(name, fields))


def warning(name: str, **fields: Any) -> None:
    """Something went wrong and longshore goes on; the fields say what an operator can do."""
    _logger.warning("%s", _line(name, fields))


def failure(name: str, **fields: Any) -> None:
    """The same with the traceback of the exception being handled: a bug or a broken machine."""
    _logger.error("%s", _line(name, fields), exc_info=True)


def _line(name: str, fields: dict[str, Any]) -> str:
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    text = str(value)
    quote = not text or any(character in text for character in ' "=\n\r\t')
    return orjson.dumps(text).decode() if quote else text
