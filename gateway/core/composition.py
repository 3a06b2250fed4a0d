"""Puts the core together over its ports, the same way for the gateway and for its tests."""

from dataclasses import dataclass, field

from gateway.core.appender import Appender
from gateway.core.budget import DEFAULT_BUDGET, MemoryBudget
from gateway.core.chunks.assembler import Assembler, AssemblerOptions
from gateway.core.chunks.leftovers import Leftovers
from gateway.core.chunks.recovery import ChunkRecovery
from gateway.core.chunks.space import StagingSpace
from gateway.core.chunks.staging import Staging
from gateway.core.chunks.store import ChunkStore
from gateway.core.chunks.uploads import ChunkedUploads
from gateway.core.claim import ClaimOptions
from gateway.core.completer import Completer, CompleterOptions
from gateway.core.content.policy import TAKES_ALL, ContentPolicy
from gateway.core.creation import Creator, CreatorOptions
from gateway.core.freezer import Freezer
from gateway.core.ports import Clock, Leases, ObjectStore, SessionStore, Sidecars, Storage
from gateway.core.reconciler import Reconciler
from gateway.core.relay import PartRelay, RelayOptions
from gateway.core.service import ServiceOptions, UploadService
from gateway.core.signer import Signer
from gateway.core.sweeper import Sweeper, SweeperOptions
from gateway.core.tail import Tail


@dataclass(frozen=True, slots=True)
class Ports:
    """The world as the core sees it."""

    storage: Storage
    objects: ObjectStore
    sessions: SessionStore
    chunks: ChunkStore
    sidecars: Sidecars
    leases: Leases
    clock: Clock


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """The options of every part of the core.

    `memory` are the bytes that all buffers of the process take together, `staging_limit` those that
    may be staged over all sessions; None is as many as the store takes.
    """

    creator: CreatorOptions
    service: ServiceOptions
    sweeper: SweeperOptions
    completer: CompleterOptions = field(default_factory=CompleterOptions)
    relay: RelayOptions = field(default_factory=RelayOptions)
    append: ClaimOptions = field(default_factory=ClaimOptions)
    assembler: AssemblerOptions = field(default_factory=AssemblerOptions)
    memory: int = DEFAULT_BUDGET
    staging_limit: int | None = None
    policy: ContentPolicy = TAKES_ALL


@dataclass(frozen=True, slots=True)
class Core:
    """What doors call, what runs in the background, and what must be closed at the end."""

    service: UploadService
    sweeper: Sweeper
    completer: Completer
    assembler: Assembler
    budget: MemoryBudget
    space: StagingSpace


def compose(ports: Ports, options: CoreOptions) -> Core:
    """Wire the core over its ports."""
    budget = MemoryBudget(options.memory)
    space = StagingSpace(ports.chunks, options.staging_limit)
    staging = Staging(ports.objects, options.creator.bucket, budget, space, ports.clock)
    recovery = ChunkRecovery(ports.storage, ports.sessions, ports.chunks, staging)
    reconciler = Reconciler(ports.storage, ports.objects, ports.sessions, ports.sidecars, recovery)
    completer = Completer(
        storage=ports.storage,
        objects=ports.objects,
        sessions=ports.sessions,
        sidecars=ports.sidecars,
        leases=ports.leases,
        clock=ports.clock,
        reconciler=reconciler,
        options=options.completer,
        policy=options.policy,
    )
    freezer = Freezer(
        storage=ports.storage,
        sessions=ports.sessions,
        clock=ports.clock,
        reconciler=reconciler,
        completer=completer,
        policy=options.policy,
    )
    assembler = Assembler(
        storage=ports.storage,
        sessions=ports.sessions,
        chunks=ports.chunks,
        sidecars=ports.sidecars,
        staging=staging,
        leases=ports.leases,
        clock=ports.clock,
        reconciler=reconciler,
        recovery=recovery,
        freezer=freezer,
        completer=completer,
        budget=budget,
        options=options.assembler,
        policy=options.policy,
    )
    sweeper = Sweeper(
        storage=ports.storage,
        objects=ports.objects,
        sessions=ports.sessions,
        sidecars=ports.sidecars,
        leases=ports.leases,
        clock=ports.clock,
        reconciler=reconciler,
        freezer=freezer,
        completer=completer,
        assembler=assembler,
        staging=staging,
        space=space,
        leftovers=Leftovers(staging, ports.leases, reconciler),
        options=options.sweeper,
    )
    creator = Creator(
        storage=ports.storage,
        sessions=ports.sessions,
        sidecars=ports.sidecars,
        leases=ports.leases,
        clock=ports.clock,
        reconciler=reconciler,
        sweeper=sweeper,
        options=options.creator,
        policy=options.policy,
    )
    signer = Signer(ports.storage, ports.sessions, options.service.url_lifetime, options.policy)
    relay = PartRelay(
        storage=ports.storage,
        sessions=ports.sessions,
        leases=ports.leases,
        options=options.relay,
        policy=options.policy,
    )
    chunked = ChunkedUploads(
        storage=ports.storage,
        objects=ports.objects,
        sessions=ports.sessions,
        chunks=ports.chunks,
        staging=staging,
        clock=ports.clock,
        reconciler=reconciler,
        creator=creator,
        relay=relay,
        assembler=assembler,
        budget=budget,
        policy=options.policy,
    )
    appender = Appender(
        relay=relay,
        tail=Tail(staging),
        leases=ports.leases,
        reconciler=reconciler,
        budget=budget,
        options=options.append,
    )
    service = UploadService(
        storage=ports.storage,
        objects=ports.objects,
        sessions=ports.sessions,
        clock=ports.clock,
        reconciler=reconciler,
        creator=creator,
        signer=signer,
        relay=relay,
        chunked=chunked,
        appender=appender,
        budget=budget,
        freezer=freezer,
        completer=completer,
        sweeper=sweeper,
        options=options.service,
        policy=options.policy,
    )
    return Core(service, sweeper, completer, assembler, budget, space)
