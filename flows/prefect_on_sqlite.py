"""Prefect's own program, but that a transaction on SQLite takes the write lock as it begins.

    python -m flows.prefect_on_sqlite server start    as `prefect server start`

Prefect begins most with BEGIN DEFERRED. One that reads and then writes fails at once, whatever the
timeout, where another has written in between (https://www.sqlite.org/rescode.html#busy_snapshot): an
automation misses its event, and a button of the page answers 503. With BEGIN IMMEDIATE they wait for
each other instead. PostgreSQL has no such trouble and is not touched.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prefect.cli import app
from prefect.server.database.configurations import SQLITE_BEGIN_MODE, AioSqliteConfiguration
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

_begin = AioSqliteConfiguration.begin_transaction


@asynccontextmanager
async def _begin_immediate(
    self: AioSqliteConfiguration, session: AsyncSession, with_for_update: bool = False
) -> AsyncIterator[AsyncSessionTransaction]:
    # One inside another would wait for the lock that its own task holds.
    outermost = SQLITE_BEGIN_MODE.get() is None
    async with _begin(self, session, with_for_update=outermost or with_for_update) as transaction:
        yield transaction


AioSqliteConfiguration.begin_transaction = _begin_immediate  # type: ignore[method-assign]

if __name__ == "__main__":
    app()
