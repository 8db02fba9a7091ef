# SPDX-License-Identifier: Apache-2.0
"""What the server has acknowledged stays: kills, the order of fsync and acknowledgement, disks that are full or read-only.

Messages for an account that is offline go to ``xiot serve``, a process of its own; their sender has stream management, so that he knows
how many the server has dealt with (security, catalogue 77: acknowledged before durable).
"""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.scripts.stages import Client, Gone, Stage, we_have
from tests.shared import missing, program
from xiot.net.dial import parse_address
from xiot.net.tls import client_context

from .serving import settings
from .test_serve import COMMAND, Process, serve

ROUNDS = 200 if os.environ.get("XIOT_SOAK") == "1" else 10
SENDERS = ("romeo", "tybalt", "nurse")
ASK_EACH = 5  # messages between requests for an acknowledgement
ROUND_MESSAGES = 300  # of each sender: fewer than are kept for one account
SM = "{urn:xmpp:sm:3}"
SETTINGS = settings(registrations_per_address_per_hour=0)

pytestmark = pytest.mark.skipif(not we_have("XEP-0160"), reason="xiot has no XEP-0160")


def stage(running: Process, folder: Path) -> Stage:
    """How to reach the process."""
    dial = partial(trio.open_tcp_stream, *parse_address(running.addresses[0]))
    return Stage("xiot", dial, client_context(folder / "tls/ca.pem"))


@asynccontextmanager
async def client(at: Stage, name: str, *, managed: bool = False) -> AsyncIterator[Client]:
    """`name`, logged in and bound; with stream management if `managed`."""
    async with at.connect() as found:
        await found.log_in(name)
        await found.bind("durable")
        if managed:
            await found.send("<enable xmlns='urn:xmpp:sm:3'/>")
            assert (await found.next()).tag == f"{SM}enabled"
        yield found


async def acknowledged(sender: Client) -> int:
    """How many stanzas the server says it has dealt with."""
    await sender.send("<r xmlns='urn:xmpp:sm:3'/>")
    while (element := await sender.next()).tag != f"{SM}a":
        pass
    return int(element.get("h") or 0)


def message(body: str, to: str = "juliet@localhost") -> str:
    return f"<message to='{to}' type='chat' id='{body}'><body>{body}</body></message>"


async def kept(at: Stage) -> list[str]:
    """The bodies that wait for juliet, in their order; she takes them all."""
    async with client(at, "juliet") as juliet:
        await juliet.send("<presence/><iq type='get' id='end' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
        bodies = []
        with trio.fail_after(30):
            while (element := await juliet.next()).get("id") != "end":
                if element.tag.endswith("message"):
                    bodies.append(element.findtext("{jabber:client}body") or "")
        await juliet.send("</stream:stream>")
        with suppress(Gone), trio.fail_after(10):
            while True:
                await juliet.next()
        return bodies


@dataclass
class Count:
    """How many messages of a sender have gone out in one round, and how many of them the server has acknowledged."""

    sent: int = 0
    acknowledged: int = 0


async def send_until_killed(at: Stage, name: str, round: int, count: Count) -> None:
    """Send numbered messages; the server ends it."""
    with suppress(Gone):
        async with client(at, name, managed=True) as sender:
            while count.sent < ROUND_MESSAGES:
                await sender.send(message(f"{name} {round} {count.sent}"))
                count.sent += 1
                if count.sent % ASK_EACH == 0:
                    count.acknowledged = await acknowledged(sender)


class Kill:
    """The end of the process, and of nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cut(self, running: Process) -> None:
        """Do it, now."""
        running.process.send_signal(signal.SIGKILL)

    def start_again(self) -> None:
        """Have `folder` as the next process finds it."""


class PowerCut(Kill):
    """The end of the machine: what the kernel had not yet written to the disk, an image of a file system, is lost with it."""

    def __init__(self, folder: Path, image: Path) -> None:
        super().__init__(folder)
        self.image = image

    def cut(self, running: Process) -> None:
        running.process.send_signal(signal.SIGSTOP)  # so that the copy is of one moment
        shutil.copyfile(self.image, self.image.with_suffix(".cut"))
        running.process.send_signal(signal.SIGKILL)

    def start_again(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)
        self.image.with_suffix(".cut").replace(self.image)
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.folder)], check=True)


async def cut_while_sending(running: Process, at: Stage, round: int, how: Kill) -> dict[str, Count]:
    """Have all senders send, and cut the server off a moment after the first acknowledgement."""
    counts = {name: Count() for name in SENDERS}
    async with trio.open_nursery() as nursery:
        for name, count in counts.items():
            nursery.start_soon(send_until_killed, at, name, round, count)
        with trio.fail_after(30):
            while not any(count.acknowledged for count in counts.values()):
                await trio.sleep(0.001)
        await trio.sleep(random.uniform(0, 0.15))
        known = {name: count.acknowledged for name, count in counts.items()}
        how.cut(running)
    for name, count in counts.items():
        count.acknowledged = known[name]
    return counts


async def survive(how: Kill) -> str:
    """Cut the server off ROUNDS times; each time all that was acknowledged must be there once. Returns the figures."""
    total, received, folder = Count(), 0, how.folder
    async with serve(folder, SETTINGS) as running:
        at = stage(running, folder)
        for name in (*SENDERS, "juliet"):
            await at.register(name)
        counts = await cut_while_sending(running, at, 0, how)
    for round in range(1, ROUNDS + 1):
        how.start_again()
        async with serve(folder, SETTINGS) as running:
            at = stage(running, folder)
            bodies = await kept(at)
            received += len(bodies)
            for name, count in counts.items():
                numbers = [int(body.split()[2]) for body in bodies if body.startswith(f"{name} {round - 1} ")]
                assert numbers == list(range(len(numbers))), "a message is lost, comes twice, or has overtaken another"
                assert count.acknowledged <= len(numbers) <= count.sent, "an acknowledged message is lost"
                total.sent += count.sent
                total.acknowledged += count.acknowledged
            assert await kept(at) == [], "what was delivered comes again"
            if round < ROUNDS:
                counts = await cut_while_sending(running, at, round, how)
    assert total.acknowledged >= ROUNDS * ASK_EACH
    assert total.sent > total.acknowledged, "nothing was ever cut short"
    return f"{total.sent} sent, {total.acknowledged} acknowledged, {received} kept; none lost, none twice"


@pytest.mark.security(row=77)
async def test_no_acknowledged_message_is_lost_or_comes_twice_when_the_server_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 at a random moment while messages are being stored."""
    figures = await survive(Kill(tmp_path))
    with capsys.disabled():
        print(f"\n{ROUNDS} kills of the server: {figures}")


@pytest.mark.security(row=77)
async def test_no_acknowledged_message_is_lost_or_comes_twice_when_the_power_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk as it is at a random moment while messages are being stored, without what is in the kernel's memory only."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    await trio.run_process([program("mkfs.ext4"), "-q", str(image)])
    await mount("-o", "loop", str(image), str(folder))
    try:
        figures = await survive(PowerCut(folder, image))
    finally:
        with trio.CancelScope(shield=True):
            await trio.run_process(["umount", "-l", str(folder)])
    with capsys.disabled():
        print(f"\n{ROUNDS} power cuts: {figures}")


async def mount(*arguments: str) -> None:
    """Mount something, or skip the test: only root may."""
    done = await trio.run_process(["mount", *arguments], check=False, capture_stderr=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.decode().strip()}")


@pytest.mark.security(row=77)
async def test_the_message_is_on_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    """strace: between the write of a message to the log of the database and the ``<a/>`` there is a sync of that file."""
    tracer = program("strace")
    async with serve(tmp_path, SETTINGS) as running:
        at = stage(running, tmp_path)
        for name in ("romeo", "juliet"):
            await at.register(name)
        async with client(at, "romeo", managed=True) as romeo:
            trace = tmp_path / "trace"
            calls = "trace=write,pwrite64,fsync,fdatasync,sendto,sendmsg"
            tracing = await trio.lowlevel.open_process(
                [tracer, "-f", "-y", "-e", calls, "-o", str(trace), "-p", str(running.process.pid)],
                stderr=subprocess.PIPE,
            )
            assert tracing.stderr is not None
            with trio.fail_after(20):
                attached = b""
                while b"attached" not in attached:
                    data = await tracing.stderr.receive_some()
                    if not data:
                        missing(f"strace cannot attach here: {attached.decode().strip()}")
                    attached += data
                for number in range(5):
                    await romeo.send(message(str(number)))
                    assert await acknowledged(romeo) == number + 1
            tracing.send_signal(signal.SIGINT)
            await tracing.wait()
            await tracing.stderr.aclose()
    steps = [step for line in trace.read_text().splitlines() if (step := _step(line)) is not None]
    text = "".join(steps)
    # w: a write to the log, s: its sync, a: octets to the client. Each answer comes after writes that were synced.
    assert re.fullmatch(r"(?:w+s+(?:[ws]*s)?a+)+(?:w|s|a)*", text), text
    assert text.count("s") >= 5
    assert not re.search(r"wa", text), text


def _step(line: str) -> str | None:
    if "xiot.db-wal" in line:
        return "s" if "sync(" in line else "w"
    if re.search(r"(sendto|sendmsg|write)\(\d+<(?:TCP|socket):", line):
        return "a"
    return None


@contextmanager
def full_limit(running: Process, _: Path) -> Iterator[Callable[[], None]]:
    """Files of the process may not grow: a write fails with EFBIG."""
    soft, hard = resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (1, hard))
    yield lambda: resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full_disk(_: Process, folder: Path) -> Iterator[Callable[[], None]]:
    """The file system has no block left: a write fails with ENOSPC."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield filler.unlink


@pytest.fixture
async def small_disk(tmp_path: Path) -> AsyncIterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    await mount("-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder))
    yield folder
    with trio.CancelScope(shield=True):
        await trio.run_process(["umount", "-l", str(folder)])


Trouble = Callable[[Process, Path], AbstractContextManager[Callable[[], None]]]


async def refused_and_recovered(folder: Path, trouble: Trouble) -> None:
    """While the disk takes nothing what would be stored is refused, and all else works; afterwards all is as it was."""
    async with serve(folder, SETTINGS) as running:
        at = stage(running, folder)
        for name in ("romeo", "juliet", "nurse"):
            await at.register(name)
        async with client(at, "romeo") as romeo, client(at, "nurse") as nurse:
            await nurse.send("<presence/>")
            await nurse.next()
            await romeo.send(message("before"))
            assert await outcome(romeo) is None
            with trouble(running, folder) as mend:
                for number in range(3):
                    await romeo.send(message(f"during-{number}"))
                    assert await outcome(romeo) == "resource-constraint"
                roster = "<query xmlns='jabber:iq:roster'><item jid='juliet@localhost'/></query>"
                await romeo.send(f"<iq type='set' id='set'>{roster}</iq>")
                assert await outcome(romeo) == "resource-constraint"
                await romeo.send("<iq type='get' id='get'><query xmlns='jabber:iq:roster'/></iq>")
                assert (await romeo.next()).get("type") == "result"
                await romeo.send(message("online", "nurse@localhost"))
                assert (await nurse.next()).findtext("{jabber:client}body") == "online"
                async with client(at, "juliet"):
                    pass  # somebody may still log in
                mend()
            await romeo.send(message("after"))
            assert await outcome(romeo) is None
        assert await kept(at) == ["before", "after"]
        assert running.process.poll() is None
    assert "Traceback" not in running.log


async def outcome(sender: Client) -> str | None:
    """The condition of the error that came for what was sent last, None if there came none."""
    await sender.send("<iq type='get' id='done' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>")
    condition = None
    with trio.fail_after(30):
        while (element := await sender.next()).get("id") != "done":
            error = element.find("{jabber:client}error")
            if error is not None:
                condition = error[0].tag.rpartition("}")[2]
    return condition


async def test_files_that_may_not_grow_are_resource_constraint_until_they_may(tmp_path: Path) -> None:
    await refused_and_recovered(tmp_path, full_limit)


@pytest.mark.security(row=76, statement=25)
async def test_a_full_disk_is_resource_constraint_until_it_has_room(small_disk: Path) -> None:
    await refused_and_recovered(small_disk, full_disk)


async def test_a_read_only_disk_is_one_line_at_the_start_and_served_from_once_writable(small_disk: Path) -> None:
    async with serve(small_disk, SETTINGS) as running:
        await stage(running, small_disk).register("romeo")
    await trio.run_process(["mount", "-o", "remount,ro", str(small_disk)])
    command = [*COMMAND, "serve", "--config", str(small_disk / "xiot.toml")]
    refused = await trio.run_process(command, check=False, capture_stderr=True)
    assert refused.returncode == 1
    errors = [line for line in refused.stderr.decode().splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "xiot.db" in errors[0]
    assert b"Traceback" not in refused.stderr
    await trio.run_process(["mount", "-o", "remount,rw", str(small_disk)])
    async with serve(small_disk, SETTINGS) as running, client(stage(running, small_disk), "romeo"):
        pass
