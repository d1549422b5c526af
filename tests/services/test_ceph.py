"""The Ceph that tests run on does what they rely on."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.services.ceph import Ceph

pytestmark = pytest.mark.services


def test_a_gateway_is_killed_and_started_again_while_another_serves(ceph: Ceph) -> None:
    with ceph.gateway() as gateway:
        endpoint = gateway.endpoint
        assert endpoint != ceph.endpoint
        gateway.kill()
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(endpoint, timeout=10)
        with urllib.request.urlopen(ceph.endpoint, timeout=10) as reply:
            assert reply.status == 200
        gateway.start()
        assert gateway.endpoint == endpoint
        with urllib.request.urlopen(endpoint, timeout=10) as reply:
            assert reply.status == 200


def test_every_account_is_another_user(ceph: Ceph) -> None:
    first, second = ceph.new_account(), ceph.new_account()
    assert first.access_key != second.access_key
    for account in (first, second):
        known = ceph.administer("GET", "user", uid=f"{account.access_key}$user")
        assert known["tenant"] == account.access_key
