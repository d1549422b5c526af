"""Both transports at once: neither holds the other up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.cloud import storagebatchoperations_v1 as sbo

from longshore.api import wire
from tests.api.conftest import Project
from tests.api.grpc.conftest import Both, raw


@contextmanager
def busy(loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """The loop has so much to do that it does not come to anything else."""
    begun, enough = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        enough.wait(60)

    loop.call_soon_threadsafe(work)
    assert begun.wait(30)
    yield
    assert not enough.is_set()
    enough.set()


def test_grpc_answers_while_rest_is_saturated(
    server: Both, channel: grpc.Channel, project: Project
) -> None:
    """In one loop with REST it would wait for its turn."""
    project.create("j")
    request = sbo.GetJobRequest.serialize(sbo.GetJobRequest(name=project.job_name("j")))
    with busy(server.loop):
        replies = [raw(channel, f"{wire.SERVICE}/GetJob")(request, timeout=30) for _ in range(50)]
    assert {sbo.Job.deserialize(reply).name for reply in replies} == {project.job_name("j")}


def test_rest_answers_while_grpc_is_saturated(server: Both, project: Project) -> None:
    project.create("j")
    with busy(server.grpc.loop):
        for _ in range(50):
            assert project.ok("GET", "/jobs/j")["name"] == project.job_name("j")


def test_a_large_message_is_parsed_outside_of_the_loop(
    server: Both, channel: grpc.Channel, project: Project
) -> None:
    request = wire.message_class(f"{wire.PACKAGE}.CreateJobRequest")(parent=project.parent)
    bucket = request.job.bucket_list.buckets.add(bucket="bucket-1")
    bucket.prefix_list.included_object_prefixes.extend(f"{n}" + "x" * 1000 for n in range(900))
    request.job.delete_object.SetInParent()
    raw(channel, f"{wire.SERVICE}/CreateJob")(request.SerializeToString(), timeout=30)
    assert any(one.name.startswith("large-messages") for one in threading.enumerate())
