# SPDX-License-Identifier: Apache-2.0
"""What chat in EXI costs our server, beside the same in XML: messages per CPU second of the server, and octets on the wire, in one run.

    python benches/load/exi.py [--case chat/10/w64] [--case chat/100/w1] [--seconds 3] [--rounds 3]

The load generator in C speaks XML only. Here clients log in by the client of xiot, over TCP in the clear; then what each sends is coded once, and those octets are sent
again and again, `w` of them under way between the two of a pair. What is received is counted in octets, of which each message has the same number. The driver is slower than the
one in C, so there is no column for messages per second: the CPU time is the server's.
"""

from __future__ import annotations

import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
import trio
from anyio.abc import SocketAttribute
from rich.console import Console
from rich.table import Table

from xiot.client.exi import ExiTransport
from xiot.client.login import Login, establish
from xiot.core import JID
from xiot.server.accounts import Accounts
from xiot.server.config import Config, load
from xiot.store import Store

WAYS = {  # how the sender speaks, and how the receiver does
    "XML to XML": ("xml", "xml"),
    "EXI to EXI": ("exi", "exi"),
    "EXI to XML": ("exi", "xml"),
    "XML to EXI": ("xml", "exi"),
    "EXI to EXI, tables kept": ("exi-session", "exi-session"),
}
PASSWORD = "a long one"
BODY = "numbered chat messages over pairs of connections, 64 octets each"
CONFIG = """
data_dir = "data"
[[host]]
name = "localhost"
[c2s]
listen = ["127.0.0.1:{c2s}"]
listen_tls = []
starttls = "optional"
[accounts]
scram_iterations = 4096
[exi]
listen = ["127.0.0.1:{exi}"]
[log]
level = "error"
"""


@dataclass
class Client:
    """A client that has logged in: its socket, and what codes its stream."""

    sock: socket.socket
    jid: JID
    transport: object

    def send(self, xml: bytes) -> bytes:
        """XML of the stream as it goes on the wire."""
        return self.transport.stream.send(xml) if isinstance(self.transport, ExiTransport) else xml


@dataclass
class Pair:
    """Who sends, what, and to whom; how many octets a message has there."""

    sender: Client
    receiver: Client
    octets: bytes
    size: int
    got: int = 0
    unsent: bytes = b""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def serving(accounts: int) -> Iterator[tuple[int, int, int]]:
    """A server; the ports of XML and of EXI, and its process."""
    with tempfile.TemporaryDirectory(prefix="xiot-load-") as folder:
        ports = {"c2s": free_port(), "exi": free_port()}
        path = Path(folder) / "xiot.toml"
        path.write_text(CONFIG.format(**ports))
        trio.run(add_accounts, load(path), accounts)
        command = [sys.executable, "-c", "from xiot.cli.main import main; main()", "serve", "--config", str(path)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for port in ports.values():
                for _ in range(200):
                    try:
                        socket.create_connection(("127.0.0.1", port), 1).close()
                        break
                    except OSError:
                        time.sleep(0.05)
            yield ports["c2s"], ports["exi"], process.pid
        finally:
            process.kill()  # there is nothing to keep
            process.wait()


def cpu_s(pid: int) -> float:
    """CPU time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def add_accounts(config: Config, count: int) -> None:
    config.data_dir.mkdir()
    async with Store.open(config.database) as store:
        accounts = await Accounts.open(store, config)
        for number in range(count):
            await accounts.add(JID(f"load{number}@localhost"), PASSWORD)


async def login(number: int, encoding: str, ports: tuple[int, int]) -> Client:
    c2s, exi = (f"127.0.0.1:{port}" for port in ports)
    options = {"address": c2s, "tls": "off", "encoding": encoding, "exi_address": exi if encoding != "xml" else None}
    wire = await establish(Login(account=JID(f"load{number}@localhost/r"), password=PASSWORD, **options))  # type: ignore[arg-type]
    below = wire.transport.below if isinstance(wire.transport, ExiTransport) else wire.transport
    sock = socket.socket(fileno=os.dup(below.extra(SocketAttribute.raw_socket).fileno()))
    sock.setblocking(False)
    return Client(sock, wire.jid, wire.transport)


def exchange(pairs: list[Pair], window: int, seconds: float) -> int:
    """Keep `window` messages under way in each pair for so long; how many have come."""
    poll = select.epoll()
    by_fd = {pair.receiver.sock.fileno(): pair for pair in pairs}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    for pair in pairs:
        pair.got, pair.unsent = 0, b""
        push(pair, window)
    total, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, _ in poll.poll(0.1):
            pair = by_fd[fd]
            pair.got += len(pair.receiver.sock.recv(1 << 20))
            come, pair.got = divmod(pair.got, pair.size)
            total += come
            push(pair, come)
    poll.close()
    idle = time.monotonic() + 1
    left = len(pairs) * window
    for pair in pairs:  # what is under way
        while pair.unsent:
            push(pair, 0)
        while left and time.monotonic() < idle + 5 and not (pair.got // pair.size >= window):
            with_data = select.select([pair.receiver.sock], [], [], 1)[0]
            if not with_data:
                raise click.ClickException("messages were lost")
            pair.got += len(pair.receiver.sock.recv(1 << 20))
        if pair.got != window * pair.size:
            raise click.ClickException(f"{pair.got} octets of {window} messages of {pair.size}")
    return total


def push(pair: Pair, count: int) -> None:
    pair.unsent += pair.octets * count
    while pair.unsent:
        try:
            pair.unsent = pair.unsent[pair.sender.sock.send(pair.unsent) :]
        except BlockingIOError:
            select.select([], [pair.sender.sock], [], 1)


def first(pair_of: tuple[Client, Client]) -> Pair:
    """A pair that has settled: a message has the same octets each time from the second on, also where tables are kept."""
    sender, receiver = pair_of
    xml = f"<message to='{receiver.jid}' type='chat' id='m1'><body>{BODY}</body></message>".encode()
    octets, size = b"", 0
    for _ in range(3):
        octets, size = sender.send(xml), 0
        sender.sock.sendall(octets)
        while select.select([receiver.sock], [], [], 0.05 if size else 5)[0]:
            size += len(receiver.sock.recv(1 << 16))
    return Pair(sender, receiver, octets, size)


@click.command()
@click.option("--case", "cases", multiple=True, default=("chat/10/w64", "chat/100/w1"), show_default=True)
@click.option("--seconds", default=3.0, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--json", "target", type=click.Path(path_type=Path))
def main(cases: tuple[str, ...], seconds: float, rounds: int, target: Path | None) -> None:
    """Messages per CPU second of the server, in XML and in EXI."""
    figures: dict[tuple[str, str], list[float]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for _ in range(rounds):
        for case in cases:
            _, count, window = case.split("/")
            for way, encodings in WAYS.items():
                with serving(2 * int(count)) as (c2s, exi, pid):

                    async def clients(
                        ports: tuple[int, int] = (c2s, exi),
                        encodings: tuple[str, str] = encodings,
                        number: int = int(count),
                    ) -> list[Client]:
                        return [await login(index, encodings[index % 2], ports) for index in range(2 * number)]

                    found = trio.run(clients)
                    pairs = [first((found[index], found[index + 1])) for index in range(0, len(found), 2)]
                    exchange(pairs, int(window[1:]), 0.3)
                    before = cpu_s(pid)
                    total = exchange(pairs, int(window[1:]), seconds)
                    figures.setdefault((case, way), []).append(total / (cpu_s(pid) - before))
                    sizes[way] = len(pairs[0].octets), pairs[0].size
                    for client in found:
                        client.sock.close()
    table = Table("case", "way", "k msgs per cpu-s", "of XML", "octets in", "octets out")
    rows = []
    for (case, way), each in figures.items():
        median, xml = statistics.median(each), statistics.median(figures[case, "XML to XML"])
        rows.append({"case": case, "way": way, "per_cpu_s": median, "octets": sizes[way]})
        table.add_row(case, way, f"{median / 1e3:.1f}", f"{median / xml:.2f}", *map(str, sizes[way]))
    Console().print(table)
    if target is not None:
        target.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
