"""Puts the core together over its ports, the same way for the gateway and for its tests."""

from dataclasses import dataclass, field

from gateway.core.completer import Completer, CompleterOptions
from gateway.core.content import TAKES_ALL, ContentPolicy
from gateway.core.creation import Creator, CreatorOptions
from gateway.core.freezer import Freezer
from gateway.core.ports import Clock, Leases, ObjectStore, SessionStore, Sidecars, Storage
from gateway.core.reconciler import Reconciler
from gateway.core.relay import PartRelay, RelayOptions
from gateway.core.service import ServiceOptions, UploadService
from gateway.core.signer import Signer
from gateway.core.sweeper import Sweeper, SweeperOptions


@dataclass(frozen=True, slots=True)
class Ports:
    """The world as the core sees it."""

    storage: Storage
    objects: ObjectStore
    sessions: SessionStore
    sidecars: Sidecars
    leases: Leases
    clock: Clock


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """The options of every part of the core."""

    creator: CreatorOptions
    service: ServiceOptions
    sweeper: SweeperOptions
    completer: CompleterOptions = field(default_factory=CompleterOptions)
    relay: RelayOptions = field(default_factory=RelayOptions)
    policy: ContentPolicy = TAKES_ALL


@dataclass(frozen=True, slots=True)
class Core:
    """What doors call, what runs in the background, and what must be closed at the end."""

    service: UploadService
    sweeper: Sweeper
    completer: Completer


def compose(ports: Ports, options: CoreOptions) -> Core:
    """Wire the core over its ports."""
    reconciler = Reconciler(ports.storage, ports.objects, ports.sessions, ports.sidecars)
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
    service = UploadService(
        storage=ports.storage,
        objects=ports.objects,
        sessions=ports.sessions,
        clock=ports.clock,
        reconciler=reconciler,
        creator=creator,
        signer=signer,
        relay=PartRelay(
            storage=ports.storage,
            sessions=ports.sessions,
            leases=ports.leases,
            options=options.relay,
            policy=options.policy,
        ),
        freezer=freezer,
        completer=completer,
        sweeper=sweeper,
        options=options.service,
        policy=options.policy,
    )
    return Core(service, sweeper, completer)
