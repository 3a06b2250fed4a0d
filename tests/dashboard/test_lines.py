"""The library on bad lines, from another origin: slow, cut, refused, late, and with wrong clocks."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from dashboard.elsewhere import HostPage
from dashboard.upload_page import MIB, PART, PART_URLS, write_file
from faults.proxy import Fault, Kind
from playwright.async_api import Route

MINUTE = 60_000
URL_LIFETIME = 900
SIGN = "**/parts/sign"
# As a wrong clock is seen by everything in a page: Date in all its forms.
SKEW = """(() => {
  const Real = Date;
  globalThis.Date = class extends Real {
    constructor(...given) {
      super(...(given.length ? given : [Real.now() + %d]));
    }
    static now() {
      return Real.now() + %d;
    }
  };
})()"""


class Signing:
    """What the page asks for when it has parts signed."""

    def __init__(self, page: HostPage) -> None:
        self.asked: list[dict[str, Any]] = []
        page.page.on("request", self._note)

    def _note(self, request: Any) -> None:
        if request.method == "POST" and request.url.endswith("/parts/sign"):
            self.asked.append(request.post_data_json)

    @property
    def numbers(self) -> list[int]:
        return sorted(part["part_number"] for body in self.asked for part in body["parts"])

    @property
    def lives(self) -> list[int]:
        return [body["expires_in"] for body in self.asked if "expires_in" in body]


async def test_a_slow_line_signs_little_ahead_and_for_as_long_as_it_takes(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    name = "slow.bin"
    content = write_file(files / name, 50 * MIB)
    await elsewhere.visit(options={"create": {"part_size": 5 * MIB}})
    signing = Signing(elsewhere)
    await elsewhere.slow_down(10 * MIB)
    await elsewhere.send(files / name)
    assert await stored.content(await elsewhere.session(name)) == content
    assert elsewhere.put_parts == dict.fromkeys(range(1, 11), 1)
    # Nothing has been signed twice, since everything was used within its life.
    assert signing.numbers == list(range(1, 11))
    assert signing.lives, "by then the rate was known"
    assert all(60 < life < URL_LIFETIME / 5 for life in signing.lives)


async def test_offline_waits_and_online_goes_on_from_another_origin(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    name = "cable.bin"
    content = write_file(files / name, 4 * PART)
    elsewhere.deployed.proxy.hold_after(1)
    await elsewhere.send(files / name, until=None)
    await elsewhere.until_stored(name, 1)
    await elsewhere.page.context.set_offline(True)
    await elsewhere.until(name, "offline")
    elsewhere.deployed.proxy.release()
    await elsewhere.page.context.set_offline(False)
    await elsewhere.until(name, "completed")
    assert await stored.content(await elsewhere.session(name)) == content
    assert "offline" in await elsewhere.states(name)
    assert await elsewhere.events(name, "error") == []


@pytest.mark.parametrize("skew", [20 * MINUTE, -20 * MINUTE])
async def test_a_clock_twenty_minutes_wrong_does_no_harm(
    elsewhere: HostPage, files: Path, skew: int
) -> None:
    name = f"skewed-{skew}.bin"
    write_file(files / name, PART + 1)
    signing = Signing(elsewhere)
    await elsewhere.page.add_init_script(SKEW % (skew, skew))
    await elsewhere.visit()
    wrong = await elsewhere.page.evaluate("new Date().getTime()")
    assert abs(wrong - await elsewhere.page.evaluate("performance.timeOrigin") - skew) < MINUTE
    await elsewhere.send(files / name)
    assert signing.numbers == [1, 2]
    assert elsewhere.put_parts == {1: 1, 2: 1}
    assert abs(await elsewhere.page.evaluate("uploader.api.clockOffset") + skew) < MINUTE


async def test_a_store_that_fails_now_and_then_costs_only_the_parts_that_failed(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    name = "shaky-elsewhere.bin"
    content = write_file(files / name, 5 * PART + MIB)
    proxy = elsewhere.deployed.proxy
    proxy.forget()
    harm = [
        proxy.add(Fault("UploadPart", Kind.SLOW_DOWN, part=1)),
        proxy.add(Fault("UploadPart", Kind.RESET, part=3, at=MIB)),
        # Stored, but nobody hears of it.
        proxy.add(Fault("UploadPart", Kind.DROP, part=5, after=True)),
        proxy.add(Fault("UploadPart", Kind.FLIP_REQUEST, part=6)),
    ]
    await elsewhere.send(files / name)
    assert [fault.hits for fault in harm] == [1, 1, 1, 1]
    assert proxy.stored == {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 6: 1}
    session = await elsewhere.session(name)
    assert session["verified_by"] == "client_parts"
    assert await stored.content(session) == content


async def test_an_address_that_really_expires_is_signed_anew(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    """The store itself refuses it; the page believes it to be good for a quarter of an hour."""
    name = "expired-elsewhere.bin"
    content = write_file(files / name, PART)
    expiring: list[str] = []

    async def sign_briefly(route: Route) -> None:
        if expiring:
            await route.continue_()
            return
        body = {**route.request.post_data_json, "expires_in": 1}
        answer = await route.fetch(post_data=body)
        signed = await answer.json()
        expiring.append(signed["parts"][0]["expires_at"])
        signed["parts"][0]["expires_at"] = "2999-01-01T00:00:00.000Z"
        await route.fulfill(response=answer, json=signed)

    async def put_late(route: Route) -> None:
        if "X-Amz-Expires=1&" in route.request.url and route.request.method == "PUT":
            # A life cannot be shorter than a second.
            await asyncio.sleep(2)
        await route.continue_()

    signing = Signing(elsewhere)
    await elsewhere.page.route(SIGN, sign_briefly)
    await elsewhere.page.route(PART_URLS, put_late)
    proxy = elsewhere.deployed.proxy
    proxy.forget()
    await elsewhere.send(files / name)
    assert signing.numbers == [1, 1]
    assert [call.store_status for call in proxy.find("UploadPart")][-2:] == [403, 200]
    assert await stored.content(await elsewhere.session(name)) == content


class TestFlow:
    """How many parts are on the way, tried without any line."""

    async def run(self, elsewhere: HostPage, module: str, script: str) -> Any:
        return await elsewhere.page.evaluate(
            f"""async (server) => {{
              const module = await import(`${{server}}/static/uploader/{module}.js`);
              const {{ Flow, partsAhead, lifeOf }} = module;
              {script}
            }}""",
            elsewhere.deployed.url,
        )

    async def test_one_more_after_each_round_and_half_after_an_error(
        self, elsewhere: HostPage
    ) -> None:
        limits = await self.run(
            elsewhere,
            "flow",
            """
            const flow = new Flow(8);
            flow.join("a");
            const seen = [flow.limit];
            const now = () => performance.now();
            for (let i = 0; i < 3; i += 1) flow.succeeded(now());
            seen.push(flow.limit);
            for (let i = 0; i < 100; i += 1) flow.succeeded(now());
            seen.push(flow.limit);
            const startedAt = now();
            // The clock of a page is coarse, and may stand still for longer than a turn takes.
            while (now() <= startedAt) await new Promise((resolve) => setTimeout(resolve, 1));
            flow.failed(startedAt);
            flow.failed(startedAt);
            // What began before the failure neither counts again nor ends the delay.
            flow.succeeded(startedAt);
            seen.push(flow.limit, flow.closedFor > 0, flow.enter("a"));
            flow.open();
            seen.push(flow.enter("a"));
            for (let i = 0; i < 10; i += 1) flow.failed(now());
            seen.push(flow.limit);
            return seen;
            """,
        )
        assert limits == [3, 4, 8, 4, True, False, True, 1]

    async def test_places_go_round_among_those_who_want_them(self, elsewhere: HostPage) -> None:
        turns = await self.run(
            elsewhere,
            "flow",
            """
            const flow = new Flow(1);
            flow.join("a");
            flow.join("b");
            const turns = [];
            const turn = () => {
              for (const who of ["a", "b"]) if (flow.enter(who)) turns.push(who);
            };
            for (let i = 0; i < 4; i += 1) {
              turn();
              flow.leave(turns.at(-1));
            }
            // One that wants nothing more, or is gone, is not waited for.
            turn();
            flow.pass("b");
            flow.leave("a");
            turns.push(flow.enter("a"), flow.enter("b"));
            flow.quit("b");
            flow.leave("a");
            turns.push(flow.enter("a"));
            return turns;
            """,
        )
        assert turns == ["a", "b", "a", "b", "a", True, False, True]

    async def test_a_window_is_as_long_as_the_line_is_fast_and_lives_as_long_as_it_takes(
        self, elsewhere: HostPage
    ) -> None:
        windows, lives = await self.run(
            elsewhere,
            "window",
            """
            const partSize = 8 * 2 ** 20;
            const rates = [null, 0, 1e4, 2e6, 1e7, 1e9];
            const MIB = 2 ** 20;
            return [
              rates.map((rate) => partsAhead({ rate, partSize, limit: 4 })),
              [lifeOf(null, MIB), lifeOf(0, MIB), lifeOf(MIB, 0), lifeOf(MIB, 100 * MIB),
               lifeOf(1, 1e12)],
            ];
            """,
        )
        assert windows == [4, 4, 1, 3, 12, 32]
        assert lives == [None, None, 60, 360, 604_800]
