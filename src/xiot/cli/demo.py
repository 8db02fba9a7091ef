# SPDX-License-Identifier: Apache-2.0
"""``xiot demo``: a server on loopback, three things that read this machine, and a subscriber that shows what arrives."""

from __future__ import annotations

import logging
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import click
import psutil
import trio
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import xiot
from xiot.cli.serve import set_up_logs
from xiot.client import Client, Item
from xiot.core import JID
from xiot.model.reading import Field, Reading
from xiot.server.config import load
from xiot.server.server import Server

HOST = "localhost"
ONCE = 10  # readings that --once publishes and checks
TIMEOUT_S = 30.0

CONFIG = f"""
data_dir = "."
[[host]]
name = "{HOST}"
[c2s]
listen = ["127.0.0.1:{{port}}"]
[accounts]
scram_iterations = 4096
"""


def read_load() -> Reading:
    """Load of the processors and use of memory."""
    memory = psutil.virtual_memory()
    return xiot.reading(
        load=(round(psutil.getloadavg()[0], 2), "1"), cpu=(psutil.cpu_percent(), "%"), memory=(memory.percent, "%")
    )


def read_disk() -> Reading:
    """Use of the disk under the root folder, and what was read and written since the machine started."""
    usage, moved = psutil.disk_usage("/"), psutil.disk_io_counters()
    return xiot.reading(
        used=(usage.percent, "%"),
        free=(usage.free, "By"),
        read=(moved.read_bytes if moved else 0, "By"),
        written=(moved.write_bytes if moved else 0, "By"),
    )


def read_network() -> Reading:
    """What the network interfaces have moved since the machine started."""
    moved = psutil.net_io_counters()
    return xiot.reading(
        received=(moved.bytes_recv, "By"),
        sent=(moved.bytes_sent, "By"),
        packets=moved.packets_recv + moved.packets_sent,
    )


THINGS: dict[str, Callable[[], Reading]] = {"load": read_load, "disk": read_disk, "network": read_network}
IN_EXI = "network"
"""The thing whose stream is in EXI (XEP-0322)."""


@dataclass
class Row:
    """The last reading of one thing."""

    reading: Reading
    publisher: JID | None
    latency_s: float


@dataclass
class State:
    """What the view shows."""

    server: Server
    person: JID
    password: str
    rows: dict[str, Row] = field(default_factory=dict)
    measured: dict[str, Reading] = field(default_factory=dict)
    """What each thing has measured last."""
    interval_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(THINGS, 1.0))
    """How often each thing publishes."""
    sent: dict[tuple[str, str], tuple[float, Reading]] = field(default_factory=dict)
    """(node, item id) -> when it was published, and what; until it arrives."""
    arrived: int = 0
    started: float = field(default_factory=monotonic)

    def join(self) -> str:
        """How to log in with any client."""
        address, _ = self.server.addresses[0]
        ca = self.server.certificates.development_ca
        return f"address {address}  JID {self.person}  password {self.password}  CA file {ca}"

    def exports(self) -> str:
        """What another shell needs to log in."""
        address, _ = self.server.addresses[0]
        ca = self.server.certificates.development_ca
        return f"export XIOT_JID={self.person} XIOT_PASSWORD={self.password} XIOT_ADDRESS={address} XIOT_CA_FILE={ca}"


def jid_of(name: str) -> str:
    """The full JID of a thing."""
    return f"{name}@{HOST}/demo"


def thing_of(state: State, name: str) -> xiot.Thing:
    """The thing that gives its last reading, and whose interval can be set, to everybody on this host."""
    thing = xiot.Thing(name, allow=lambda who, _: who.domain == HOST)
    for measured in state.measured[name]:
        thing.field(measured.name, unit=measured.unit)(lambda of=measured.name: state.measured[name][of])

    @thing.field("interval", unit="s", kind="status")
    async def interval() -> float:
        return state.interval_s[name]

    @thing.control("interval", unit="s", low=0.1, high=60)
    async def set_interval(value: float) -> None:
        state.interval_s[name] = value

    return thing


ASK = f"xiot read {jid_of('load')};  xiot set {jid_of('load')} interval 5;  xiot sub load"


@click.command()
@click.option("--once", is_flag=True, help=f"Publish, show and check {ONCE} readings, then exit.")
@click.option(
    "--port", default=0, show_default="any free one", type=click.IntRange(0, 65535), help="Port of the server."
)
def demo(once: bool, port: int) -> None:
    """Show it working: a server, three things that measure this machine, and their readings as they arrive over XMPP."""
    set_up_logs(level=logging.WARNING if once else logging.ERROR)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="xiot-demo-") as folder:
        config = Path(folder, "xiot.toml")
        config.write_text(CONFIG.format(port=port), encoding="utf-8")
        trio.run(until_interrupted, run_once if once else run_live, Server(load(config)), console)


async def until_interrupted(
    run: Callable[[Server, Console], Awaitable[None]], server: Server, console: Console
) -> None:
    """Run until it is done, or until Ctrl-C or SIGTERM: then everything ends in order."""

    async def wait() -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            async for _ in received:
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await run(server, console)
        nursery.cancel_scope.cancel()


async def run_once(server: Server, console: Console) -> None:
    """Publish `ONCE` readings, wait for each, compare."""
    async with started(server) as state:
        with trio.fail_after(TIMEOUT_S):
            async with everybody(state, console) as (things, viewer, watch):
                for number in range(ONCE):
                    name = list(THINGS)[number % len(THINGS)]
                    await publish(state, name, things[name])
                    item = await watch()
                    console.print(f"[bold]{item.node:>8}[/]  {describe(item.reading)}", soft_wrap=True)
                for name in things:
                    await read(state, viewer, name)
                stanzas, octets = traffic(state)
                in_exi = saved(state)
        console.print(
            f"{state.arrived} of {ONCE} readings arrived as sent, from {len(THINGS)} things over TLS and SCRAM, "
            f"in {monotonic() - state.started:.1f} s ({stanzas} stanzas, {octets:,} bytes); all things answered when asked",
            soft_wrap=True,
        )
        console.print(in_exi, soft_wrap=True)


async def run_live(server: Server, console: Console) -> None:
    """Publish each second until Ctrl-C."""
    async with (
        started(server) as state,
        everybody(state, console) as (things, _, watch),
        trio.open_nursery() as nursery,
    ):
        for name, client in things.items():
            nursery.start_soon(publish_for_ever, state, name, client)
        nursery.start_soon(keep_watching, watch)
        with Live(view(state), console=console, refresh_per_second=4) as live:
            while True:
                await trio.sleep(0.25)
                live.update(view(state))


@asynccontextmanager
async def started(server: Server) -> AsyncIterator[State]:
    """The running server, with an account for each thing and one for a person."""
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: server.run(task_status=task_status))
        state = State(server, JID(f"me@{HOST}"), secrets.token_urlsafe(9))
        for name in (*THINGS, "view", "me"):
            await server.accounts.add(JID(f"{name}@{HOST}"), state.password)
        yield state
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def everybody(
    state: State, console: Console
) -> AsyncIterator[tuple[dict[str, Client], Client, Callable[[], Awaitable[Item]]]]:
    """All things logged in and served, and a subscriber of all: the function waits for the next item and checks it."""
    address = str(state.server.addresses[0][0])
    ca_file = state.server.certificates.development_ca
    console.print(f"join with any client: {state.join()}", soft_wrap=True)
    console.print(f"in another shell:\n  {state.exports()}\n  {ASK}", soft_wrap=True)
    async with AsyncExitStack() as stack:

        async def log_in(name: str) -> Client:
            return await stack.enter_async_context(
                xiot.connect(
                    jid_of(name),
                    state.password,
                    address=address,
                    ca_file=ca_file,
                    encoding="exi-session" if name == IN_EXI else "xml",
                )
            )

        things = {name: await log_in(name) for name in THINGS}
        viewer = await log_in("view")
        send, receive = trio.open_memory_channel[Item](100)
        nursery = await stack.enter_async_context(trio.open_nursery())
        for name, client in things.items():
            await publish(state, name, client)  # makes the node
            nursery.start_soon(client.serve, thing_of(state, name))
            items = await stack.enter_async_context(viewer.subscribe(name))
            nursery.start_soon(forward, items, send)
            check(state, await receive.receive())  # the last item comes with the subscription

        async def watch() -> Item:
            item = await receive.receive()
            check(state, item)
            return item

        state.arrived = 0
        yield things, viewer, watch
        nursery.cancel_scope.cancel()


async def forward(items: AsyncIterator[Item], send: trio.MemorySendChannel[Item]) -> None:
    async for item in items:
        await send.send(item)


async def publish(state: State, name: str, client: Client) -> None:
    reading = state.measured[name] = THINGS[name]()
    id = secrets.token_hex(8)
    state.sent[name, id] = monotonic(), reading
    await client.publish(name, reading, id=id)


async def publish_for_ever(state: State, name: str, client: Client) -> None:
    while True:
        await publish(state, name, client)
        await trio.sleep(state.interval_s[name])


async def read(state: State, viewer: Client, name: str) -> None:
    """Ask a thing, compare what it says with what it has measured. Raises ClickException."""
    reading = await viewer.things.read(jid_of(name), kinds="momentary")
    if reading.fields != state.measured[name].fields or reading.errors:
        raise click.ClickException(f"{name} did not answer with what it has measured")


async def keep_watching(watch: Callable[[], Awaitable[Item]]) -> None:
    while True:
        await watch()


def check(state: State, item: Item) -> None:
    """Compare what arrived with what was sent. Raises ClickException."""
    when, reading = state.sent.pop((item.node, item.id))
    if item.reading != reading or item.publisher is None or item.publisher.bare != JID(f"{item.node}@{HOST}"):
        raise click.ClickException(f"the reading {item.id} of {item.node} did not arrive as it was sent")
    state.arrived += 1
    state.rows[item.node] = Row(item.reading, item.publisher, monotonic() - when)


def traffic(state: State) -> tuple[int, int]:
    """Stanzas routed, and octets on all connections of now."""
    connections = state.server.pump.connections()
    return state.server.router.routed + state.server.metrics.stanzas.total(), sum(
        c.bytes_in + c.bytes_out for c in connections
    )


def saved(state: State) -> str:
    """What the thing in EXI has sent and received, and what that would have been as XML."""
    streams = [c.exi for c in state.server.pump.connections() if c.exi is not None]
    octets = sum(exi.octets_in + exi.octets_out for exi in streams)
    xml = sum(exi.xml_in + exi.xml_out for exi in streams)
    return f"{IN_EXI} speaks EXI: {octets:,} bytes in place of {xml:,}, {1 - octets / max(xml, 1):.0%} saved"


def describe(reading: Reading) -> str:
    """Fields with their units, in one line."""
    return "  ".join(f"{f.name} {number(f)}{' ' + f.unit if f.unit and f.unit != '1' else ''}" for f in reading)


def number(f: Field) -> str:
    """The value as people read it."""
    if isinstance(f.value, float) and f.value.is_integer():
        return f"{f.value:,.0f}"
    return f"{f.value:,}" if isinstance(f.value, int | float) else str(f.value)


def view(state: State) -> Panel:
    """The screen of now."""
    table = Table(expand=True, box=None, header_style="bold")
    for heading in ("thing", "field", "value", "unit", "arrived after"):
        table.add_column(heading, justify="right" if heading in ("value", "arrived after") else "left")
    for name in sorted(state.rows):
        row = state.rows[name]
        for index, f in enumerate(row.reading):
            first = index == 0
            table.add_row(
                f"[bold cyan]{row.publisher.bare if row.publisher else name}[/]" if first else "",
                f.name,
                number(f),
                f.unit or "",
                f"{row.latency_s * 1000:.1f} ms" if first else "",
            )
        table.add_section()
    stanzas, octets = traffic(state)
    seconds = max(monotonic() - state.started, 0.001)
    counts = f"{state.arrived} readings   {stanzas / seconds:.1f} stanzas/s   {octets:,} bytes   {len(state.server.pump)} connections"
    return Panel(
        Group(
            table,
            Text(counts, style="dim"),
            Text(saved(state), style="bold"),
            Text(f"join with any client: {state.join()}", style="green"),
            Text(f"in another shell, after the export above: {ASK}", style="green"),
        ),
        title="xiot demo",
        subtitle="Ctrl-C ends it",
    )
