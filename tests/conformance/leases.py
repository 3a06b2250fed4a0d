"""What all Leases must do: subclass `LeasesSuite`, and give it a `leases` fixture."""

import asyncio

import pytest

from gateway.core.ports import Lease, Leases


class LeasesSuite:
    """Needs a fixture `leases`."""

    async def test_one_holder_at_a_time(self, leases: Leases) -> None:
        results = await asyncio.gather(*(leases.acquire("work", seconds=30) for _ in range(20)))

        held = [lease for lease in results if lease is not None]
        assert len(held) == 1
        assert await leases.acquire("other work", seconds=30) is not None
        await held[0].release()
        assert await leases.acquire("work", seconds=30) is not None

    async def test_lease_ends_by_itself_unless_it_is_renewed(self, leases: Leases) -> None:
        lease = await leases.acquire("short", seconds=0.5)
        assert lease is not None
        for _ in range(6):
            await asyncio.sleep(0.1)
            assert await lease.renew()
            assert await leases.acquire("short", seconds=0.5) is None

        await self._acquire_soon(leases, "short")

        assert not await lease.renew()

    async def test_release_leaves_another_holder_alone(self, leases: Leases) -> None:
        lost = await leases.acquire("contended", seconds=0.001)
        assert lost is not None
        second = await self._acquire_soon(leases, "contended")

        await lost.release()

        assert await leases.acquire("contended", seconds=30) is None
        assert await second.renew()

    async def test_lapsed_lease_can_be_renewed_while_nobody_has_it(self, leases: Leases) -> None:
        lease = await leases.acquire("lapsed", seconds=30)
        assert lease is not None
        await lease.release()

        assert await lease.renew()
        assert await leases.acquire("lapsed", seconds=30) is None

    @pytest.mark.parametrize("name", ["0123456789abcdef" * 2, "sweep", "ünïcode {x} name"])
    async def test_names_are_free(self, leases: Leases, name: str) -> None:
        lease = await leases.acquire(name, seconds=30)
        assert lease is not None
        assert await leases.acquire(name, seconds=30) is None
        await lease.release()

    async def _acquire_soon(self, leases: Leases, name: str) -> Lease:
        async with asyncio.timeout(5):
            # A lease that runs out tells nobody.
            while (lease := await leases.acquire(name, seconds=30)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return lease
