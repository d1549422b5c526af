"""Blows to every kind of process of a cluster."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.cluster.gateways import Gateways, Way
from tests.cluster.harbour import Cluster, Program
from tests.services.postgresql import Postgresql

STOPPED_AT_ONCE = 2
"""The others meet blows meanwhile."""
CALM_SECONDS = 1.0
KEEP_SECONDS = 1.0
"""How often it is seen who has ended, as whoever keeps services does."""


class Storm:
    """Blows, one after the other, until there were enough; runs beside the jobs.

    What was stopped stands still for ``stop_seconds`` while others are killed, and then goes on.
    """

    def __init__(
        self,
        cluster: Cluster,
        server: Postgresql,
        gateways: Gateways | None,
        chance: random.Random,
        stop_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._server = server
        self._gateways = gateways
        self._chance = chance
        self._stop_seconds = stop_seconds
        self._stopped: dict[object, threading.Timer] = {}
        self.dealt: Counter[str] = Counter()
        self.over = threading.Event()
        self.faults: list[str] = []
        self._enough = threading.Event()
        self._threads: list[threading.Thread] = []
        self._hands = threading.Lock()
        """On the programs: who ends one starts it as well, before anybody misses it."""
        self._blow = threading.Lock()

    def begin(self, blows: int) -> None:
        """Deal ``blows`` from now on; where one cannot be dealt that is a fault, and the last."""
        self._threads = [
            threading.Thread(target=self._run, args=(blows,)),
            threading.Thread(target=self._keep),
        ]
        for one in self._threads:
            one.start()

    def _keep(self) -> None:
        """Start what has ended by itself, as a service does that met no database at its start."""
        cluster = self._cluster
        while not self._enough.wait(KEEP_SECONDS):
            with self._hands:
                for program in (cluster.scheduler, *cluster.services, *cluster.machines):
                    if not program.running():
                        program.start()

    def end(self) -> None:
        """Deal no more blows; returns once nothing stands still."""
        self._enough.set()
        for one in self._threads:
            one.join()

    @contextmanager
    def calm(self) -> Iterator[None]:
        """Everything goes on, what was stopped has done what it was at, and no blow is dealt."""
        with self._blow:
            for timer in list(self._stopped.values()):
                timer.join()
            time.sleep(CALM_SECONDS)
            yield

    def _run(self, blows: int) -> None:
        kinds: list[Callable[[], str | None]] = [
            *[self._kill_worker] * 4,
            *[self._stop_worker] * 3,
            *[self._kill_program] * 6,
            *[self._stop_program] * 6,
            *[self._end_program] * 2,
            *[self._restart_database] * 2,
            self._stop_database,
        ]
        if self._gateways is not None:
            kinds += [self._kill_gateway] * 2
            kinds += [self._stop_gateway, self._end_gateway_for_a_while] * 2
        try:
            while self.dealt.total() < blows and not self._enough.is_set():
                with self._blow:
                    dealt = self._chance.choice(kinds)()
                if dealt is not None:
                    self.dealt[dealt] += 1
                    time.sleep(self._chance.uniform(0.2, 2.0))
        except (OSError, subprocess.SubprocessError, AssertionError) as error:
            self.faults.append(f"a blow could not be dealt: {error!r}")
        finally:
            for timer in list(self._stopped.values()):
                timer.join()
            self.over.set()

    def _program(self) -> tuple[str, Program] | None:
        """One that does not stand still, and what it is."""
        cluster = self._cluster
        kind = self._chance.choice(("scheduler", "service", "machine", "machine"))
        programs = {
            "scheduler": [cluster.scheduler],
            "service": cluster.services,
            "machine": cluster.machines,
        }[kind]
        one = self._chance.choice(programs)
        return None if one in self._stopped else (kind, one)

    def _stop_for_a_while(
        self, what: object, suspend: Callable[[], None], resume: Callable[[], None], name: str
    ) -> str | None:
        if len(self._stopped) >= STOPPED_AT_ONCE:
            return None

        def go_on() -> None:
            try:
                resume()
            finally:
                del self._stopped[what]

        suspend()
        timer = self._stopped[what] = threading.Timer(self._stop_seconds, go_on)
        timer.start()
        return f"{name} stopped for {self._stop_seconds:g} s"

    def _worker(self) -> int | None:
        machine = self._chance.choice(self._cluster.machines)
        children = [] if machine in self._stopped else machine.children()
        return self._chance.choice(children) if children else None

    def _kill_worker(self) -> str | None:
        """SIGKILL for a process that carries shards; its parent lives."""
        if (pid := self._worker()) is None:
            return None
        _signal(pid, signal.SIGKILL)
        return "worker killed"

    def _stop_worker(self) -> str | None:
        """Its parent goes on, and may lose its patience."""
        if (pid := self._worker()) is None or pid in self._stopped:
            return None
        return self._stop_for_a_while(
            pid,
            lambda: _signal(pid, signal.SIGSTOP),
            lambda: _signal(pid, signal.SIGCONT),
            "worker",
        )

    def _kill_program(self) -> str | None:
        if (found := self._program()) is None:
            return None
        kind, program = found
        with self._hands:
            program.kill()
            time.sleep(self._chance.uniform(0, 1))
            program.start()
        return f"{kind} killed"

    def _stop_program(self) -> str | None:
        if (found := self._program()) is None:
            return None
        kind, program = found
        return self._stop_for_a_while(program, program.suspend, program.resume, kind)

    def _end_program(self) -> str | None:
        """SIGTERM, and as whoever starts services does, SIGKILL if that is not heard."""
        if (found := self._program()) is None:
            return None
        kind, program = found
        how = "asked to end"
        with self._hands:
            try:
                program.stop()
            except subprocess.TimeoutExpired:
                how = "asked to end, in vain"
                program.kill()
            program.start()
        return f"{kind} {how}"

    def _restart_database(self) -> str | None:
        if self._server in self._stopped:
            return None
        self._server.stop(self._chance.choice(("fast", "immediate")))
        time.sleep(self._chance.uniform(0, 1))
        self._server.start()
        return "PostgreSQL restarted"

    def _way(self) -> tuple[Gateways, Way] | None:
        """A gateway that works."""
        assert self._gateways is not None
        way = self._chance.choice(self._gateways.ways)
        return None if way in self._stopped else (self._gateways, way)

    def _kill_gateway(self) -> str | None:
        if (found := self._way()) is None:
            return None
        gateways, way = found
        gateways.kill(way)
        time.sleep(self._chance.uniform(0, 1))
        gateways.start(way)
        return "gateway killed"

    def _stop_gateway(self) -> str | None:
        """It takes connections, and answers nobody."""
        if (found := self._way()) is None:
            return None
        gateways, way = found
        return self._stop_for_a_while(
            way, lambda: gateways.suspend(way), lambda: gateways.resume(way), "gateway"
        )

    def _end_gateway_for_a_while(self) -> str | None:
        """Whoever wants to connect to it is turned away."""
        if (found := self._way()) is None:
            return None
        gateways, way = found
        return self._stop_for_a_while(
            way, lambda: gateways.kill(way), lambda: gateways.start(way), "gateway killed, and"
        )

    def _stop_database(self) -> str | None:
        if self._server in self._stopped:
            return None
        server = self._server
        return self._stop_for_a_while(server, server.suspend, server.resume, "PostgreSQL")


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
