"""A Ceph of the tests' own, on loopback, with everything in memory: one monitor, one storage
daemon, and S3 gateways that can be killed and started again."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import hmac
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any, NamedTuple, TextIO
from urllib.parse import urlencode

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "radosgw", "radosgw-admin")
"""What must be installed (Debian: ceph-mon, ceph-osd, ceph-common, radosgw)."""

STORAGE_CLASSES = ("NEARLINE", "COLDLINE", "ARCHIVE")
"""What objects may have besides STANDARD; named like Cloud Storage's."""
KMS_KEYS = ("testkey-1", "testkey-2")

_PATIENCE_SECONDS = 120.0


def missing() -> list[str]:
    """What of ``PROGRAMS`` is not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


# Whoever makes a bucket or a user waits for a gateway that was killed, until its watch ends.
_CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{port}
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 2000
ms bind msgr2 = false
public addr = 127.0.0.1
run dir = {directory}
pid file =
admin socket =
log file = {directory}/$name.log
mon cluster log file = {directory}/cluster.log
keyring = {directory}/keyring
[mon.a]
mon data = {directory}/mon
paxos propose interval = 0.05
paxos min wait = 0.01
[osd.0]
osd data = {directory}/osd
osd objectstore = memstore
osd crush update on start = false
osd class update on start = false
osd client watch timeout = 4
memstore device bytes = 4294967296
[client]
rgw data = {directory}/rgw
rgw crypt require ssl = false
rgw crypt s3 kms backend = testing
rgw crypt s3 kms encryption keys = "{keys}"
"""


class Account(NamedTuple):
    """A user with a namespace of buckets that nobody else has."""

    endpoint: str
    access_key: str
    secret_key: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(done: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        assert time.monotonic() < end, f"{what} took more than {_PATIENCE_SECONDS:.0f} s"
        time.sleep(0.05)


class Daemon:
    """A program in the foreground that does not outlive who started it."""

    def __init__(self, directory: Path, *command: str) -> None:
        # Nothing of it is worth an orderly end.
        with (directory / f"{command[0]}.out").open("ab") as said:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=directory,
            )
        self._name = command[0]

    def check(self) -> None:
        """Fails if it has ended by itself."""
        assert self._process.poll() is None, f"{self._name} ended: {self._process.returncode}"

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Gateway:
    """An S3 gateway on a port of its own; all of a Ceph's gateways serve the same buckets."""

    def __init__(self, directory: Path, name: str, *options: str) -> None:
        self._directory = directory
        self._name = name
        self._options = options
        self.port = free_port()
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._daemon: Daemon | None = None

    def start(self) -> None:
        """Starts it, again on the same port, and waits until it answers. It ends with the thread
        that has started it."""
        assert self._daemon is None
        # Without tcp_nodelay every small reply takes 40 ms.
        frontend = f"--rgw_frontends=beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1"
        configuration = str(self._directory / "ceph.conf")
        self._daemon = daemon = Daemon(
            self._directory,
            "radosgw", "-f", "-c", configuration, "-n", f"client.{self._name}", frontend,
            *self._options,
        )  # fmt: skip

        def answers() -> bool:
            daemon.check()
            try:
                with urllib.request.urlopen(self.endpoint, timeout=10):
                    return True
            except OSError:
                return False

        until(answers, "the start of a gateway")

    def kill(self) -> None:
        """Ends it at once, with all that is under way."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon = None

    def suspend(self) -> None:
        """SIGSTOP: it takes connections and answers nothing."""
        if self._daemon is not None:
            self._daemon.send(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT: it does all that it was asked for meanwhile."""
        if self._daemon is not None:
            self._daemon.send(signal.SIGCONT)


class Ceph:
    """A whole Ceph, or what of one that another process started can be used."""

    def __init__(self, directory: Path, endpoint: str, admin: Account, shared: Path) -> None:
        """``shared``: what other processes give to ``running`` in order to use it as well."""
        self.shared = shared
        self.directory = directory
        self.endpoint = endpoint
        self._admin = admin
        self._gateways = itertools.count(1)

    def new_account(self) -> Account:
        """A user without a bucket, and with a namespace of its own for them."""
        name, secret = secrets.token_hex(8), secrets.token_hex(16)
        self.administer(
            "PUT", "user", **{"uid": f"{name}$user", "display-name": name, "max-buckets": "0",
                              "access-key": name, "secret-key": secret, "key-type": "s3"},
        )  # fmt: skip
        return Account(self.endpoint, name, secret)

    def administer(self, method: str, resource: str, **query: str) -> Any:
        """What the gateway's administrative interface answers."""
        path, date = f"/admin/{resource}", formatdate(usegmt=True)
        text = f"{method}\n\n\n{date}\n{path}"
        digest = hmac.digest(self._admin.secret_key.encode(), text.encode(), hashlib.sha1)
        signature = base64.b64encode(digest).decode()
        request = urllib.request.Request(
            f"{self.endpoint}{path}?{urlencode(query)}",
            method=method,
            headers={"Date": date, "Authorization": f"AWS {self._admin.access_key}:{signature}"},
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.loads(reply.read() or b"null")

    @contextmanager
    def gateway(self, *options: str) -> Iterator[Gateway]:
        """One more gateway, for a test that kills it."""
        name = f"rgw.{os.getpid()}.{next(self._gateways)}"
        gateway = Gateway(self.directory, name, *options)
        try:
            gateway.start()
            yield gateway
        finally:
            gateway.kill()


class _Cluster:
    """The daemons of a Ceph in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._daemons: list[Daemon] = []
        self.gateway = Gateway(directory, "rgw.0")

    def start(self) -> Account:
        """Makes and starts everything; gives who may administer it."""
        directory = self._directory
        port, fsid, osd = free_port(), str(uuid.uuid4()), str(uuid.uuid4())
        keys = (f"{key}={base64.b64encode(secrets.token_bytes(32)).decode()}" for key in KMS_KEYS)
        for name in ("mon", "osd", "rgw"):
            (directory / name).mkdir()
        (directory / "ceph.conf").write_text(
            _CONFIGURATION.format(fsid=fsid, port=port, directory=directory, keys=" ".join(keys))
        )
        keyring, monmap = str(directory / "keyring"), str(directory / "monmap")
        self._run("ceph-authtool", "--create-keyring", keyring, "--gen-key", "-n", "mon.",
                  "--cap", "mon", "allow *")  # fmt: skip
        self._run("ceph-authtool", keyring, "--gen-key", "-n", "client.admin",
                  "--cap", "mon", "allow *", "--cap", "osd", "allow *")  # fmt: skip
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
                  f"[v1:127.0.0.1:{port}]", monmap)  # fmt: skip
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap, "--keyring", keyring)
        self._daemon("ceph-mon", "-f", "-i", "a")
        # In one process, since each takes a second to start. What a storage daemon would say of
        # itself when it starts, it sometimes says too early, and ends.
        place = "osd crush add osd.0 1.0 host=localhost root=default"
        new = f"osd new {osd} 0\n{place}\n"

        def accepted() -> bool:
            done = self._try("ceph", given=new)
            # A monitor that has only just begun may still forbid what everybody may.
            assert done.returncode == 0 or b"EPERM" in done.stderr, done.stderr.decode()
            return done.returncode == 0

        until(accepted, "the start of a monitor")
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._daemon("ceph-osd", "-f", "-i", "0")
        # What comes next waits for the storage to be up.
        admin = Account(self.gateway.endpoint, secrets.token_hex(8), secrets.token_hex(16))
        self._run("radosgw-admin", "user", "create", "--uid=admin", "--display-name=admin",
                  f"--access-key={admin.access_key}", f"--secret-key={admin.secret_key}",
                  "--caps=users=*;buckets=*")  # fmt: skip
        self._add_storage_classes()
        self.gateway.start()
        return admin

    def _add_storage_classes(self) -> None:
        """They differ in their names only: all are in one pool."""
        group = json.loads(self._run("radosgw-admin", "zonegroup", "get"))
        group["placement_targets"][0]["storage_classes"] = ["STANDARD", *STORAGE_CLASSES]
        self._run("radosgw-admin", "zonegroup", "set", given=json.dumps(group))
        zone = json.loads(self._run("radosgw-admin", "zone", "get"))
        classes = zone["placement_pools"][0]["val"]["storage_classes"]
        for name in STORAGE_CLASSES:
            classes[name] = dict(classes["STANDARD"])
        self._run("radosgw-admin", "zone", "set", given=json.dumps(zone))

    def _run(self, program: str, *arguments: str, given: str = "") -> bytes:
        """What it prints."""
        done = self._try(program, *arguments, given=given)
        assert done.returncode == 0, f"{' '.join(done.args)}: {done.stderr.decode()}"
        return done.stdout

    def _try(
        self, program: str, *arguments: str, given: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        for daemon in self._daemons:
            daemon.check()
        command = [program, "-c", str(self._directory / "ceph.conf"), *arguments]
        if program in ("ceph-authtool", "monmaptool"):
            del command[1:3]
        return subprocess.run(
            command,
            input=given.encode(),
            capture_output=True,
            cwd=self._directory,
            timeout=_PATIENCE_SECONDS,
        )

    def _daemon(self, program: str, *arguments: str) -> None:
        configuration = str(self._directory / "ceph.conf")
        self._daemons.append(Daemon(self._directory, program, "-c", configuration, *arguments))

    def close(self) -> None:
        self.gateway.kill()
        for daemon in reversed(self._daemons):
            daemon.kill()


@contextmanager
def running(shared: Path) -> Iterator[Ceph]:
    """The one Ceph of all processes that name the same directory ``shared``: the first to come
    starts it, and stops it when nobody uses it any more."""
    known = shared / "ceph.json"
    with (shared / "ceph.lock").open("w") as lock:
        if not _is_first(lock, known):
            directory, endpoint, admin = json.loads(known.read_text())
            yield Ceph(Path(directory), endpoint, Account(*admin), shared)
            return
        # Not in ``shared``: the path of a socket may be about 100 bytes long.
        made = Path(tempfile.mkdtemp(prefix="longshore-ceph-"))
        cluster = _Cluster(made)
        try:
            account = cluster.start()
            known.write_text(json.dumps([str(made), account.endpoint, account]))
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield Ceph(made, account.endpoint, account, shared)
            fcntl.flock(lock, fcntl.LOCK_EX)
        finally:
            known.unlink(missing_ok=True)
            cluster.close()
            shutil.rmtree(made)


def _is_first(lock: TextIO, known: Path) -> bool:
    """Whether there is no Ceph yet: then nobody else has the lock; else it is shared with those who
    use the one that is ``known``."""
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if known.exists():
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody else was faster, or has just looked
            time.sleep(random.uniform(0.01, 0.1))
            continue
        return True
