"""The library in somebody else's page: another origin, plain http, its methods and its events."""

import asyncio
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

from dashboard.elsewhere import HostPage
from dashboard.upload_page import MIB, PART, write_file
from deployment import TOKEN, Deployment
from playwright.async_api import BrowserContext, Request, Response, Route

import gateway.dashboard

STATIC = Path(gateway.dashboard.__file__).parent / "static"


async def test_the_library_works_from_another_origin_on_plain_http(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    page = elsewhere.page
    assert await page.evaluate("[isSecureContext, crypto.subtle === undefined]") == [False, True]
    await elsewhere.visit(options={"metadata": {"from": "elsewhere"}})
    name = "from-elsewhere.bin"
    content = write_file(files / name, 2 * PART + 1)
    await elsewhere.send(files / name)
    assert len(page.workers) == 1, "the checksums were to be computed in a worker"
    session = await elsewhere.session(name)
    assert (session["state"], session["verified_by"]) == ("completed", "client_parts")
    assert session["metadata"] == {"from": "elsewhere"}
    assert await stored.content(session) == content
    # Verification may be over before anybody looks.
    states = [state for state in await elsewhere.states(name) if state != "verifying"]
    assert states == ["queued", "preparing", "uploading", "completing", "completed"][1:]
    [(_, told)] = await elsewhere.events(name, "done", "error")
    assert told["object"] == session["object"]
    figures = [detail for _, detail in await elsewhere.events(name, "progress")]
    sent = [figure["sent"] for figure in figures]
    assert sent == sorted(sent)
    assert figures[-1]["sent"] == figures[-1]["stored"] == figures[-1]["total"] == len(content)


class TestTokens:
    async def test_a_token_that_expires_in_mid_upload_is_asked_for_again_once(
        self, elsewhere: HostPage, stored: Any, files: Path
    ) -> None:
        """A gateway of its own cannot forget its token, so a door before it does."""
        name = "expiring-token.bin"
        content = write_file(files / name, 4 * PART)
        refused = Counter[str]()
        valid = "first-token"

        async def check(route: Route) -> None:
            headers = await route.request.all_headers()
            token = headers.get("authorization", "").removeprefix("Bearer ")
            if token == valid:
                await route.continue_(headers={**headers, "authorization": f"Bearer {TOKEN}"})
                return
            refused[token] += 1
            problem = {"code": "invalid_token", "message": "The token has expired.", "hint": ""}
            allowed = {"Access-Control-Allow-Origin": elsewhere.site.origin}
            await route.fulfill(status=401, headers=allowed, json=problem)

        await elsewhere.page.route(f"{elsewhere.deployed.url}/uploads**", check)
        await elsewhere.page.route(f"{elsewhere.deployed.url}/uploads/**", check)
        await elsewhere.page.evaluate(
            """() => {
              giveToken = async ({ rejected }) => (rejected === null ? "first" : "second") + "-token";
            }"""
        )
        elsewhere.deployed.proxy.hold_after(1)
        await elsewhere.send(files / name, until=None)
        await elsewhere.until_stored(name, 1)
        valid = "second-token"
        elsewhere.deployed.proxy.release()
        await elsewhere.until(name, "completed")
        assert set(refused) == {"first-token"}
        assert await elsewhere.page.evaluate("asked") == [None, "first-token"]
        assert await stored.content(await elsewhere.session(name)) == content

    async def test_calls_at_once_ask_for_one_token_together(self, elsewhere: HostPage) -> None:
        answers = await elsewhere.page.evaluate(
            """async (token) => {
              giveToken = async ({ rejected }) => {
                await new Promise((resolve) => setTimeout(resolve, 50));
                return rejected === null ? "an-old-token" : token;
              };
              const calls = [1, 2, 3, 4].map(() => uploader.api.find());
              return (await Promise.all(calls)).map(({ uploads }) => Array.isArray(uploads));
            }""",
            TOKEN,
        )
        assert answers == [True] * 4
        assert await elsewhere.page.evaluate("asked") == [None, "an-old-token"]

    async def test_no_token_ends_in_an_error_and_resume_goes_on_with_one(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        write_file(files / "tokenless.bin", 1)
        await elsewhere.page.evaluate("() => { giveToken = () => null }")
        await elsewhere.send(files / "tokenless.bin", until="failed")
        [(_, error)] = await elsewhere.events("tokenless.bin", "error")
        assert (error["code"], error["status"]) == ("unauthenticated", 401)
        assert error["hint"]
        await elsewhere.page.evaluate(f"() => {{ giveToken = async () => '{TOKEN}' }}")
        await elsewhere.tell("tokenless.bin", "resume")
        await elsewhere.until("tokenless.bin", "completed")

    async def test_a_token_that_cannot_be_had_just_now_is_asked_for_again(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        write_file(files / "later.bin", 1)
        await elsewhere.page.evaluate(
            "() => { giveToken = async () => { throw new Error('the login server is away') } }"
        )
        await elsewhere.send(files / "later.bin", until="token_unavailable")
        trouble = (await elsewhere.events("later.bin", "state"))[-1][1]["trouble"]
        assert "the login server is away" in trouble["hint"]
        await elsewhere.page.evaluate(f"() => {{ giveToken = () => '{TOKEN}' }}")
        await elsewhere.tell("later.bin", "retryNow")
        await elsewhere.until("later.bin", "completed")


class TestVerbs:
    async def test_pause_resume_and_abort(self, elsewhere: HostPage, files: Path) -> None:
        name = "verbs.bin"
        write_file(files / name, 4 * PART)
        await elsewhere.hold_after(2)
        await elsewhere.send(files / name, until=None)
        await elsewhere.until_stored(name, 2)
        await elsewhere.tell(name, "pause")
        await elsewhere.until(name, "paused")
        await elsewhere.release()
        tried = elsewhere.tried_parts.total()
        # An answer of the gateway later, nothing has been sent.
        await elsewhere.page.evaluate("() => uploader.api.find()")
        assert elsewhere.tried_parts.total() == tried
        await elsewhere.hold_after(1)
        await elsewhere.tell(name, "resume")
        session = await elsewhere.until_stored(name, 3)
        assert session["state"] == "open"
        await elsewhere.tell(name, "abort")
        await elsewhere.until(name, "aborted")
        assert (await elsewhere.session(name))["state"] == "aborted"
        assert await elsewhere.events(name, "done", "error") == []
        await elsewhere.page.evaluate("(name) => uploader.remove(uploads[name])", name)
        assert await elsewhere.page.evaluate("uploader.uploads.length") == 0

    async def test_an_aborted_upload_that_has_not_begun_never_begins(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        names = ["runs-a.bin", "runs-b.bin", "never.bin"]
        for seed, name in enumerate(names):
            write_file(files / name, MIB, seed=seed)
        await elsewhere.hold_after(0)
        await elsewhere.send(*(files / name for name in names), until=None)
        await elsewhere.until("runs-b.bin", "uploading")
        await elsewhere.tell("never.bin", "abort")
        await elsewhere.until("never.bin", "aborted")
        await elsewhere.release()
        for name in names[:2]:
            await elsewhere.until(name, "completed")
        assert await elsewhere.session("never.bin") == {}


async def test_two_uploads_at_once_share_the_line(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    first, second = files / "first.bin", files / "second.bin"
    contents = {
        path: write_file(path, 5 * PART + 1, seed=at) for at, path in enumerate((first, second))
    }
    tried: list[str] = []
    signed = set[str]()
    both = asyncio.Event()

    def note(request: Request) -> None:
        if "partNumber=" in request.url and request.method == "PUT":
            tried.append(re.sub(r".*/(\w+)\.bin\?.*", r"\1", request.url))

    def note_signed(response: Response) -> None:
        if response.url.endswith("/parts/sign"):
            signed.add(response.url)
            if len(signed) == len(contents):
                both.set()

    elsewhere.page.on("request", note)
    elsewhere.page.on("response", note_signed)
    await elsewhere.hold_after(0)
    await elsewhere.send(first, second, until=None)
    async with asyncio.timeout(60):
        await both.wait()
    await elsewhere.release()
    for path in contents:
        await elsewhere.until(path.name, "completed")
    for path, content in contents.items():
        assert await stored.content(await elsewhere.session(path.name)) == content
    # Whoever is signed first may take all three places; the next three are the other's.
    assert {"first", "second"} == set(tried[:6]), tried


async def test_many_files_wait_their_turn_and_all_arrive(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    contents = {
        f"many-{size}.bin": write_file(files / f"many-{size}.bin", size) for size in range(25)
    }
    await elsewhere.send(*(files / name for name in contents))
    at_once = [count for *_, count in await elsewhere.page.evaluate("events")]
    assert max(at_once) == 2
    listed = (await elsewhere.deployed.call("GET", "/uploads?limit=200"))["uploads"]
    sessions = {session["filename"]: session for session in listed}
    for name in ("many-0.bin", "many-24.bin"):
        assert await stored.content(sessions[name]) == contents[name]
    assert {sessions[name]["verified_by"] for name in contents} == {"client_parts"}


async def test_after_a_reload_the_page_goes_on_with_the_missing_parts_only(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    name = "reloaded-elsewhere.bin"
    content = write_file(files / name, 4 * PART)
    await elsewhere.hold_after(2)
    await elsewhere.send(files / name, until=None)
    session = await elsewhere.until_stored(name, 2)
    await elsewhere.reload()
    await elsewhere.release()
    await elsewhere.send(files / name)
    assert await elsewhere.page.evaluate("(name) => uploads[name].resumed", name)
    assert elsewhere.put_parts.total() == 2
    finished = await elsewhere.session(name)
    assert finished["session_id"] == session["session_id"]
    assert await stored.content(finished) == content


async def test_a_file_that_changes_meanwhile_is_an_error_and_can_be_given_again(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    path = files / "growing.log"
    content = write_file(path, 4 * PART)
    await elsewhere.hold_after(1)
    await elsewhere.send(path, until=None)
    await elsewhere.until_stored(path.name, 1)
    path.write_bytes(content[:-6] + b"edited")
    os.utime(path, (1, 1))
    await elsewhere.release()
    await elsewhere.until(path.name, "failed")
    [(_, error)] = await elsewhere.events(path.name, "error")
    assert error["code"] == "file_changed"
    await elsewhere.send(path)
    assert await stored.content(await elsewhere.session(path.name)) == path.read_bytes()


async def test_an_upload_that_is_aborted_elsewhere_fails_and_can_start_again(
    elsewhere: HostPage, stored: Any, files: Path
) -> None:
    name = "gone-elsewhere.bin"
    content = write_file(files / name, 3 * PART)
    await elsewhere.hold_after(1)
    await elsewhere.send(files / name, until=None)
    session = await elsewhere.until_stored(name, 1)
    await elsewhere.deployed.call("DELETE", f"/uploads/{session['session_id']}")
    await elsewhere.release()
    await elsewhere.until(name, "failed")
    [(_, error)] = await elsewhere.events(name, "error")
    assert error["code"] == "session_gone"
    await elsewhere.tell(name, "resume")
    await elsewhere.until(name, "completed")
    assert await stored.content(await elsewhere.session(name)) == content


class TestWorker:
    async def test_a_page_whose_policy_forbids_workers_uploads_all_the_same(
        self, elsewhere: HostPage, files: Path
    ) -> None:
        await elsewhere.visit(headers={"Content-Security-Policy": "worker-src 'none'"})
        write_file(files / "strict.bin", MIB)
        await elsewhere.send(files / "strict.bin")
        assert elsewhere.page.workers == []
        assert (await elsewhere.session("strict.bin"))["verified_by"] == "client_parts"
        # The browser reports what the page's own policy forbids.
        assert all("worker" in accident for accident in elsewhere.accidents)
        elsewhere.accidents.clear()

    async def test_a_worker_that_dies_takes_no_checksum_with_it(self, elsewhere: HostPage) -> None:
        found = await elsewhere.page.evaluate(
            """async (server) => {
              const started = [];
              const Real = Worker;
              globalThis.Worker = class extends Real {
                constructor(...given) {
                  super(...given);
                  started.push(this);
                }
              };
              const { Digester } = await import(`${server}/static/uploader/digester.js`);
              const digester = new Digester();
              const digest = (text) => digester.digest(new Blob([text]), "crc32c");
              await digest("");
              started[0].terminate();
              const pending = digest("123456789");
              await new Promise((resolve) => setTimeout(resolve));
              started[0].dispatchEvent(new ErrorEvent("error"));
              return [(await pending).checksum, (await digest("123456789")).checksum];
            }""",
            elsewhere.deployed.url,
        )
        # The check value e3069283 in base64.
        assert found == ["4waSgw==", "4waSgw=="]


async def test_a_gateway_that_does_not_let_the_page_in_is_named(
    context: BrowserContext, deployed: Deployment, elsewhere: HostPage, files: Path
) -> None:
    stranger = HostPage(await context.new_page(), deployed, elsewhere.site)
    await stranger.visit(strange=True)
    write_file(files / "strange.bin", 1)
    await stranger.send(files / "strange.bin", until="gateway_blocked")
    trouble = (await stranger.events("strange.bin", "state"))[-1][1]["trouble"]
    assert "cors_origins" in trouble["hint"]
    assert elsewhere.site.strange_origin in trouble["hint"]


class TestTypes:
    """The declarations name what is there, and what they name is there."""

    async def test_every_export_with_its_members(self, elsewhere: HostPage) -> None:
        found = await elsewhere.page.evaluate(
            """async (server) => {
              const module = await import(`${server}/static/uploader.js`);
              const upload = uploader.upload(new File([], "empty"));
              const error = new module.UploadError("code", "message");
              const made = { Uploader: uploader, Upload: upload, Api: uploader.api, UploadError: error };
              const names = (value) => [
                ...Object.keys(value),
                ...Object.getOwnPropertyNames(Object.getPrototypeOf(value)),
              ].filter((name) => !["constructor", "name"].includes(name)).sort();
              return Object.keys(module).map((name) => [name, names(made[name])]);
            }""",
            elsewhere.deployed.url,
        )
        declared = declarations()
        listeners = {"addEventListener", "removeEventListener"}
        assert {name: set(members) for name, members in found} == {
            name: members - listeners for name, members in declared.items()
        }

    def test_every_event_and_every_state(self) -> None:
        source = "".join(path.read_text() for path in sorted((STATIC / "uploader").glob("*.js")))
        types = (STATIC / "uploader.d.ts").read_text()
        events = re.search(r"interface UploadEventMap \{(.*?)\}", types, re.DOTALL)
        states = re.search(r"type UploadState =(.*?);", types, re.DOTALL)
        assert events is not None
        assert states is not None
        dispatched = set(re.findall(r'upload\.dispatchEvent\(new CustomEvent\("(\w+)"', source))
        assert set(re.findall(r"(\w+): CustomEvent", events[1])) == dispatched
        entered = set(re.findall(r'(?:#setState|#halt)\("(\w+)"\)|state = "(\w+)"', source))
        # Those that it takes over from the session while it follows it.
        followed = {"completing", "verifying"}
        named = {name for pair in entered for name in pair if name}
        assert set(re.findall(r'"(\w+)"', states[1])) == named | followed


def declarations() -> dict[str, set[str]]:
    """Return the exported classes of the declarations with their public members."""
    types = (STATIC / "uploader.d.ts").read_text()
    found = {}
    for name, body in re.findall(r"export class (\w+)[^{]*\{\n(.*?)\n\}", types, re.DOTALL):
        members = re.findall(r"^  (?:readonly )?(\w+)[:(<]", body, re.MULTILINE)
        found[name] = set(members) - {"constructor", "private"}
    return found
