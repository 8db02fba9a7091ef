# SPDX-License-Identifier: Apache-2.0
"""Turns each defence off, and demands that its attack then gets through: a defence nobody misses is none, or its test tests nothing.

Run as a program it does so for the checks of the core that no parameter turns off; they need a debug build (`make debug`).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
import trio

from tests.server.attacks import ATTACKS, Attack, Numbers, Switch, carry_out, under_attack

BUILD = Path(__file__).parents[1] / "build"
PATIENCE_S = 1.0
"""A server without its defence mostly says nothing: how long to wait for that."""

AT_ONCE = 20


class AnyAttack(Protocol):
    """Of those on servers and on clients, what the table shows."""

    @property
    def name(self) -> str: ...
    @property
    def row(self) -> Numbers: ...
    @property
    def switch(self) -> Switch: ...


@dataclass(frozen=True)
class Outcome:
    """What an attack's check said with the defence off; None: nothing, so it would not notice."""

    attack: AnyAttack
    failure: str | None

    def __str__(self) -> str:
        row = self.attack.row
        numbers = ", ".join(map(str, row if isinstance(row, tuple) else (row,)))
        failure = "NOTHING: NOT NEEDED, OR NOT TESTED" if self.failure is None else " ".join(self.failure.split())
        return f"{self.attack.name:<40} | {numbers:<8} | {self.attack.switch!s:<46} | {failure[:90]}"


@dataclass(frozen=True)
class Structure:
    """A defence that has no switch, since it is how things are made, and the test that would fail were they made otherwise."""

    name: str
    row: Numbers
    """Of the catalogue in tests/security.txt."""
    defence: str
    test: str
    """As pytest has it, below the folder of tests."""

    def __str__(self) -> str:
        return f"{self.name:<40} | {self.row!s:<8} | {self.defence:<46} | {self.test}"


STRUCTURES = (
    Structure("request that never ends", 63, "no handler loops over more than it was sent",
        "server/test_handlers.py::test_every_request_gets_one_answer_in_few_steps"),
    Structure("request to a client that never ends", 63, "no handler loops over more than it was sent",
        "server/test_handlers.py::test_every_request_to_a_client_gets_one_answer"),
    Structure("addresses that only look different", 64, "no JID is made but by preparing it",
        "server/test_negotiation.py::test_addresses_that_are_prepared_alike_are_one_and_long_ones_are_whole"),
    Structure("address too long", 65, "no JID is made but of parts of 1023 octets", "core/test_jid.py::test_part_has_at_most_1023_octets"),
    Structure("SQL in what is stored", 71, "statements are expressions with parameters",
        "store/test_statements.py::test_no_statement_is_put_together_from_strings"),
    Structure("secret of the example", 73, "no key of the configuration is a secret",
        "cli/test_operate.py::test_what_is_commented_out_is_the_default_and_nothing_is_left_out"),
    Structure("power that fails behind <a/>", 77, "synced first, acknowledged then",
        "server/test_durable.py::test_the_message_is_on_disk_before_it_is_acknowledged"),
)  # fmt: skip
"""In the table they stand behind the attacks."""

HEAD = f"{'attack':<40} | {'rows':<8} | {'defence, off':<46} | what the attack's check says then"


async def without(attack: Attack, making: trio.Lock) -> Outcome:
    """Carry out `attack` on a server of its own with the defence off. `making` is held while that is made."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        failure = None
        alone = attack.switch.kind == "code"
        await making.acquire()
        stack.enter_context(attack.switch.off())
        async with under_attack(attack, Path(folder), off=True) as running:
            if not alone:
                stack.close()
                making.release()
            try:
                await carry_out(attack, running, attack.transports[0], PATIENCE_S / 2 if alone else PATIENCE_S)
            except AssertionError as error:
                failure = str(error) or "the check failed"
        if alone:
            stack.close()
            making.release()
        return Outcome(attack, failure)


async def outcomes(attacks: Iterable[Attack]) -> list[Outcome]:
    """All of them, some at a time; those whose switch is a method one after the other, since it is off for everybody."""
    making, places = trio.Lock(), trio.CapacityLimiter(AT_ONCE)
    found: list[Outcome] = []

    async def one(attack: Attack) -> None:
        async with places:
            found.append(await without(attack, making))

    chosen = sorted(attacks, key=lambda attack: attack.switch.kind == "code")
    async with trio.open_nursery() as nursery:
        for attack in chosen:
            if attack.switch.kind != "code":
                nursery.start_soon(one, attack)
    for attack in chosen:
        if attack.switch.kind == "code":
            await one(attack)
    names = [attack.name for attack in ATTACKS]
    return sorted(found, key=lambda outcome: names.index(outcome.attack.name))


def table(found: Iterable[Outcome | Structure]) -> str:
    """The outcomes, and what has no switch, one a line."""
    return "\n".join([HEAD, *map(str, found)])


def report(name: str, text: str) -> None:
    """Print, and leave in the build folder."""
    print(text)
    BUILD.mkdir(exist_ok=True)
    (BUILD / name).write_text(text + "\n")


def main() -> int:
    """Those that need a debug build. Returns 1 if one gets nowhere with the defence off."""
    with structlog.testing.capture_logs():
        found = trio.run(outcomes, [attack for attack in ATTACKS if attack.switch.kind == "bit"])
    print(table(found))
    return int(any(outcome.failure is None for outcome in found))


if __name__ == "__main__":
    sys.exit(main())
