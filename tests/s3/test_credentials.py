"""Keys: found where botocore finds them, renewed by one for all, and shown nowhere."""

import asyncio
import json
import shlex
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.session import Session

from longshore.errors import Unauthenticated, Unavailable
from longshore.settings import StoreSettings
from longshore.stores.s3 import open_store
from longshore.stores.s3.credentials import (
    NOT_RENEWED,
    Credentials,
    FixedCredentials,
    find_credentials,
)
from longshore.transport.renewal import CHECK_SECONDS, Renewed
from tests.s3.instant import Instant

SECRET = "qK7-never-shown"
STATIC = f"aws_access_key_id = FILE\naws_secret_access_key = {SECRET}\n"
TOKEN = "aws_session_token = TOKEN\n"
ROLE = "role_arn = arn:aws:iam::1:role/x\nsource_profile = base\n"
VARIABLES = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": SECRET}

Surround = Callable[..., None]


@pytest.fixture
def surround(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Surround:
    """AWS's files and variables, and nothing of this machine's own."""

    def put(keys: str = "", config: str = "", **variables: str) -> None:
        for name in ("PROFILE", "DEFAULT_PROFILE", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            monkeypatch.delenv(f"AWS_{name}", raising=False)
        for name, text in (("AWS_SHARED_CREDENTIALS_FILE", keys), ("AWS_CONFIG_FILE", config)):
            (tmp_path / name).write_text(text)
            monkeypatch.setenv(name, str(tmp_path / name))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, text in variables.items():
            monkeypatch.setenv(name, text)

    return put


@pytest.mark.parametrize(
    ("profile", "keys", "config", "variables"),
    [
        (None, "", "", VARIABLES),
        (None, f"[default]\n{STATIC}", "", VARIABLES),
        (None, "", "", {**VARIABLES, "AWS_SESSION_TOKEN": "T"}),
        (None, "", "", {**VARIABLES, "AWS_SESSION_TOKEN": "T", "AWS_SECURITY_TOKEN": "S"}),
        (None, f"[default]\n{STATIC}{TOKEN}", "", {}),
        (None, f"[a]\n{STATIC}[default]\n{TOKEN}", "", {"AWS_PROFILE": "a"}),
        (None, f"[a]\n{STATIC}[b]\n{TOKEN}", "", {"AWS_PROFILE": "b", "AWS_DEFAULT_PROFILE": "a"}),
        ("a", f"[a]\n{STATIC}{TOKEN}", "[profile a]\nregion = x\n", VARIABLES),
        ("a", f"[A]\nx=1\n[a]\n{STATIC.upper()}", "[default]\n" + ROLE, {}),
        (None, f"[default]\n{STATIC}s3 =\n  max_concurrent_requests = 20\n", "[b]\nx", {}),
    ],
)
async def test_plain_keys_are_those_that_botocore_finds(
    profile: str | None, keys: str, config: str, variables: dict[str, str], surround: Surround
) -> None:
    surround(keys, "" if config == "[b]\nx" else config, **variables)
    source = find_credentials(profile)
    assert isinstance(source, FixedCredentials)
    expected = Session(profile=profile).get_credentials()
    assert await source.get() == Credentials(
        access_key=expected.access_key,
        secret_key=expected.secret_key,
        session_token=expected.token or "",
    )
    surround(keys, config, **variables)  # a file that is broken is as good as none
    assert await find_credentials(profile).get() == await source.get()


@pytest.mark.parametrize(
    ("keys", "config", "variables"),
    [
        ("", "", {}),
        (f"[default]\n{STATIC}{ROLE}", "", {}),
        (f"[default]\n{STATIC}", "[default]\nrole_arn = x\n", {}),
        (f"[a]\n{STATIC}", "[profile a]\nsso_session = x\n", {"AWS_PROFILE": "a"}),
        (f"[default]\n{STATIC}", "", {"AWS_WEB_IDENTITY_TOKEN_FILE": "/x"}),
        ("[default]\naws_access_key_id = FILE\n", "", {}),
        ("", f"[default]\n{STATIC}", {}),
        ("", "", {**VARIABLES, "AWS_CREDENTIAL_EXPIRATION": "2036-01-01T00:00:00Z"}),
    ],
)
def test_all_else_is_botocores(
    keys: str, config: str, variables: dict[str, str], surround: Surround
) -> None:
    surround(keys, config, **variables)
    assert isinstance(find_credentials(), Renewed)


async def test_keys_that_only_botocore_finds(surround: Surround) -> None:
    surround("", f"[default]\n{STATIC}")
    source = find_credentials()
    first = await source.get()
    assert first == Credentials(access_key="FILE", secret_key=SECRET)
    assert await source.get() is first


def program(folder: Path, seconds: float, *, fails: bool = False) -> str:
    """A profile whose keys come from a program, and end after so many seconds; each run of it
    gives keys of its own and leaves a line in ``folder/runs``."""
    end = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    script = folder / "program.py"
    script.write_text(
        "import json, pathlib, sys\n"
        f"runs = pathlib.Path({str(folder / 'runs')!r})\n"
        "with runs.open('a') as file: print('run', file=file)\n"
        f"if {fails}: sys.exit({SECRET!r})\n"
        "count = len(runs.read_text().split())\n"
        f"print(json.dumps(dict(Version=1, AccessKeyId=f'K{{count}}', SecretAccessKey={SECRET!r},"
        f" SessionToken='T', Expiration={end!r})))\n"
    )
    return f"[default]\ncredential_process = {shlex.join([sys.executable, str(script)])}\n"


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text().split())


async def test_many_who_wait_are_served_by_one(surround: Surround, tmp_path: Path) -> None:
    surround("", program(tmp_path, 3600))
    clock = Instant(0)
    source = find_credentials(clock=clock)
    given_up = asyncio.create_task(source.get())
    others = [asyncio.create_task(source.get()) for _ in range(20)]
    await asyncio.sleep(0)
    given_up.cancel()
    found = await asyncio.gather(*others)
    assert found == [Credentials(access_key="K1", secret_key=SECRET, session_token="T")] * 20
    clock.second += int(CHECK_SECONDS) + 1
    assert await source.get() is found[0]
    assert runs(tmp_path) == 1


async def test_what_ends_soon_is_renewed(surround: Surround, tmp_path: Path) -> None:
    surround("", program(tmp_path, 300))  # within botocore's ten minutes: each look gets others
    clock = Instant(0)
    source = find_credentials(clock=clock)
    first = await source.get()
    assert await source.get() is first
    before = runs(tmp_path)
    clock.second += int(CHECK_SECONDS) + 1
    keys = {await source.get() for _ in range(3)}
    assert keys == {first}, "requests do not wait while the old keys are good"
    async with asyncio.timeout(60):
        while await source.get() is first:
            await asyncio.sleep(0.01)
    assert (await source.get()).access_key == f"K{before + 1}"
    assert runs(tmp_path) == before + 1


async def test_a_program_that_fails_is_not_quoted(surround: Surround, tmp_path: Path) -> None:
    surround("", program(tmp_path, 300, fails=True))
    clock = Instant(0)
    source = find_credentials(clock=clock)
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            await source.get()
        assert SECRET not in caught.value.message
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert runs(tmp_path) == 1, "what has just failed is not tried again at once"
    clock.second += 10
    with pytest.raises(Unavailable):
        await source.get()
    assert runs(tmp_path) == 2


@pytest.mark.parametrize("profile", [None, "nowhere"])
async def test_no_keys_at_all(profile: str | None, surround: Surround) -> None:
    surround()
    with pytest.raises(Unauthenticated, match="eys "):
        await find_credentials(profile).get()


class Ending:
    """Keys that end and fail when they are told to; ``load`` waits for ``may_load``."""

    def __init__(self) -> None:
        self.loads = 0
        self.ended = False
        self.fails = False
        self.may_load = threading.Event()
        self.may_load.set()

    def load(self) -> Credentials:
        assert self.may_load.wait(60)
        if self.fails:
            raise Unavailable("not now")
        self.loads += 1
        self.ended = False
        return Credentials(access_key=f"K{self.loads}", secret_key=SECRET)

    def lasts(self) -> bool:
        return False

    def has_ended(self) -> bool:
        return self.ended


async def test_requests_wait_only_for_keys_that_have_ended() -> None:
    keys, clock = Ending(), Instant(0)
    source = Renewed(keys, NOT_RENEWED, clock)
    first = await source.get()
    keys.may_load.clear()
    clock.second += int(CHECK_SECONDS) + 1
    assert await source.get() is first
    keys.ended = True
    waiting = [asyncio.create_task(source.get()) for _ in range(5)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    keys.may_load.set()
    assert {found.access_key for found in await asyncio.gather(*waiting)} == {"K2"}
    assert keys.loads == 2


async def test_a_renewal_that_fails_is_tried_again_while_the_keys_last() -> None:
    keys, clock = Ending(), Instant(0)
    source = Renewed(keys, NOT_RENEWED, clock)
    first = await source.get()
    keys.fails = True
    clock.second += int(CHECK_SECONDS) + 1
    assert await source.get() is first
    await asyncio.sleep(0.05)
    assert await source.get() is first
    keys.ended = True
    clock.second += 10
    with pytest.raises(Unavailable, match="not now"):
        await source.get()
    keys.fails = False
    clock.second += 10
    assert (await source.get()).access_key == "K2"


def test_nothing_is_shown() -> None:
    keys = Credentials(access_key="AK", secret_key=SECRET, session_token=SECRET)
    for shown in (repr(keys), str(keys), f"{keys}", repr([keys]), repr(FixedCredentials(keys))):
        assert SECRET not in shown
        assert "AK" not in shown
    assert json.dumps({"keys": str(keys)}) == '{"keys": "Credentials()"}'


@pytest.mark.parametrize("own", [True, False])
async def test_a_store_signs_with_the_keys_it_finds(
    own: bool, surround: Surround, tmp_path: Path
) -> None:
    surround(**VARIABLES)
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        body = b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>"
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    keys = {"access_key": "OWN", "secret_key": SECRET} if own else {}
    options = {"endpoint": f"http://127.0.0.1:{port}", **keys}
    store = open_store(StoreSettings(name="s", kind="s3", options=options), tmp_path)
    try:
        assert [bucket async for bucket in store.list_buckets()] == []
    finally:
        await store.close()
        server.close()
    (head,) = heads
    assert f"Credential={'OWN' if own else 'ENV'}/".encode() in head
