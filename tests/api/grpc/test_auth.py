"""Bearer tokens in the metadata of calls; what each caller may do is tested in api/test_auth."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from longshore.api import wire
from longshore.api.auth import Auth
from longshore.api.auth.tokens import line_of, new_token
from longshore.clock import SYSTEM_CLOCK
from longshore.settings import AuthSettings, Settings
from tests.api.grpc.conftest import Both, raw
from tests.api.grpc.test_side_by_side import Answer, refusal

PARENT = "projects/harbour/locations/global"
LIST = f"{wire.SERVICE}/ListJobs"
CANCEL = f"{wire.SERVICE}/CancelJob"
LIST_JOBS = wire.message_class(f"{wire.PACKAGE}.ListJobsRequest")(parent=PARENT)
CANCEL_JOB = wire.message_class(f"{wire.PACKAGE}.CancelJobRequest")(name=f"{PARENT}/jobs/none")
TOKEN = new_token()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    directory = tmp_path_factory.mktemp("guarded")
    file = directory / "tokens"
    file.touch(0o600)
    file.write_text(line_of(TOKEN, "viewer", None, []))
    roles = {"viewer": {"harbour": ("viewer",)}}
    auth = AuthSettings(mode=("tokens",), tokens_file=file, roles=roles)
    both = Both(directory / "l.sqlite", auth=Auth.fixed(Settings(auth=auth), SYSTEM_CLOCK))
    both.start()
    with grpc.insecure_channel(both.target) as channel:
        yield channel
    both.stop()


def ask(channel: grpc.Channel, method: str, data: bytes, token: str | None) -> Answer:
    metadata = [("authorization", f"Bearer {token}")] if token else []
    try:
        return Answer(reply=raw(channel, method)(data, metadata=metadata, timeout=30))
    except grpc.RpcError as error:
        return refusal(error)


@pytest.mark.parametrize(
    ("method", "data", "token", "code", "reason"),
    [
        (LIST, LIST_JOBS.SerializeToString(), None, "UNAUTHENTICATED", "CREDENTIALS_MISSING"),
        (LIST, b"\xff\xff", None, "UNAUTHENTICATED", "CREDENTIALS_MISSING"),
        (
            LIST,
            LIST_JOBS.SerializeToString(),
            "x",
            "UNAUTHENTICATED",
            "ACCESS_TOKEN_TYPE_UNSUPPORTED",
        ),
        (
            CANCEL,
            CANCEL_JOB.SerializeToString(),
            TOKEN,
            "PERMISSION_DENIED",
            "IAM_PERMISSION_DENIED",
        ),
    ],
    ids=["no token", "no token and no message", "no good token", "no permission"],
)
def test_a_caller_is_refused(
    guarded: grpc.Channel, method: str, data: bytes, token: str | None, code: str, reason: str
) -> None:
    answer = ask(guarded, method, data, token)
    assert (answer.code, answer.details[0]["reason"]) == (code, reason)


def test_a_caller_with_a_good_token(guarded: grpc.Channel) -> None:
    assert ask(guarded, LIST, LIST_JOBS.SerializeToString(), TOKEN) == Answer(reply=b"")


def test_health_needs_no_token(guarded: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(guarded)
    reply = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


def test_who_may_not_call_is_told_so_before_the_message_is_there(guarded: grpc.Channel) -> None:
    """Nobody's 32 MiB are waited for."""
    never = threading.Event()

    def requests() -> Iterator[bytes]:
        never.wait(60)
        yield b""

    call = guarded.stream_unary(f"/{LIST}").future(requests(), timeout=60)
    assert call.exception().code() is grpc.StatusCode.UNAUTHENTICATED
    never.set()
