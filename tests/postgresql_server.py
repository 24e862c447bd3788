"""A real PostgreSQL server of our own: in a temporary folder, spoken to over a socket file, stopped by its maker."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

_PORT = 5432
# No test asks what survives a loss of power; a benchmark that does sets it back.
FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class PostgresServer:
    """A server with as many databases as are asked for.

    The programs refuse to run as root: then they run as the user ``postgres``.

    Args:
        settings: Of ``postgresql.conf``.
    """

    def __init__(self, **settings: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="agentcanary-postgresql-"))
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.folder, user.pw_uid, user.pw_gid)
            self._user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._settings = {"max_connections": "80", **FAST, **settings}
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None
        data = self.folder / "data"
        self._run(
            "initdb", "-D", str(data), "-A", "trust", "-U", "agent", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"
        )

    @property
    def version(self) -> str:
        """Of the server's programs."""
        shown = subprocess.run([self._programs / "postgres", "--version"], capture_output=True, text=True, check=True)
        return shown.stdout.strip()

    def start(self, **settings: str) -> None:
        """Start it, with these settings besides, and wait until it answers."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), **self._settings, **settings}
        arguments = [f"-c{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", str(self.folder / "data"), *arguments],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._user,  # type: ignore[call-overload] # user and group, of the same types
            )
        until = time.monotonic() + 20.0
        while True:
            try:
                self.execute("SELECT 1")
            except psycopg.OperationalError:
                if time.monotonic() > until or self._process.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT ends all connections and shuts down; SIGQUIT is a crash."""
        if self._process is None:
            return
        self._process.send_signal(how)
        try:
            self._process.wait(20.0)
        except subprocess.TimeoutExpired:
            self.pause(False)
            self._process.kill()
            self._process.wait(20.0)
        self._process = None

    def pause(self, paused: bool) -> None:
        """Freeze every process of the server, or let them go on: what a client sees of a machine that hangs."""
        if self._process is None:
            return
        how = signal.SIGSTOP if paused else signal.SIGCONT
        for pid in self.pids():
            try:
                os.kill(pid, how)
            except ProcessLookupError:
                continue

    def pids(self) -> list[int]:
        """Its processes, the one that was started first."""
        return [] if self._process is None else [self._process.pid, *_children(self._process.pid)]

    def remove(self) -> None:
        """Stop it and delete everything."""
        self.stop()
        shutil.rmtree(self.folder)

    def execute(self, sql: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The rows of a statement, outside any transaction."""
        with psycopg.connect(host=str(self.folder), user="agent", dbname=database, autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template1") -> str:
        """The name of a new database: empty, or a copy of one that nobody is connected to."""
        name = f"store_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return name

    def url(self, database: str, user: str = "agent") -> str:
        """What a store is made with."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            **self._user,  # type: ignore[call-overload] # as above
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")


@contextmanager
def running(**settings: str) -> Iterator[PostgresServer]:
    """A server that runs for as long as the block."""
    server = PostgresServer(**settings)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
