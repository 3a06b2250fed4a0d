"""What one upload works with, of a file or of a stream: connections, threads, figures."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from gateway.client.api import GatewayClient
from gateway.client.completion import wait_settled
from gateway.client.model import Session
from gateway.client.options import UploadOptions
from gateway.client.patience import Patience
from gateway.client.progress import Progress
from gateway.client.relay import RelayConnection
from gateway.client.route import Route
from gateway.client.sender import Sender
from gateway.client.store import StoreConnection
from gateway.client.supply import PartDigests, PartSource
from gateway.client.transfer import Tally


@dataclass(frozen=True, slots=True)
class Workbench:
    """Made by `open`; `readers` are the threads that read what is sent."""

    client: GatewayClient
    store: StoreConnection
    relay: RelayConnection
    route: Route
    readers: ThreadPoolExecutor
    options: UploadOptions
    progress: Progress
    tally: Tally

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        client: GatewayClient,
        readers: ThreadPoolExecutor,
        options: UploadOptions,
        progress: Progress,
        tally: Tally,
    ) -> AsyncIterator[Self]:
        """Open connections to the store, for as long as the block lasts."""
        store = StoreConnection(
            options.parallel,
            stall_timeout=options.stall_timeout,
            connect_timeout=options.connect_timeout,
        )
        relay = RelayConnection(
            client,
            options.parallel,
            stall_timeout=options.stall_timeout,
            connect_timeout=options.connect_timeout,
        )
        route = Route(options.relay, progress)
        async with store, relay:
            yield cls(client, store, relay, route, readers, options, progress, tally)

    def sender(
        self, session: Session, source: PartSource, digests: PartDigests, patience: Patience
    ) -> Sender:
        """Return a sender of this session's parts."""
        return Sender(
            client=self.client,
            store=self.store,
            relay=self.relay,
            route=self.route,
            source=source,
            executor=self.readers,
            digests=digests,
            progress=self.progress,
            patience=patience,
            session_id=session.session_id,
            algorithm=session.checksum_algorithm,
        )

    async def settled(self, session: Session, again: float) -> Session:
        """Wait until the gateway has done with the session; see `wait_settled`."""
        return await wait_settled(
            self.client,
            session,
            again,
            progress=self.progress,
            give_up_after=self.options.give_up_after,
        )
