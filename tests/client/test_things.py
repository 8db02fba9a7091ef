# SPDX-License-Identifier: Apache-2.0
"""Things served, read and controlled by clients, over a real server."""

from __future__ import annotations

import enum
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xiot
from tests.client.both import Served, next_of, on_both, until
from tests.client.both import served as server
from xiot.client import Client, handlers, reconnect, serving, things
from xiot.client.parts import joined, parts
from xiot.core import JID, Element
from xiot.model.control import ParameterError
from xiot.model.reading import EVERYTHING, Category, Field, Quality, Query, Reading
from xiot.stanzas import iq, message
from xiot.xep import control, disco, sensordata

START = datetime(2026, 11, 22, 8, tzinfo=UTC)


class Mode(enum.Enum):
    OFF = 0
    HEAT = 1


@asynccontextmanager
async def both(
    folder: Path, thing: xiot.Thing, *others: str, **options: object
) -> AsyncIterator[tuple[Client, Client, Served]]:
    """A client that serves `thing`, and another one of the same account."""
    async with server(folder, **options) as running:
        await running.account("boiler", *others)
        async with running.connect("boiler@localhost/thing") as served, running.connect("boiler@localhost/app") as app:
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(served.serve, thing)
                with anyio.fail_after(5):
                    while not (await disco.info(app, served.jid)).can(sensordata.NS):
                        await anyio.sleep(0.01)
                yield served, app, running
                nursery.cancel_scope.cancel()


def a_boiler(**options: object) -> tuple[xiot.Thing, dict[str, object]]:
    boiler = xiot.Thing("boiler", **options)  # type: ignore[arg-type]
    state: dict[str, object] = {"setpoint": 60.0}

    @boiler.field("temperature", unit="Cel")
    def temperature() -> float:
        return 61.5

    @boiler.field("setpoint", unit="Cel", kind="status")
    async def read_setpoint() -> object:
        return state["setpoint"]

    @boiler.field("mode", kind=["status"])
    def mode() -> Mode:
        return Mode.HEAT

    @boiler.field("serial", kind="identity")
    def serial() -> str:
        return "A-1"

    @boiler.field("peak", kind="peak")
    def peak() -> Field:
        return Field("x", 90, "Cel", categories=Category.PEAK, quality=Quality.MANUAL_READOUT)

    @boiler.control("setpoint", unit="Cel", low=5, high=90)
    async def setpoint(value: float) -> None:
        state["setpoint"] = value

    @boiler.control("mode")
    def set_mode(value: Mode) -> None:
        state["mode"] = value

    @boiler.control("speed")
    def speed(value: Literal["slow", "fast"]) -> None:
        if value == "fast":
            raise ValueError("not while it is cold")
        state["speed"] = value

    return boiler, state


@on_both
async def test_all_current_fields_are_read_with_units_and_kinds(tmp_path: Path) -> None:
    async with both(tmp_path, a_boiler()[0]) as (served, app, _):
        before = datetime.now(UTC)
        reading = await app.things.read(served.jid)
        assert before <= reading.timestamp <= datetime.now(UTC)
        assert reading.fields == (
            Field("temperature", 61.5, "Cel"),
            Field("setpoint", 60, "Cel", categories=Category.STATUS),
            Field("mode", "HEAT", type="enum", data_type="Mode", categories=Category.STATUS),
            Field("serial", "A-1", categories=Category.IDENTITY),
            Field("peak", 90, "Cel", categories=Category.PEAK, quality=Quality.MANUAL_READOUT),
        )
        assert reading.errors == ()


@on_both
async def test_fields_are_chosen_by_name_and_kind(tmp_path: Path) -> None:
    async with both(tmp_path, a_boiler()[0]) as (served, app, _):
        assert [f.name for f in await app.things.read(served.jid, fields="mode")] == ["mode"]
        assert [f.name for f in await app.things.read(served.jid, fields=["mode", "serial"])] == ["mode", "serial"]
        assert [f.name for f in await app.things.read(served.jid, kinds="momentary")] == ["temperature"]
        assert [f.name for f in await app.things.read(served.jid, kinds=["identity", "peak"])] == ["serial", "peak"]
        assert len(await app.things.read(served.jid, fields="mode", kinds="momentary")) == 0
        with pytest.raises(xiot.StanzaError, match="item-not-found: there is no field pressure"):
            await app.things.read(served.jid, fields="pressure")
        with pytest.raises(ValueError, match="'now' is not one of momentary"):
            await app.things.read(served.jid, kinds="now")


@on_both
async def test_a_bare_jid_finds_the_resource_that_can_be_read(tmp_path: Path) -> None:
    async with both(tmp_path, a_boiler()[0]) as (_, app, running):
        await app.send_presence()
        async with running.connect("boiler@localhost/idle") as idle:
            await idle.send_presence()
            assert (await app.things.read("boiler@localhost"))["temperature"].value == 61.5
            assert (await app.things.set("boiler@localhost", setpoint=50)) == ("setpoint",)
        with pytest.raises(xiot.StanzaError, match="try its full JID, nobody@localhost/"):
            await app.things.read("nobody@localhost")


@on_both
async def test_nothing_is_announced_or_answered_when_nothing_is_served(tmp_path: Path) -> None:
    async with both(tmp_path, a_boiler()[0]) as (served, app, _):
        assert (await disco.info(app, served.jid)).can(control.NS)
        assert not (await disco.info(served, app.jid)).can(sensordata.NS)
        for ask in (served.things.read(app.jid), served.things.set(app.jid, x=1), served.things.describe(app.jid)):
            with pytest.raises(xiot.StanzaError, match="service-unavailable"):
                await ask
        with pytest.raises(ValueError, match="serves one thing"):
            await served.serve(xiot.Thing("second"))


@on_both
async def test_control_is_announced_only_if_there_is_something_to_set(tmp_path: Path) -> None:
    async with both(tmp_path, xiot.Thing("sensor")) as (served, app, _):
        assert not (await disco.info(app, served.jid)).can(control.NS)


# ---- who may ----------------------------------------------------------------------------------------------------


@on_both
async def test_other_accounts_are_refused_unless_allowed(tmp_path: Path) -> None:
    def allow(who: JID, purpose: str) -> bool:
        if who.local == "error":
            raise RuntimeError("secret")
        return purpose == "read" and who == JID("reader@localhost/r")

    async def tries(client: Client, thing: JID) -> list[str]:
        conditions = []
        for ask in (client.things.read(thing), client.things.set(thing, setpoint=20), client.things.describe(thing)):
            try:
                await ask
                conditions.append("")
            except xiot.StanzaError as error:
                assert "secret" not in str(error)
                conditions.append(f"{error.type} {error.condition}")
        return conditions

    refused = "cancel forbidden"
    for folder, options, expected in (
        ("default", {}, [[refused] * 3, [refused] * 3]),
        ("allow", {"allow": allow}, [["", refused, refused], [refused] * 3]),
    ):
        (tmp_path / folder).mkdir()
        thing, state = a_boiler(**options)
        async with both(tmp_path / folder, thing, "reader", "error") as (served, _, running):
            async with running.connect("reader@localhost/r") as reader, running.connect("error@localhost/r") as error:
                assert [await tries(reader, served.jid), await tries(error, served.jid)] == expected
                body = control.Set(values=(Element(f"{{{control.NS}}}db", {"n": "setpoint", "v": "20"}),))
                await reader.send(message(body.to_element(), to=served.jid))
                await reader.request("get", disco.Info(), to=served.jid)
        assert state == {"setpoint": 60.0}


# ---- what goes wrong in a thing ---------------------------------------------------------------------------------


@on_both
async def test_a_field_that_raises_or_hangs_is_an_error_in_the_read_out(tmp_path: Path) -> None:
    thing = xiot.Thing("broken", limit_s=0.3)
    stuck, calls = threading.Event(), []

    @thing.field("raises")
    def raises() -> float:
        raise RuntimeError("s3cret path")

    @thing.field("hangs")
    async def hangs() -> float:
        await anyio.sleep_forever()
        raise AssertionError

    @thing.field("blocks")
    def blocks() -> int:
        calls.append(1)
        stuck.wait(30)
        return 7

    @thing.field("nan")
    def nan() -> float:
        return float("nan")

    @thing.field("good")
    def good() -> bool:
        return True

    async with both(tmp_path, thing) as (served, app, _):
        for _ in range(2):
            reading = await app.things.read(served.jid, timeout=20)
            assert reading.fields == (Field("good", True),)
            assert reading.errors == (
                "raises: cannot be read",
                "hangs: no value in time",
                "blocks: no value in time",
                "nan: cannot be read",
            )
        assert len(calls) == 1  # the thread that hangs is not joined by others
        stuck.set()
        with anyio.fail_after(5):
            while "blocks" not in await app.things.read(served.jid, fields="blocks"):
                await anyio.sleep(0.05)


@on_both
async def test_functions_of_a_thing_never_run_side_by_side(tmp_path: Path) -> None:
    thing = xiot.Thing("bus")
    inside, most = [0], [0]

    @thing.field("a")
    async def a() -> int:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        await anyio.sleep(0.02)
        inside[0] -= 1
        return 1

    @thing.control("b")
    async def b(value: int) -> None:
        await a()

    async with both(tmp_path, thing) as (served, app, _), anyio.create_task_group() as nursery:
        for number in range(4):
            nursery.start_soon(app.things.read, served.jid)
            nursery.start_soon(lambda n=number: app.things.set(served.jid, b=n))
    assert most == [1]


@on_both
async def test_a_slow_read_out_says_that_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "PROMPT_S", 0.02)
    thing = xiot.Thing("slow")

    @thing.field("a")
    async def a() -> int:
        await anyio.sleep(0.2)
        return 1

    async with both(tmp_path, thing) as (served, app, _):
        assert await sensordata.request(app, served.jid, "x", Query()) is None  # started
        messages = app.messages()
        assert (await app.things.read(served.jid))["a"].value == 1
        with pytest.raises(TimeoutError):  # what was sent for "x" before has no taker: nobody waits for it
            await next_of(messages, 0.01)


@on_both
async def test_read_outs_queue_and_too_many_are_refused(tmp_path: Path) -> None:
    thing = xiot.Thing("busy", limit_s=20)
    go = anyio.Event()

    @thing.field("a")
    async def a() -> int:
        await go.wait()
        return 1

    async with both(tmp_path, thing) as (served, app, _):
        results: list[object] = []

        async def read() -> None:
            try:
                results.append(await app.things.read(served.jid))
            except xiot.StanzaError as error:
                results.append(error.condition)

        async with anyio.create_task_group() as nursery:
            for _ in range(serving.REQUESTS_EACH + 2):
                nursery.start_soon(read)
            with anyio.fail_after(5):
                while len(results) < 2:
                    await anyio.sleep(0.01)
            assert results == ["resource-constraint"] * 2
            go.set()
        assert [r["a"].value for r in results[2:] if isinstance(r, Reading)] == [1] * serving.REQUESTS_EACH


@on_both
async def test_a_read_out_can_be_scheduled_and_cancelled(tmp_path: Path) -> None:
    thing, _ = a_boiler()
    async with both(tmp_path, thing) as (served, app, _):
        heard: list[tuple[str, int]] = []

        class Watch(things.Things):
            def on_readings(self, sender: JID, id: str, readings: object, *, more: bool) -> None:
                heard.append((id, len(readings)))  # type: ignore[arg-type]

            def on_done(self, sender: JID, id: str, error: object = None) -> None:
                heard.append((id, -1))

        app._objects = tuple(
            Watch(app, app, o._directory, o._be_available) if isinstance(o, things.Things) else o for o in app._objects
        )
        later = datetime.now(UTC) + timedelta(hours=1)
        for id, wait in (("y", timedelta(hours=1)), ("x", timedelta(seconds=1))):
            when = datetime.now(UTC) + wait
            answer = await app.request("get", sensordata.Request(id=id, when=when.isoformat(), m=True), to=served.jid)
            assert sensordata.Accepted.from_element(answer) == sensordata.Accepted(id=id, queued=True)
        with pytest.raises(xiot.StanzaError, match="conflict"):
            await sensordata.request(app, served.jid, "y", Query(), when=later)
        with pytest.raises(xiot.StanzaError, match="resource-constraint"):
            await sensordata.request(app, served.jid, "z", Query(), when=later + timedelta(days=2))
        for _ in range(2):
            assert await app.request("set", sensordata.Cancel(id="y"), to=served.jid) is None
        with anyio.fail_after(20):
            while len(heard) < 2:
                await anyio.sleep(0.01)
        assert sorted(heard) == [("x", 1), ("y", -1)]


@on_both
async def test_who_gives_up_cancels_the_read_out(tmp_path: Path) -> None:
    thing = xiot.Thing("slow")
    cancelled = anyio.Event()

    @thing.field("a")
    async def a() -> int:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    async with both(tmp_path, thing) as (served, app, _):
        with pytest.raises(TimeoutError):
            await app.things.read(served.jid, timeout=0.3)
        with anyio.fail_after(3):
            await cancelled.wait()
        assert not app.things.waiting


# ---- history ----------------------------------------------------------------------------------------------------


@on_both
async def test_history_comes_in_pieces_and_in_its_time_span(tmp_path: Path) -> None:
    thing = xiot.Thing("meter")

    @thing.history
    def past(since: datetime | None, until: datetime | None) -> Iterator[Reading]:
        for hour in range(400):
            yield xiot.reading(START + timedelta(hours=hour), energy=(hour, "kWh"), power=(1, "W"))

    async with both(tmp_path, thing) as (served, app, _):
        everything = await app.things.history(served.jid)
        assert [r["energy"].value for r in everything] == list(range(400))
        assert all(f.categories is Category.HISTORICAL for r in everything for f in r)
        some = await app.things.history(
            served.jid, fields="energy", since=START + timedelta(hours=2), until=START + timedelta(hours=4)
        )
        assert [(r.timestamp, [f.name for f in r]) for r in some] == [
            (START + timedelta(hours=hour), ["energy"]) for hour in (2, 3, 4)
        ]
        assert len(await app.things.read(served.jid)) == 0  # what was is not what is


@on_both
async def test_history_is_bounded_at_both_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HISTORY_FIELDS", 50)
    thing = xiot.Thing("endless")

    @thing.history
    def past(since: datetime | None, until: datetime | None) -> Iterator[Reading]:
        hour = 0
        while True:
            hour += 1
            yield xiot.reading(START + timedelta(minutes=hour), a=1, b=2)

    async with both(tmp_path, thing) as (served, app, _):
        found = await app.things.history(served.jid)
        assert sum(map(len, found)) == 50
        assert found[-1].errors == ("history: more than 50 values",)
        monkeypatch.setattr(things, "KEPT_BYTES", 20)
        with pytest.raises(xiot.XiotError, match="sends more than 20 bytes"):
            await app.things.history(served.jid)


@on_both
async def test_parts_seen_before_the_first_answer_was_looked_at_come_behind_it() -> None:
    first, second = xiot.reading(START, a=1), xiot.reading(START, a=2)
    read_out = things._ReadOut(JID("thing@localhost/x"))
    read_out.add([second], more=False)
    assert not read_out.done.is_set()
    read_out.answered([first], more=True)
    assert read_out.done.is_set()
    assert read_out.readings == [first, second]


@on_both
async def test_large_read_outs_are_cut_so_that_every_server_takes_them(tmp_path: Path) -> None:
    thing = xiot.Thing("large")
    for number in range(500):
        thing.field(f"field {number}")(lambda: "<&" * 20)
    thing.field("longer than any stanza")(lambda: "x" * 10_000)
    async with both(tmp_path, thing) as (served, app, _):
        sent: list[int] = []
        send = served._outbox.send

        async def counted(data: bytes, **how: bool) -> object:
            sent.append(len(data))
            return await send(data, **how)

        served._outbox.send = counted  # type: ignore[method-assign]
        reading = await app.things.read(served.jid)
        assert [f.name for f in reading] == [f"field {number}" for number in range(500)]
        assert reading.errors == ("longer than any stanza: too long to be sent",)
        assert len(sent) > 10
        assert max(sent) < 10_000


names = st.text(
    st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="\ufffe\uffff"), min_size=1, max_size=300
)


@given(st.lists(st.tuples(st.lists(st.tuples(names, names), max_size=40), st.lists(names, max_size=3)), max_size=8))
def test_parts_hold_everything_and_fit(drawn: list[tuple[list[tuple[str, str]], list[str]]]) -> None:
    readings = [
        Reading(START + timedelta(hours=hour), tuple(Field(n, v) for n, v in fields), tuple(errors))
        for hour, (fields, errors) in enumerate(drawn)
    ]
    found = parts(readings)
    assert list(joined(reading for part in found for reading in part)) == readings
    for part in found:
        assert len(sensordata.response(part, id="x" * 32, more=True).to_element().tobytes()) < 9_000


# ---- control ----------------------------------------------------------------------------------------------------


@on_both
async def test_parameters_are_set_with_their_types(tmp_path: Path) -> None:
    thing, state = a_boiler()
    async with both(tmp_path, thing) as (served, app, _):
        assert await app.things.set(served.jid, {"setpoint": 70.5}, mode=Mode.OFF, speed="slow") == (
            "setpoint",
            "mode",
            "speed",
        )
        assert state == {"setpoint": 70.5, "mode": Mode.OFF, "speed": "slow"}
        await app.things.set(served.jid, setpoint=70, mode="HEAT")
        assert (state["setpoint"], type(state["setpoint"]), state["mode"]) == (70.0, float, Mode.HEAT)


@pytest.mark.parametrize(
    ("values", "condition", "parameter", "text"),
    [
        ({"setpoint": 4.9}, "bad-request", "setpoint", "less than 5"),
        ({"setpoint": 1000}, "bad-request", "setpoint", "more than 90"),
        ({"setpoint": True}, "bad-request", "setpoint", "a value of type numeric is needed, not boolean"),
        ({"mode": "COOL"}, "bad-request", "mode", "not one of OFF, HEAT"),
        ({"speed": "warp"}, "bad-request", "speed", "not one of slow, fast"),
        ({"speed": "fast"}, "bad-request", "speed", "not while it is cold"),
        ({"setpoint": 50, "mode": "COOL"}, "bad-request", "mode", "not one of OFF, HEAT"),
        ({"setpoint": 50, "colour": "red"}, "item-not-found", "colour", "there is no such parameter"),
    ],
)
@on_both
async def test_a_refused_value_is_named_and_nothing_is_set(
    tmp_path: Path, values: dict[str, object], condition: str, parameter: str, text: str
) -> None:
    thing, state = a_boiler()
    async with both(tmp_path, thing) as (served, app, _):
        with pytest.raises(ParameterError) as refused:
            await app.things.set(served.jid, values)  # type: ignore[arg-type]
        assert (refused.value.condition, refused.value.parameter, refused.value.text) == (condition, parameter, text)
        assert str(refused.value) == f"{parameter}: {text}"
        assert state == {"setpoint": 60.0}


@on_both
async def test_what_was_set_before_a_failure_is_told(tmp_path: Path) -> None:
    thing, state = a_boiler()
    async with both(tmp_path, thing) as (served, app, _):
        with pytest.raises(ParameterError, match=r"speed: not while it is cold \(set before it: mode, setpoint\)"):
            await app.things.set(served.jid, mode=Mode.OFF, setpoint=50, speed="fast")
        assert state == {"mode": Mode.OFF, "setpoint": 50.0}


@on_both
async def test_nothing_is_set_any_more_when_serving_has_ended(tmp_path: Path) -> None:
    thing = xiot.Thing("slow", limit_s=20)
    state: list[int] = []
    started = anyio.Event()

    @thing.control("a")
    async def a(value: int) -> None:
        started.set()
        await anyio.sleep(1)
        state.append(value)

    async with server(tmp_path) as running:
        await running.account("boiler")
        async with running.connect("boiler@localhost/t") as served, running.connect("boiler@localhost/a") as app:
            refused: list[str] = []

            async def set_a(value: int) -> None:
                try:
                    await app.things.set(served.jid, a=value)
                except xiot.StanzaError as error:
                    refused.append(error.condition)

            async with anyio.create_task_group() as nursery:
                with anyio.CancelScope() as serve:
                    nursery.start_soon(set_a, 1)
                    nursery.start_soon(set_a, 2)
                    async with anyio.create_task_group() as inner:
                        inner.start_soon(served.serve, thing)
                        await started.wait()
                        await app.ping(served.jid)
                        serve.cancel()
            assert (refused, state) == (["undefined-condition"] * 2, [])


@on_both
async def test_a_control_that_fails_tells_nothing_of_why(tmp_path: Path) -> None:
    thing = xiot.Thing("broken", limit_s=0.2)

    @thing.control("raises")
    def raises(value: int) -> None:
        raise RuntimeError("s3cret")

    @thing.control("hangs")
    async def hangs(value: int) -> None:
        await anyio.sleep_forever()

    async with both(tmp_path, thing) as (served, app, _):
        for name, condition in (("raises", "internal-server-error"), ("hangs", "resource-constraint")):
            with pytest.raises(ParameterError) as failed:
                await app.things.set(served.jid, {name: 1})
            assert (failed.value.condition, failed.value.parameter) == (condition, name)
            assert "s3cret" not in str(failed.value)


@on_both
async def test_a_message_sets_without_an_answer(tmp_path: Path) -> None:
    thing, state = a_boiler()
    async with both(tmp_path, thing) as (served, app, _):
        for value in ("too hot", "1000", "55"):
            body = control.Set(values=(Element(f"{{{control.NS}}}db", {"n": "setpoint", "v": value}),))
            await app.send(message(body.to_element(), to=served.jid))
        with anyio.fail_after(5):
            while state["setpoint"] != 55.0:
                await anyio.sleep(0.01)


@on_both
async def test_a_thing_describes_what_can_be_set(tmp_path: Path) -> None:
    async with both(tmp_path, a_boiler()[0]) as (served, app, _):
        setpoint, mode, speed = await app.things.describe(served.jid)
        assert (setpoint.name, setpoint.type, setpoint.low, setpoint.high) == ("setpoint", "numeric", 5, 90)
        assert (setpoint.title, setpoint.value) == ("setpoint (°C)", 60)
        assert (mode.options, mode.value) == (("OFF", "HEAT"), "HEAT")
        assert (speed.options, speed.value) == (("slow", "fast"), None)


# ---- peers that lie ---------------------------------------------------------------------------------------------


@on_both
async def test_only_the_thing_that_was_asked_is_heard(tmp_path: Path) -> None:
    thing = xiot.Thing("slow")
    go = anyio.Event()

    @thing.field("a")
    async def a() -> int:
        await go.wait()
        return 1

    async with both(tmp_path, thing, "tybalt") as (served, app, running), running.connect("tybalt") as tybalt:
        found: list[Reading] = []

        async def read() -> None:
            found.append(await app.things.read(served.jid))

        async with anyio.create_task_group() as nursery:
            nursery.start_soon(read)
            while not app.things.waiting:
                await anyio.sleep(0.01)
            (id,) = app.things._read_outs
            forged = sensordata.response([xiot.reading(a=666)], id=id)
            await tybalt.send(message(forged.to_element(), to=app.jid))
            await tybalt.send(message(sensordata.Done(id=id).to_element(), to=app.jid))
            for other in ("", "1"):
                await served.send(message(sensordata.response([xiot.reading(a=7)], id=other).to_element(), to=app.jid))
            await tybalt.ping(app.jid)
            await served.ping(app.jid)
            go.set()
        assert [r["a"].value for r in found] == [1]


@on_both
async def test_a_thing_that_answers_nonsense_is_an_error_at_once(tmp_path: Path) -> None:
    async with server(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet") as juliet:
            bad = Element.fromstring(
                f"<resp xmlns='{sensordata.NS}' id='ID' more='true'><ts v='2026-11-22T08:00:00Z'><i n='x' v='y'/></ts></resp>"
            )

            async def lie(sender: JID, id: str, query: Query, when: object, answers: object) -> None:
                await answers.started()  # type: ignore[attr-defined]
                bad.set("id", id)
                await juliet.send(message(bad, to=sender))

            juliet.things.read_out = lie  # type: ignore[method-assign]
            with pytest.raises(xiot.StanzaError, match="bad-request"):
                await romeo.things.read(juliet.jid, timeout=5)


@on_both
async def test_a_lost_connection_ends_serving_and_waiting(tmp_path: Path) -> None:
    thing = xiot.Thing("slow")

    @thing.field("a")
    async def a() -> int:
        await anyio.sleep_forever()
        raise AssertionError

    failures: list[type[Exception]] = []

    async def failing(run: object) -> None:
        try:
            await run()  # type: ignore[operator]
        except xiot.XiotError as error:
            failures.append(type(error))

    async with server(tmp_path) as running:
        await running.account("boiler")
        async with (
            running.connect("boiler@localhost/t", reconnect=False) as served,
            running.connect("boiler@localhost/a", reconnect=False) as app,
        ):
            async with anyio.create_task_group() as nursery:
                nursery.start_soon(failing, lambda: served.serve(thing))
                nursery.start_soon(failing, lambda: app.things.read(served.jid))
                while not app.things.waiting:
                    await anyio.sleep(0.01)
                for client in (served, app):
                    await client._streams.wire.transport.aclose()
            assert failures == [xiot.LinkError] * 2


@on_both
async def test_a_read_out_under_way_is_asked_for_again_if_the_stream_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconnect, "FIRST_S", 0.05)
    monkeypatch.setattr(serving, "PROMPT_S", 0.05)
    thing = xiot.Thing("slow", limit_s=20)
    calls: list[int] = []
    go = anyio.Event()

    @thing.field("a")
    async def a() -> int:
        calls.append(1)
        if len(calls) == 1:
            await go.wait()
        return len(calls)

    async with both(tmp_path, thing, resume_s=0) as (served, app, _):
        found: list[Reading] = []

        async def read() -> None:
            found.append(await app.things.read(served.jid, timeout=20))

        with anyio.fail_after(10):
            for started in (False, True):  # before the first answer has come, and behind it
                calls.clear()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read)
                    await until(lambda: len(calls) == 1)
                    await until(lambda: not started or any(each.asked for each in app.things._read_outs.values()))  # noqa: B023
                    before = app._streams.wire
                    before.transport.extra(anyio.abc.SocketAttribute.raw_socket).shutdown(2)
                    await until(lambda: app.connected and app._streams.wire not in (None, before))  # noqa: B023
                    go.set()
                go = anyio.Event()
        assert [r["a"].value for r in found] == [2, 2]


@on_both
async def test_requests_beyond_what_is_dealt_with_at_a_time_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "HANDLING", 3)
    thing = xiot.Thing("slow", limit_s=20)
    go = anyio.Event()

    @thing.field("a")
    async def a() -> int:
        await go.wait()
        return 1

    async with both(tmp_path, thing) as (served, app, _), anyio.create_task_group() as nursery:
        for _ in range(3):
            nursery.start_soon(app.things.read, served.jid)
        with anyio.fail_after(5):
            while served._handlers.running < 3:
                await anyio.sleep(0.01)
        with pytest.raises(xiot.StanzaError, match="resource-constraint"):
            await app.things.read(served.jid)
        body = control.Set(values=(Element(f"{{{control.NS}}}i", {"n": "x", "v": "1"}),))
        await app.send(message(body.to_element(), to=served.jid))
        await app.ping(served.jid)
        go.set()
    assert served._handlers.running == 0


@on_both
async def test_nodes_are_not_found_in_a_thing_without_nodes(tmp_path: Path) -> None:
    async with both(tmp_path, a_boiler()[0]) as (served, app, _):
        for type, xml in (
            ("get", f"<req xmlns='{sensordata.NS}' id='1' all='true'><nd id='n'/></req>"),
            ("set", f"<set xmlns='{control.NS}'><nd id='n'/><b n='x' v='1'/></set>"),
            ("get", f"<getForm xmlns='{control.NS}'><nd id='n'/></getForm>"),
        ):
            await app.send(iq(type, Element.fromstring(xml), id="q", to=served.jid))  # type: ignore[arg-type]
        with pytest.raises(xiot.StanzaError, match="item-not-found"):
            await app.request("get", sensordata.Request(id="1", nodes=(sensordata.Node(id="n"),)), to=served.jid)
        with pytest.raises(xiot.StanzaError, match="item-not-found"):
            await app.request("get", control.GetForm(nodes=(control.Node(id="n"),)), to=served.jid)


@on_both
async def test_a_time_span_that_has_passed_holds_no_current_value(tmp_path: Path) -> None:
    async with both(tmp_path, a_boiler()[0]) as (served, app, _):
        first = await sensordata.request(app, served.jid, "1", Query(categories=EVERYTHING, until=START))
        assert first is not None
        assert sensordata.readings_of(first) == []
