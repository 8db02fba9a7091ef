# SPDX-License-Identifier: Apache-2.0
"""DATABASE ROUNDS: each round kills a process that stores items, and looks for those it had acknowledged (`test_crash`)."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import sys
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import trio

from xiot.model.nodes import Item, Node
from xiot.store import Store, Transaction

SERVICE, NODE, WRITERS = "pubsub.plant.example", "boiler", 20
NOW = datetime(2026, 11, 22, tzinfo=UTC)


async def write(path: Path, round: int, acks: int) -> None:
    """Store items for ever; write the id of each to the descriptor `acks` once it is stored."""

    def put(tx: Transaction, id: str) -> None:
        if tx.nodes.node(SERVICE, NODE) is None:
            tx.nodes.put_node(Node(SERVICE, NODE, "a@plant.example", NOW))
        tx.nodes.put_item(Item(SERVICE, NODE, id, "a@plant.example", NOW, id.encode() * 10))

    async def writer(number: int, store: Store) -> None:
        for count in range(1_000_000):
            id = f"{round}-{number}-{count}"
            await store.run(partial(put, id=id))
            os.write(acks, f"{id}\n".encode())

    async with Store.open(path) as store, trio.open_nursery() as nursery:
        for number in range(WRITERS):
            nursery.start_soon(writer, number, store)


def kill_while_writing(path: Path, round: int) -> list[str]:
    """Return the ids that were acknowledged before the kill."""
    reading, acks = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        trio.run(write, path, round, acks)
    os.close(acks)
    with open(reading, encoding="ascii") as lines:
        first = lines.readline()
        time.sleep(random.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return (first + lines.read()).splitlines()


def main(path: Path, rounds: int) -> None:
    """Print how many acknowledged items survived; exit code 1 if one did not."""
    acknowledged: set[str] = set()
    for round in range(rounds):
        acknowledged.update(kill_while_writing(path, round))
        connection = sqlite3.connect(path)
        rows = dict(connection.execute("SELECT id, payload FROM pubsub_items"))
        (count,) = connection.execute("SELECT item_count FROM pubsub_nodes").fetchone()
        (integrity,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        lost = acknowledged - rows.keys()
        torn = [id for id, payload in rows.items() if payload != id.encode() * 10]
        if lost or torn or count != len(rows) or integrity != "ok":
            sys.exit(f"round {round}: lost {sorted(lost)}, torn {torn}, {count} of {len(rows)} counted, {integrity}")
    print(len(acknowledged))


main(Path(sys.argv[1]), int(sys.argv[2]))
