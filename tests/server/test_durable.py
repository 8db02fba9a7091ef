# SPDX-License-Identifier: Apache-2.0
"""What the server has acknowledged stays: kills, the order of fsync and acknowledgement, disks that are full or read-only.

Two clients on durable links, which live through it all, send each other messages. Others go to an account that is offline; their senders have stream management, so that
they know how many the server has dealt with (security, catalogue 77: acknowledged before durable).
"""

from __future__ import annotations

import os
import random
import re
import resource
import signal
import subprocess
import sys
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
SENDERS = ("romeo", "tybalt")
ASK_EACH = 5  # messages between requests for an acknowledgement
ROUND_MESSAGES = 300  # of each sender: fewer than are kept for one account
SM = "{urn:xmpp:sm:3}"
SETTINGS = settings(registrations_per_address_per_hour=0)

pytestmark = pytest.mark.skipif(not we_have("XEP-0160"), reason="xiot has no XEP-0160")


def stage(address: str, folder: Path) -> Stage:
    """How to reach a server."""
    dial = partial(trio.open_tcp_stream, *parse_address(address))
    return Stage("xiot", dial, client_context(folder / "tls/ca.pem"))


def clear(address: str) -> Stage:
    """How to reach one without TLS."""
    return Stage("xiot", partial(trio.open_tcp_stream, *parse_address(address)), None)


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


class Warm:
    """Servers that start at once; each in a process of its own, as ``xiot serve`` is."""

    def __init__(self, helper: trio.Process) -> None:
        self._helper = helper

    @asynccontextmanager
    async def serve(self, folder: Path) -> AsyncIterator[tuple[int, str]]:
        """A server with its files in `folder`: the number of its process, and where it listens. It is killed at the end."""
        config, log = folder / "xiot.toml", folder / "log"
        config.write_text(settings(starttls="off", plain=True, registrations_per_address_per_hour=0))
        log.write_bytes(b"")
        assert self._helper.stdin is not None
        assert self._helper.stdout is not None
        await self._helper.stdin.send_all(f"{config}\t{log}\n".encode())
        with trio.fail_after(30):
            process = int(await self._helper.stdout.receive_some())
            try:
                while not (found := re.search(r"listening .*address=(\S+)", log.read_text())):
                    os.kill(process, 0)
                    await trio.sleep(0.005)
            except ProcessLookupError:
                raise AssertionError(log.read_text()) from None
        try:
            yield process, found[1]
        finally:
            with trio.move_on_after(20, shield=True), suppress(ProcessLookupError):
                while True:
                    os.kill(process, signal.SIGKILL)
                    await trio.sleep(0.002)
        assert "Traceback" not in log.read_text()


@pytest.fixture
async def warm() -> AsyncIterator[Warm]:
    """Where servers come from."""
    command = [sys.executable, "-m", "tests.server.warm"]
    helper = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield Warm(helper)
    assert helper.stdin is not None
    assert helper.stdout is not None
    await helper.stdin.aclose()
    with trio.fail_after(10):
        await helper.wait()
    await helper.stdout.aclose()


@dataclass
class Count:
    """How many messages of a sender have gone out in one round, and how many of them the server has acknowledged."""

    sent: int = 0
    acknowledged: int = 0


async def send_until_killed(at: Stage, name: str, round: int, count: Count) -> None:
    """Send numbered messages; the server ends it."""
    with suppress(Gone, OSError):
        async with client(at, name, managed=True) as sender:
            while count.sent < ROUND_MESSAGES:
                await sender.send(message(f"{name} {round} {count.sent}"))
                count.sent += 1
                if count.sent % ASK_EACH == 0:
                    count.acknowledged = await acknowledged(sender)


class DurableClient:
    """A client on a durable link, through one connection after the other; of the number of each message it knows whether it has come."""

    def __init__(self, name: str, other: str) -> None:
        self.name = name
        self.other = other
        self.resumed = 0
        self.waiting: list[str] = []  # sent, and not acknowledged
        self.sent = 0
        self.received: list[int] = []
        self._id = ""
        self._acknowledged = self._handled = 0
        self._line = trio.Lock()

    @property
    def acknowledged(self) -> int:
        """How many of its messages the server has, for all it knows."""
        return self.sent - len(self.waiting)

    async def begin(self, at: Stage) -> None:
        """Have a session, and break the connection."""
        async with at.connect() as stream:
            await stream.log_in(self.name)
            await stream.bind("durable")
            await stream.send(f"<enable xmlns='{SM[1:-1]}' resume='true' d:durable='1' xmlns:d='urn:xiot:durable:0'/>")
            enabled = await stream.next()
            assert enabled.get("{urn:xiot:durable:0}durable") == "true"
            self._id = enabled.get("id") or ""
            await stream.send(f"<r xmlns='{SM[1:-1]}'/>")
            assert (await stream.next()).tag == f"{SM}a"

    async def run(self, at: Stage) -> None:
        """Go on, until the server is cut off."""
        try:
            async with at.connect() as stream:
                await stream.log_in(self.name)
                await stream.send(f"<resume xmlns='{SM[1:-1]}' previd='{self._id}' h='{self._handled}'/>")
                resumed = await stream.next()
                assert resumed.tag == f"{SM}resumed", "the session is lost"
                self._acknowledge(int(resumed.get("h") or 0))
                self.resumed += 1
                for again in self.waiting:
                    await stream.send(again)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, stream)
                    await self._read(stream)
        except* (Gone, OSError):
            pass

    async def _send(self, stream: Client, xml: str) -> None:
        async with self._line:
            await stream.send(xml)

    async def _write(self, stream: Client) -> None:
        with suppress(Gone):
            while True:
                if len(self.waiting) < 100:
                    text = message(str(self.sent), f"{self.other}@localhost/durable")
                    self.waiting.append(text)
                    self.sent += 1
                    await self._send(stream, text)
                if random.random() < 0.2:
                    await self._send(stream, f"<r xmlns='{SM[1:-1]}'/>")
                await trio.sleep(random.expovariate(2000))

    async def _read(self, stream: Client) -> None:
        while True:
            element = await stream.next()
            if element.tag == f"{SM}a":
                self._acknowledge(int(element.get("h") or 0))
            elif element.tag == f"{SM}r":
                await self._send(stream, f"<a xmlns='{SM[1:-1]}' h='{self._handled}'/>")
            else:
                assert element.tag == "{jabber:client}message"
                assert element.get("type") == "chat", [each.tag for each in element.iter()]
                self.received.append(int(element.findtext("{jabber:client}body") or -1))
                self._handled += 1

    def _acknowledge(self, h: int) -> None:
        assert self._acknowledged <= h <= self.sent
        del self.waiting[: h - self._acknowledged]
        self._acknowledged = h


class Kill:
    """The end of the process, and of nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cut(self, process: int) -> None:
        """Do it, now."""
        os.kill(process, signal.SIGKILL)

    def start_again(self) -> None:
        """Have `folder` as the next process finds it."""


class PowerCut(Kill):
    """The end of the machine: what the kernel had not yet written to the disk, an image of a file system, is lost with it."""

    def __init__(self, folder: Path, image: Path) -> None:
        super().__init__(folder)
        self.image = image

    def cut(self, process: int) -> None:
        os.kill(process, signal.SIGSTOP)  # so that the copy is of one moment
        image = self.image.read_bytes()
        while (again := self.image.read_bytes()) != image:  # the kernel writes on
            image = again
        self.image.with_suffix(".cut").write_bytes(image)
        os.kill(process, signal.SIGKILL)

    def start_again(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)
        self.image.with_suffix(".cut").replace(self.image)
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.folder)], check=True)


class Trial:
    """Cut the server off again and again; each time all that was acknowledged must be there once."""

    def __init__(self, how: Kill, warm: Warm) -> None:
        self._how = how
        self._warm = warm
        self._total = Count()
        self._kept = 0
        self._pair = (DurableClient("nurse", "mercutio"), DurableClient("mercutio", "nurse"))
        self._folder = how.folder

    async def run(self) -> str:
        """Do it ROUNDS times; returns the figures."""
        async with self._warm.serve(self._folder) as (_, address):
            at = clear(address)
            for name in (*SENDERS, "juliet", "nurse", "mercutio"):
                await at.register(name)
            for each in self._pair:
                await each.begin(at)
        known = await self._round(0, {})
        for round in range(1, ROUNDS):
            known = await self._round(round, known)
        await self._last(known)
        assert self._total.acknowledged >= ROUNDS * ASK_EACH
        assert self._total.sent > self._total.acknowledged, "nothing was ever cut short"
        assert all(each.resumed >= ROUNDS // 2 for each in self._pair)
        sent = sum(each.sent for each in self._pair)
        return (
            f"{self._total.sent} sent to be stored, {self._total.acknowledged} acknowledged, {self._kept} kept; "
            f"on durable links {sent} sent, each received once and in order; none lost, none twice"
        )

    async def _round(self, round: int, known: dict[str, Count]) -> dict[str, Count]:
        """Look for what was acknowledged in the last round, then cut the server off: at once, or while messages flow."""
        if round:
            self._how.start_again()
        counts = {name: Count() for name in SENDERS}
        async with self._warm.serve(self._folder) as (process, address), trio.open_nursery() as nursery:
            at = clear(address)
            for each in self._pair:
                nursery.start_soon(each.run, at)
            await self._look(at, round, known)
            for name, count in counts.items():
                nursery.start_soon(send_until_killed, at, name, round, count)
            if round % 4:
                with trio.fail_after(30):
                    while not any(count.acknowledged for count in counts.values()):
                        await trio.sleep(0.001)
                await trio.sleep(random.uniform(0, 0.15))
            else:  # while they log in, or resume
                await trio.sleep(random.uniform(0, 0.05))
            known = {name: Count(count.sent, count.acknowledged) for name, count in counts.items()}
            durable = [each.acknowledged for each in self._pair]
            self._how.cut(process)
        for name, count in counts.items():
            count.acknowledged = known[name].acknowledged
        for each, before in zip(self._pair, durable, strict=True):
            assert each.acknowledged >= before
        return counts

    async def _look(self, at: Stage, round: int, known: dict[str, Count]) -> None:
        bodies = await kept(at) if known else []
        self._kept += len(bodies)
        for name, count in known.items():
            numbers = [int(body.split()[2]) for body in bodies if body.startswith(f"{name} {round - 1} ")]
            assert numbers == list(range(len(numbers))), "a message is lost, comes twice, or has overtaken another"
            assert count.acknowledged <= len(numbers) <= count.sent, "an acknowledged message is lost"
            self._total.sent += count.sent
            self._total.acknowledged += count.acknowledged
        for each in self._pair:
            assert each.received == list(range(len(each.received))), (
                "on a durable link one is lost, twice or out of order"
            )

    async def _last(self, known: dict[str, Count]) -> None:
        """Nothing is cut any more: all must arrive."""
        self._how.start_again()
        async with self._warm.serve(self._folder) as (_, address), trio.open_nursery() as nursery:
            at = clear(address)
            await self._look(at, ROUNDS, known)
            assert await kept(at) == [], "what was delivered comes again"
            goals = [each.sent for each in self._pair]
            for each in self._pair:
                nursery.start_soon(each.run, at)
            with trio.fail_after(30):
                while any(len(one.received) < goal for one, goal in zip(reversed(self._pair), goals, strict=True)):
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        await self._look(at, ROUNDS, {})


@pytest.mark.security(row=77)
async def test_no_acknowledged_message_is_lost_or_comes_twice_when_the_server_is_killed(
    tmp_path: Path, warm: Warm, capsys: pytest.CaptureFixture[str]
) -> None:
    """kill -9 at a random moment, while messages are being stored, and on durable links."""
    figures = await Trial(Kill(tmp_path), warm).run()
    with capsys.disabled():
        print(f"\n{ROUNDS} kills of the server: {figures}")


@pytest.mark.security(row=77)
async def test_no_acknowledged_message_is_lost_or_comes_twice_when_the_power_fails(
    tmp_path: Path, warm: Warm, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk as it is at a random moment, without what is in the kernel's memory only."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    await trio.run_process([program("mkfs.ext4"), "-q", str(image)])
    await mount("-o", "loop", str(image), str(folder))
    try:
        figures = await Trial(PowerCut(folder, image), warm).run()
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
        at = stage(running.addresses[0], tmp_path)
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
        at = stage(running.addresses[0], folder)
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
        await stage(running.addresses[0], small_disk).register("romeo")
    await trio.run_process(["mount", "-o", "remount,ro", str(small_disk)])
    command = [*COMMAND, "serve", "--config", str(small_disk / "xiot.toml")]
    refused = await trio.run_process(command, check=False, capture_stderr=True)
    assert refused.returncode == 1
    errors = [line for line in refused.stderr.decode().splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert "xiot.db" in errors[0]
    assert b"Traceback" not in refused.stderr
    await trio.run_process(["mount", "-o", "remount,rw", str(small_disk)])
    async with serve(small_disk, SETTINGS) as running, client(stage(running.addresses[0], small_disk), "romeo"):
        pass
