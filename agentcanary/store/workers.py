"""Workers: their heartbeats, and the time up to which all of them have stored everything."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import delete, or_, select

from agentcanary.store.database import Database, StorePart
from agentcanary.store.schema import batches, workers

# A worker whose last heartbeat is older than this many real seconds is dead.
DEAD_AFTER = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """What a worker says of itself in its heartbeat. All times are Unix seconds.

    Attributes:
        id: Unique for ever.
        agent: The agent that it records.
        host: Name of the machine.
        pid: Its process.
        config_hash: Of the configuration that it runs.
        started_at: When it started.
        reachable_since: Since when every heartbeat of it has reached the store.
        heartbeat_at: Now.
        flushed_until: Everything that it recorded up to then is stored.
        degraded: How often something went wrong in this process, by name.
    """

    id: str
    agent: str
    host: str = ""
    pid: int = 0
    config_hash: str = ""
    started_at: float
    reachable_since: float
    heartbeat_at: float
    flushed_until: float
    degraded: Mapping[str, int] = field(default_factory=dict)


class Workers(StorePart):
    """The workers of a store."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        insert = database.insert(workers)
        new = {column.name: insert.excluded[column.name] for column in workers.columns if not column.primary_key}
        self._beat = database.compiled(insert.on_conflict_do_update(index_elements=[workers.c.id], set_=new))

    def heartbeat(self, worker: Worker) -> None:
        """Store what a worker says of itself."""
        self._database.still_there()
        values = {column.name: getattr(worker, column.name) for column in workers.columns}
        values["degraded"] = json.dumps(dict(worker.degraded))
        self._database.store(self._beat, tuple(values.values()))

    def leave(self, worker_id: str) -> None:
        """Forget a worker that has stored everything and ends, and the batches that it will never send again."""
        with self._database.write() as connection:
            connection.execute(delete(batches).where(batches.c.id.startswith(f"{worker_id}:", autoescape=True)))
            connection.execute(delete(workers).where(workers.c.id == worker_id))

    def workers(self, agent: str | None = None) -> list[Worker]:
        """All workers that did not leave, dead ones included."""
        query = select(workers).order_by(workers.c.started_at, workers.c.id)
        if agent is not None:
            query = query.where(or_(workers.c.agent == agent, workers.c.agent == ""))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return [Worker(**{**row, "degraded": json.loads(row["degraded"])}) for row in rows]

    def watermark(self, agent: str, now: float, *, dead_after: float = DEAD_AFTER) -> float:
        """The time up to which every living worker of the agent has stored everything.

        A worker without a heartbeat for ``dead_after`` seconds is waited for no longer, but only if another one has
        reached the store for that long: after an outage of the store everybody's heartbeats are old, and what was
        recorded meanwhile is still to come.

        Args:
            agent: Name of the agent.
            now: Unix time in seconds.
            dead_after: Seconds of the same clock.
        """
        known = self.workers(agent)
        reachable = any(
            worker.heartbeat_at > now - dead_after and worker.reachable_since <= now - dead_after for worker in known
        )
        nobody = all(worker.heartbeat_at <= now - dead_after for worker in known)
        waited_for = [worker for worker in known if worker.heartbeat_at > now - dead_after or not (reachable or nobody)]
        return min([now, *(worker.flushed_until for worker in waited_for)])
