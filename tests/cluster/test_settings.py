"""What a cluster's settings must be before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from longshore import extensions
from longshore.errors import FailedPrecondition
from longshore.settings import DaskSettings, Settings

FILES = {"ca": Path("ca.pem"), "certificate": Path("c.pem"), "key": Path("k.pem")}
TLS = {"scheduler": "tls://scheduler.example:8786", **FILES}


def require(database: str | None = "postgresql://db/jobs", **dask: Any) -> None:
    settings = Settings(database=database, runner="dask", dask=DaskSettings(**dask))
    extensions.load("runners", "dask").require_cluster(settings)


@pytest.mark.parametrize(
    "dask",
    [
        TLS,
        {"scheduler": "tcp://127.0.0.1:8786"},
        {"scheduler": "tcp://[::1]:8786"},
        {"scheduler": "tcp://10.0.0.1:8786", "dangerously_trust_network": True},
    ],
)
def test_what_nobody_else_can_use_is_taken(dask: dict[str, Any]) -> None:
    require(**dask)


@pytest.mark.parametrize(
    ("dask", "says"),
    [
        ({}, "it must be like"),
        ({"scheduler": "scheduler.example:8786"}, "it must be like"),
        ({"scheduler": "ws://scheduler.example:8786"}, "it must be like"),
        ({"scheduler": "tcp://10.0.0.1:8786"}, "runs code in it. Use tls://"),
        ({"scheduler": "tcp://127.0.0.1.example:8786"}, "runs code in it. Use tls://"),
        ({**TLS, "key": None}, "needs dask.ca, dask.certificate and dask.key"),
    ],
)
def test_what_others_could_use_is_refused(dask: dict[str, Any], says: str) -> None:
    with pytest.raises(FailedPrecondition, match=says):
        require(**dask)


def test_a_cluster_shares_a_postgresql() -> None:
    with pytest.raises(FailedPrecondition, match="needs PostgreSQL"):
        require(database=None, **TLS)


def test_a_key_that_others_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = tmp_path / "key.pem"
    key.touch(0o600)
    require(**{**TLS, "key": key})
    assert not caplog.records
    key.chmod(0o644)
    require(**{**TLS, "key": key})
    assert "key open to others" in caplog.text
