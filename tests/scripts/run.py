# SPDX-License-Identifier: Apache-2.0
"""Play transcripts at a stage, and print who passes what.

python -m tests.scripts.run [--stage memory,tcp,tasks,prosody,ejabberd] [PART OF A NAME ...]
"""

from __future__ import annotations

import argparse
import itertools
import logging
import re
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import structlog
import trio

from tests.shared import ROOT

from .stages import ANSWER_S, STAGES, Client, Gone, Stage, absent, open_stage
from .transcript import Mismatch, Scenario, Step, compare, compare_any_order, elements, fill_in, find, is_named, read

REPORT = ROOT / "build/scripts.txt"
AT_ONCE = 8
SETTLE = "settle-"
_serial = itertools.count(1)


def scenarios(parts: Iterable[str] = ()) -> list[Scenario]:
    """All transcripts beside this file, or those whose name has one of `parts` in it."""
    wanted = tuple(parts)
    found = [each for path in sorted(Path(__file__).parent.glob("*.txt")) for each in read(path)]
    return [each for each in found if not wanted or any(part in each.name for part in wanted)]


@dataclass(frozen=True)
class Outcome:
    """How one scenario went at one stage."""

    scenario: Scenario
    result: str
    """``pass``, ``fail``, ``differs`` (as the transcript says), ``passes`` (although it says differs), or ``lacks``."""
    text: str = ""
    """Where it failed and what was there, or the reason."""

    @property
    def good(self) -> bool:
        """Returns whether it is as expected."""
        return self.result in ("pass", "differs", "lacks")


class Failure(Exception):
    """A step went wrong."""


class Actor:
    """One client of a transcript, between its connection and its steps."""

    def __init__(self, client: Client, cast: Cast) -> None:
        self.client = client
        self.cast = cast
        self.bound = False
        self.gone = False
        self._waiting: list[Element] = []
        self._send, self._receive = trio.open_memory_channel[Element | None](10_000)

    async def read(self) -> None:
        """Read for ever."""
        try:
            while True:
                element = await self.client.next()
                if not (element.get("id") or "").startswith(SETTLE):
                    self.cast.map_back(element)
                self._send.send_nowait(element)
        except Gone:
            self._send.send_nowait(None)

    async def send(self, xml: str) -> None:
        await self.client.send(xml)

    async def next(self) -> Element:
        """The next element; those that nobody asked for come first. Raises Gone, TooSlowError."""
        while True:
            if self._waiting:
                element: Element | None = self._waiting.pop(0)
            else:
                with trio.fail_after(ANSWER_S / 2):
                    element = await self._receive.receive()
            if element is None:
                self.gone = True
                raise Gone
            if not is_named(element, self.cast.passing_over):
                return element

    async def settle(self, id: str) -> None:
        """Come back once the server has answered an iq: all that it did for us before has come."""
        if not self.bound or self.gone:
            return
        try:
            await self.client.send(
                f"<iq type='get' id='{SETTLE}{id}' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
            )
            with trio.fail_after(ANSWER_S):
                while True:
                    element = await self._receive.receive()
                    if element is None:
                        self.gone = True
                        return
                    if element.get("id") == SETTLE + id:
                        return
                    self._waiting.append(element)
        except Gone:
            self.gone = True

    def take_all(self) -> list[Element]:
        """What came and was not asked for."""
        found = [element for element in self._waiting if not is_named(element, self.cast.passing_over)]
        self._waiting.clear()
        return found


class Cast:
    """Everybody in one performance of a scenario."""

    def __init__(self, scenario: Scenario, stage: Stage, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self.scenario = scenario
        self.stage = stage
        self.stack = stack
        self.nursery = nursery
        self.actors: dict[str, Actor] = {}
        self.captured: dict[str, str] = {}
        self.passing_over = {name.removeprefix("all ") for name in scenario.ignoring if name.startswith("all ")}
        accounts = sorted({account for account, _ in scenario.clients.values()})
        suffix = f"-{next(_serial)}"
        self.names = {account: account + suffix for account in accounts}
        words = "|".join(accounts)
        self._forth = re.compile(rf"\b({words})@", re.IGNORECASE)
        self._suffix = suffix
        self._back = re.compile(rf"\b({words}){suffix}@")

    def map_forth(self, xml: str) -> str:
        return self._forth.sub(rf"\1{self._suffix}@", xml)

    def map_back(self, element: Element) -> None:
        """Have the names of the transcript in place of the accounts made for it."""
        for each in element.iter():
            for key, value in each.items():
                each.set(key, self._back.sub(r"\1@", value))
            each.text = each.text and self._back.sub(r"\1@", each.text)

    async def settle(self) -> None:
        """Wait until everything that was sent has been dealt with: thrice, since an answer may set off another."""
        for _ in range(3):
            await trio.sleep(self.stage.pause_s)
            id = str(next(_serial))
            async with trio.open_nursery() as nursery:
                for actor in self.actors.values():
                    nursery.start_soon(actor.settle, id)

    async def play(self) -> None:
        """Play all steps. Raises Failure."""
        for name in self.names.values():
            await self.stage.register(name)
        for step in self.scenario.steps:
            try:
                await self._play(step)
            except Mismatch as error:
                raise Failure(f"line {step.line}: {step.who} {step.verb}: {error}") from None
            except Gone:
                raise Failure(f"line {step.line}: {step.who} {step.verb}: the connection is gone") from None
            except trio.TooSlowError:
                raise Failure(f"line {step.line}: {step.who} {step.verb}: nothing comes") from None
        await self.settle()
        for name, actor in self.actors.items():
            if left := actor.take_all():
                raise Failure(f"at the end: {name} has received what nobody expected:\n{show(left)}")

    async def _play(self, step: Step) -> None:
        match step.verb:
            case "wait":
                await trio.sleep(step.seconds)
            case "connects" | "logs in" | "is online":
                await self._connect(step)
            case "sends":
                await self.actors[step.who].send(self.map_forth(fill_in(step.xml, self.captured)))
            case "receives" | "receives in any order" | "receives among others":
                await self._receive(step)
            case "receives nothing":
                await self.settle()
                if left := self.actors[step.who].take_all():
                    raise Mismatch(f"but there is\n{show(left)}")
            case "passes over what came":
                await self.settle()
                self.actors[step.who].take_all()
            case "disconnects":
                actor = self.actors.pop(step.who)
                await actor.send("</stream:stream>")
                with trio.move_on_after(ANSWER_S / 2):
                    while True:
                        try:
                            await actor.next()
                        except Gone:
                            break
                await actor.client.close()
                await self.settle()
            case "drops":
                await self.actors.pop(step.who).client.close()
                await trio.sleep(0.1)  # for the server to see it
                await self.settle()
            case "is disconnected":
                actor = self.actors.pop(step.who)
                try:
                    unexpected = await actor.next()
                except Gone:
                    await actor.client.close()
                else:
                    raise Mismatch(f"but there is\n{show([unexpected])}")

    async def _connect(self, step: Step) -> None:
        account, resource = self.scenario.clients[step.who]
        client = await self.stack.enter_async_context(self.stage.connect())
        with trio.fail_after(ANSWER_S):
            await client.log_in(self.names[account])
            if step.verb != "logs in":
                await client.bind(resource)
        self.actors[step.who] = actor = Actor(client, self)
        actor.bound = step.verb != "logs in"
        self.nursery.start_soon(actor.read)
        if step.verb == "is online":
            await self.settle()
            before = {name: each.take_all() for name, each in self.actors.items()}
            await actor.send("<presence/>")
            await self.settle()
            for name, each in self.actors.items():
                each.take_all()
                each._waiting = before[name]

    async def _receive(self, step: Step) -> None:
        actor = self.actors[step.who]
        expected = elements(step.xml)
        ignoring = self.scenario.ignoring | step.ignoring
        got: list[Element] = []
        try:
            if step.verb == "receives among others":
                while expected:
                    got.append(await actor.next())
                    if (found := find(expected, got[-1], ignoring, self.captured)) is not None:
                        expected.remove(found)
                return
            for wanted in expected:
                got.append(await actor.next())
                if step.verb == "receives":
                    compare(wanted, got[-1], ignoring, self.captured)
            if step.verb != "receives":
                compare_any_order(expected, got, ignoring, self.captured)
        except Mismatch as error:
            raise Mismatch(f"{error}\n{show(got)}") from None
        except (Gone, trio.TooSlowError) as error:
            what = "the connection is gone" if isinstance(error, Gone) else "nothing more comes"
            raise Mismatch(f"{what}; expected\n{show(expected)}\nbut there is\n{show(got)}") from None
        if any(element.tag == "{urn:xmpp:sm:3}resumed" for element in got):
            actor.bound = True


def show(found: Iterable[Element]) -> str:
    """Elements as text, for people."""
    return "\n".join("    " + ElementTree.tostring(element, encoding="unicode") for element in found)


async def perform(scenario: Scenario, stage: Stage) -> Outcome:
    """Play a scenario at a stage."""
    for need in scenario.needs:
        if not stage.has(need):
            return Outcome(scenario, "lacks", f"{stage.server} has no {need}")
    problem: str | None = None
    try:
        async with trio.open_nursery() as nursery, AsyncExitStack() as stack:
            await Cast(scenario, stage, stack, nursery).play()
            nursery.cancel_scope.cancel()
    except* Failure as failures:
        problem = str(failures.exceptions[0])
    except* Exception as errors:
        problem = "".join(traceback.format_exception(errors)[-6:])
    reason = scenario.differs.get(stage.server)
    if problem is None:
        return Outcome(scenario, "pass") if reason is None else Outcome(scenario, "passes", f"although: {reason}")
    return Outcome(scenario, "fail", problem) if reason is None else Outcome(scenario, "differs", reason)


async def perform_all(name: str, wanted: Iterable[Scenario]) -> list[Outcome]:
    """Play scenarios at the stage `name`, some at once."""
    outcomes: dict[str, Outcome] = {}
    limit = trio.CapacityLimiter(AT_ONCE)

    with tempfile.TemporaryDirectory(prefix="xiot-scripts-") as folder:
        async with open_stage(name, Path(folder)) as stage:

            async def one(scenario: Scenario) -> None:
                async with limit:
                    outcomes[scenario.name] = await perform(scenario, stage)

            async with trio.open_nursery() as nursery:
                for scenario in wanted:
                    nursery.start_soon(one, scenario)
    return [outcomes[scenario.name] for scenario in wanted]


async def perform_at(names: Sequence[str], wanted: Sequence[Scenario]) -> dict[str, list[Outcome]]:
    """Play scenarios at the stages `names`, all at the same time."""
    found: dict[str, list[Outcome]] = {}

    async def one(name: str) -> None:
        found[name] = await perform_all(name, wanted)

    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(one, name)
    return {name: found[name] for name in names}


def table(found: Mapping[str, list[Outcome]]) -> str:
    """Who passes what, with the reasons where somebody differs."""
    rows: dict[str, dict[str, Outcome]] = {}
    for name, outcomes in found.items():
        for outcome in outcomes:
            rows.setdefault(outcome.scenario.name, {})[name] = outcome
    width = max(map(len, rows), default=0)
    lines = ["  ".join([" " * width, *(f"{name:8}" for name in found)])]
    notes = []
    for title, row in rows.items():
        lines.append("  ".join([f"{title:{width}}", *(f"{row[name].result:8}" for name in found)]).rstrip())
        notes += [f"{title}\n  {name}: {each.result}: {each.text}" for name, each in row.items() if each.text]
    totals = []
    for name, outcomes in found.items():
        results = [outcome.result for outcome in outcomes]
        totals.append(f"{name}: " + ", ".join(f"{results.count(kind)} {kind}" for kind in dict.fromkeys(results)))
    return "\n".join([*lines, "", *totals, "", *notes]) + "\n"


def summary(found: Mapping[str, list[Outcome]]) -> str:
    """How many scenarios of each file pass where: "12", or "10 + 2 differs"."""
    counts: dict[str, dict[str, Counter[str]]] = {}
    for name, outcomes in found.items():
        for outcome in outcomes:
            counts.setdefault(outcome.scenario.file, {}).setdefault(name, Counter())[outcome.result] += 1
    lines = [f"{'':28}" + "".join(f"{name:18}" for name in found)]
    for file, row in counts.items():
        cells = []
        for name in found:
            others = [f"{number} {kind}" for kind, number in row[name].items() if kind != "pass"]
            cells.append(" + ".join([str(row[name]["pass"]), *others]))
        lines.append(f"{file:28}" + "".join(f"{cell:18}" for cell in cells))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def write_report(found: Mapping[str, list[Outcome]]) -> str:
    """Write the table to build/scripts.txt; returns it."""
    text = table(found)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(text, encoding="utf-8")
    return text


def main() -> int:
    """The command line; the exit code is 1 if anything was not as expected."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", default=",".join(STAGES))
    parser.add_argument("part", nargs="*")
    arguments = parser.parse_args()
    names = []
    for name in arguments.stage.split(","):
        if (reason := absent(name)) is None:
            names.append(name)
        else:
            print(f"{name}: {reason}")
    found = trio.run(perform_at, names, scenarios(arguments.part))
    print(write_report(found))
    return 0 if all(outcome.good for outcomes in found.values() for outcome in outcomes) else 1


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    sys.exit(main())
