"""A file is never in the browser's memory, however large it is."""

import asyncio
import re
from contextlib import suppress
from pathlib import Path

import pytest
from dashboard.elsewhere import HostPage
from dashboard.upload_page import MIB
from playwright.async_api import Browser

SIZE = 1024 * MIB
# Seen: 90 MiB, of processes that have just been started.
MOST_GROWTH = 256 * MIB


async def memory(browser: Browser) -> int:
    """Return the bytes of memory that are the browser's own, over all of its processes."""
    devtools = await browser.new_browser_cdp_session()
    found = await devtools.send("SystemInfo.getProcessInfo")
    await devtools.detach()
    return sum(own_bytes(process["id"]) for process in found["processInfo"])


def own_bytes(process: int) -> int:
    """Return what a process has for itself, without files; 0 when it has ended."""
    with suppress(OSError):
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
        kinds = re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.MULTILINE)
        return 1024 * sum(map(int, kinds))
    return 0


@pytest.mark.large
@pytest.mark.timeout(400)
async def test_memory_does_not_grow_with_the_file(
    browser: Browser, elsewhere: HostPage, files: Path
) -> None:
    path = files / "large.bin"
    with path.open("wb") as file:
        file.truncate(SIZE)
    before = await memory(browser)
    await elsewhere.send(path, until="uploading")
    over = "() => ['completed', 'failed'].includes(Object.values(uploads)[0].state)"
    sending = asyncio.create_task(elsewhere.page.wait_for_function(over, timeout=300_000))
    peak = before
    while not sending.done():
        peak = max(peak, await memory(browser))
        await asyncio.wait([sending], timeout=0.2)
    await sending
    await elsewhere.until(path.name, "completed")
    assert before > 20 * MIB, "the browser's processes were to be found"
    assert peak - before < MOST_GROWTH, f"from {before // MIB} to {peak // MIB} MiB"
