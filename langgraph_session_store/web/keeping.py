"""What the server does unasked: sessions of which nothing was heard for long become ``abandoned``."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter

from ..errors import ConfigError, SessionStoreError, StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .reads import ReadStore

log = logging.getLogger(__name__)

FIRST: Final = 60.0  # seconds after the start
EVERY: Final = 600.0


def keeping_router(reads: ReadStore, abandon_after: timedelta) -> APIRouter:
    """Return a router without routes, with which sessions are marked as long as the application runs."""
    if abandon_after < timedelta(0):
        raise ConfigError("abandon_after: a negative time would mark every session that runs")

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(_mark(reads, abandon_after))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return APIRouter(lifespan=lifespan)


async def _mark(reads: ReadStore, abandon_after: timedelta) -> None:
    pause = FIRST
    while True:
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - workers shall not meet
        pause = EVERY
        try:
            marked = await reads.mark_abandoned(abandon_after)
        except (SessionStoreError, StoreError) as error:  # a standby, a reader's role, an outage: the next time may do
            log.debug("no session could be marked as abandoned: %s", type(error).__name__)
        else:
            if marked:
                log.info("marked as abandoned: %d sessions of which nothing was heard for %s", marked, abandon_after)
