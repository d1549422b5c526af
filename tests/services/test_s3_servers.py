"""What others' S3 servers do with a call that they do not know: what must be proven, and why."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.s3.asking import client_of
from tests.services.s3_servers import S3Server


@pytest.mark.parametrize(
    ("server", "replaced", "refused"),
    [
        ("moto", False, "InvalidRequest"),
        ("rclone", True, None),
        pytest.param("s3rver", False, "MethodNotAllowed", marks=pytest.mark.services),
    ],
)
def test_a_legal_hold_on_an_object_of_a_bucket_without_locks(
    server: str, replaced: bool, refused: str | None, request: pytest.FixtureRequest
) -> None:
    there: S3Server = request.getfixturevalue(server)
    client = client_of(there)
    one = {"Bucket": "first-look", "Key": "cargo"}
    client.create_bucket(Bucket=one["Bucket"])
    client.put_object(**one, Body=b"precious")
    answered = None
    try:
        client.put_object_legal_hold(**one, LegalHold={"Status": "ON"})
    except ClientError as error:
        answered = error.response["Error"]["Code"]
    now = client.get_object(**one)["Body"].read()
    client.close()
    assert answered == refused
    assert now.startswith(b"<LegalHold") if replaced else now == b"precious"
