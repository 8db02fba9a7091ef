# SPDX-License-Identifier: Apache-2.0
"""The client when its stream is lost: it comes back by itself, with what the session had."""

from __future__ import annotations

import functools
import itertools
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSStream

import xiot
from tests.client.both import Served, listening, next_of, on_both, served, until
from tests.client.test_flow import numbered
from tests.server.serving import HOST, PASSWORD
from xiot.client import Memory, State, reconnect, restoring, streams
from xiot.client.subscriptions import Subscriptions
from xiot.core import JID
from xiot.errors import AuthError, LinkError, StreamError
from xiot.ext import Session
from xiot.net.dns import Service
from xiot.stanzas import presence
from xiot.xep import ping, roster
from xiot.xep.ping import Ping
from xiot.xep.version import Version as VersionQuery


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_S", 0.05)
    monkeypatch.setattr(reconnect, "CAP_S", 0.2)


async def back(client: xiot.Client, before: object) -> None:
    """Wait until a client that had the wire `before` is there again, with another."""
    await until(lambda: client.connected and client._streams.wire not in (None, before))


@on_both
async def test_a_cut_is_mended_and_the_session_restored(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo@localhost/x") as romeo, running.connect("juliet@localhost/y") as juliet:
            await juliet.publish("n", numbered(0))
            await roster.fetch(romeo, romeo.roster)
            await romeo.send_presence(show="away", status="restored")
            async with romeo.subscribe("n") as items:
                assert (await next_of(items)).payload.text == "0"
                states = romeo.states()
                assert await next_of(states) is State.CONNECTED
                await running.cut()
                assert [await next_of(states), await next_of(states)] == [State.WAITING, State.CONNECTED]
                await until(lambda: juliet.connected)
                assert romeo.jid == JID("romeo@localhost/x")
                await juliet.publish("n", numbered(1))  # the last item before the cut does not come again
                assert (await next_of(items)).payload.text == "1"
                await roster.set_item(romeo, JID("nurse@localhost"))
                await until(lambda: JID("nurse@localhost") in romeo.roster.items)  # pushes are on
                async with running.connect("romeo@localhost/z") as other:
                    await other.send_presence()
                    seen = await next_of(other.presences())
                    while seen.sender == other.jid:
                        seen = await next_of(other.presences())
                    assert (seen.sender, seen.show, seen.status) == (romeo.jid, "away", "restored")


@on_both
@pytest.mark.security(statement=80)
async def test_what_is_sent_in_an_outage_waits_for_its_end(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler@localhost/x") as boiler, running.connect("app@localhost/y") as app:
            await boiler.publish("n", numbered(0))
            async with app.subscribe("n") as items:
                await running.stop()
                await until(lambda: not (boiler.connected or app.connected))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(boiler.publish, "n", numbered(1))
                    tasks.start_soon(boiler.send_message, app.jid, "queued")
                    await anyio.sleep(0.3)
                    await running.start()
                    await until(lambda: app.connected)
                got = [(await next_of(items)).payload.text for _ in range(2)]
                assert got == ["0", "1"]
                await boiler.send_message(app.jid, "later")
                assert (await next_of(app.messages())).body in ("queued", "later")


@on_both
async def test_the_wait_in_an_outage_has_an_end(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo", outage_s=0.2) as romeo:
            await running.stop()
            await until(lambda: not romeo.connected)
            refused: list[str] = []

            async def send() -> None:
                with pytest.raises(LinkError, match=r"no connection for 0.2 s"):
                    await romeo.send_message("juliet@localhost", "x")
                refused.append("x")

            with anyio.fail_after(5):  # each has its own time, nobody waits for the end of somebody else's
                async with anyio.create_task_group() as tasks:
                    for _ in range(40):
                        tasks.start_soon(send)
            assert len(refused) == 40
            with pytest.raises(LinkError), anyio.fail_after(5):
                await romeo.publish("n", numbered(0))
            with pytest.raises(LinkError, match="no other one in time"), anyio.fail_after(5):
                await romeo.request("get", Ping(), timeout=0.05)
            assert romeo._outbox._bytes == 0  # what was given up does not go out later


@on_both
async def test_a_reading_that_was_on_its_way_is_published_all_the_same(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler") as boiler, running.connect("app") as app:
            await boiler.publish("n", numbered(0))
            done: list[int] = []

            async def publish() -> None:
                for number in range(1, 61):
                    await boiler.publish("n", numbered(number))
                    done.append(number)

            async with app.subscribe("n") as items, anyio.create_task_group() as tasks:
                tasks.start_soon(publish)
                for enough in (10, 30, 50):
                    await until(lambda enough=enough: len(done) >= enough)  # type: ignore[misc]
                    await running.cut()
                await until(lambda: len(done) == 60, 20)
                await until(lambda: app.connected)
                await boiler.publish("n", numbered(61))
                while (await next_of(items)).payload.text != "61":
                    pass


@on_both
async def test_a_get_is_asked_again_and_a_set_is_not(tmp_path: Path) -> None:
    async with served(tmp_path, resume_s=0) as running:
        await running.account("romeo", "juliet")
        async with running.connect("romeo") as romeo, running.connect("juliet@localhost/y") as juliet:
            asked: list[str | None] = []
            answer = juliet._handlers.request

            async def later(stanza: object, sender: object) -> None:
                asked.append(stanza.type)  # type: ignore[attr-defined]
                if len(asked) > 1:
                    await answer(stanza, sender)

            juliet._handlers.request = later
            refused: list[LinkError] = []

            async def get() -> None:
                await romeo.request("get", VersionQuery(), to=juliet.jid)

            async def put() -> None:
                with pytest.raises(LinkError, match="nobody knows whether it arrived") as caught:
                    await romeo.request("set", VersionQuery(), to=juliet.jid)
                refused.append(caught.value)

            for ask in (get, put):
                asked.clear()
                with anyio.fail_after(10):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(ask)
                        await until(lambda: len(asked) == 1)
                        before = romeo._streams.wire
                        before.transport.extra(anyio.abc.SocketAttribute.raw_socket).shutdown(2)
                        await back(romeo, before)
            assert len(refused) == 1


@on_both
async def test_a_subscription_that_is_refused_later_raises_in_the_loop(tmp_path: Path) -> None:
    from xiot.xep import pubsub

    async with served(tmp_path, resume_s=0) as running:
        await running.account("boiler", "app")
        async with running.connect("boiler") as boiler, running.connect("app") as app:
            await boiler.publish("n", numbered(0))
            async with app.subscribe("n") as items:
                await next_of(items)
                app._outbox.close()  # and so it does not hear that the node is gone
                await pubsub.delete(boiler, "n", at=JID("pubsub.localhost"))
                app._streams.wire.transport.extra(anyio.abc.SocketAttribute.raw_socket).shutdown(2)
                await until(lambda: app.connected and app._subscriptions._all and items._ended is not False)
                with pytest.raises(xiot.StanzaError, match="item-not-found"):
                    await next_of(items)


@on_both
async def test_what_is_kept_is_done_again(tmp_path: Path) -> None:
    async with served(tmp_path, resume_s=0) as running:
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            done: list[JID] = []

            async def act(session: Session) -> None:
                await session.request("get", Ping())
                done.append(session.jid)

            await romeo.keep(act)
            for number in (1, 2, 3):
                assert len(done) == number
                before = romeo._streams.wire
                await running.cut()
                await back(romeo, before)


@on_both
async def test_directed_presence_is_restored(tmp_path: Path) -> None:
    async with served(tmp_path, resume_s=0) as running:
        await running.account("romeo", "juliet", "nurse")
        async with (
            running.connect("romeo@localhost/x") as romeo,
            running.connect("juliet") as juliet,
            running.connect("nurse") as nurse,
        ):
            await juliet.send_presence()
            await nurse.send_presence()
            await romeo.send_presence(juliet.jid, status="for you")
            await romeo.send_presence(nurse.jid)
            await romeo.send_presence(nurse.jid, type="unavailable")
            before = romeo._streams.wire
            before.transport.extra(anyio.abc.SocketAttribute.raw_socket).shutdown(2)
            await back(romeo, before)
            await romeo.ping(juliet.jid)  # behind it
            await romeo.ping(nurse.jid)

            async def seen(client: xiot.Client) -> list[str | None]:
                presences, types = client.presences(), []
                with anyio.move_on_after(0.05):
                    async for each in presences:
                        if each.sender == romeo.jid:
                            types.append(each.type or each.status)
                return types

            assert await seen(juliet) == ["for you", "unavailable", "for you"]
            assert await seen(nurse) == [None, "unavailable"]


def test_what_is_remembered_of_directed_presence_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "DIRECTED_KEPT", 2)
    session = restoring.Restoring(roster.Roster(), Subscriptions(None, lambda: None))  # type: ignore[arg-type]
    for name in ("a", "b", "a", "c"):
        session.sent(presence(to=f"{name}@localhost"))
    session.sent(presence(type="subscribe", to="d@localhost"))
    assert list(session._directed) == [JID("a@localhost"), JID("c@localhost")]
    session.sent(presence(type="unavailable"))  # everybody is told
    assert not session._directed


@on_both
async def test_a_client_that_is_cancelled_closes_its_stream_at_once(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        subscribed = anyio.Event()

        async def stay() -> None:
            async with running.connect("romeo") as romeo:
                await romeo.publish("n", numbered(0))
                async with romeo.subscribe("n"):
                    subscribed.set()
                    await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stay)
            await subscribed.wait()
            before = anyio.current_time()
            tasks.cancel_scope.cancel()
        assert anyio.current_time() - before < 1  # it does not wait for an answer when nobody reads any more
        bound = functools.partial(running.server.hosts[HOST].sessions, JID(f"romeo@{HOST}"))
        await until(lambda: not bound(), 5)  # the session is not kept for one who does not come back


@on_both
async def test_another_client_with_our_resource_ends_us_for_good(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo@localhost/x") as old, running.connect("romeo@localhost/x") as new:
            with pytest.raises(StreamError, match="conflict"):
                await next_of(old.messages())
            assert old.state is State.ENDED
            await anyio.sleep(0.3)
            assert new.connected
            assert [state async for state in old.states()] == [State.ENDED]


@on_both
async def test_a_password_that_no_longer_works_ends_us_for_good(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo") as romeo:
            romeo._streams._login.password = "another"
            romeo._streams._login.memory = Memory()  # with a token of the last login no password is asked for
            await running.cut()
            with pytest.raises(AuthError, match="not-authorized"):
                await next_of(romeo.messages())
            with pytest.raises(AuthError):
                await romeo.send_message("juliet@localhost", "x")


@on_both
async def test_leaving_in_an_outage_takes_no_time(tmp_path: Path) -> None:
    async with served(tmp_path) as running:
        await running.account("romeo")
        with anyio.fail_after(10):
            async with running.connect("romeo") as romeo:
                await running.stop()
                await until(lambda: not romeo.connected)
                before = anyio.current_time()
            assert anyio.current_time() - before < 1
            assert romeo.state is State.ENDED


@on_both
async def test_what_happens_is_logged_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "xiot.client")
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo@localhost/x") as romeo:
            await running.stop()
            await until(lambda: "trying again in" in caplog.text)
            await running.start()
            await until(lambda: romeo.connected)
    for line in ("trying to connect again", "cannot connect: ", "logged in again after"):
        assert f"romeo@localhost/x: {line}" in caplog.text or line in caplog.text
    assert PASSWORD not in caplog.text
    assert PASSWORD not in repr(romeo._streams._login)


def test_delays_grow_to_a_cap_and_are_left_half_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "FIRST_S", 1.0)
    monkeypatch.setattr(reconnect, "CAP_S", 120.0)
    one, other = (list(itertools.islice(reconnect.delays(), 20)) for _ in range(2))
    assert one[0] == other[0] == 0.0
    assert one[1:] != other[1:]
    for number, delay in enumerate(one[1:]):
        full = min(2.0**number, 120.0)
        assert full / 2 <= delay <= full


@pytest.mark.parametrize(
    ("error", "final"),
    [
        *((StreamError(condition), True) for condition in sorted(reconnect.FINAL)),
        *((StreamError(c), False) for c in ("system-shutdown", "reset", "connection-timeout", "resource-constraint")),
        (StreamError("see-other-host", "x"), False),
        (AuthError("not-authorized"), True),
        (AuthError("temporary-auth-failure"), False),
        (LinkError("lost"), False),
        (TimeoutError(), False),
        (None, False),
    ],
)
def test_which_errors_are_final(error: Exception | None, final: bool) -> None:
    assert reconnect.is_final(error) is final


@on_both
async def test_a_stream_that_is_lost_at_once_is_not_tried_without_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []
    establish = streams.establish

    async def counted(*arguments: object, **options: object) -> object:
        tried.append(anyio.current_time())
        wire = await establish(*arguments, **options)  # type: ignore[arg-type]
        wire.transport.extra(anyio.abc.SocketAttribute.raw_socket).shutdown(2)
        return wire

    monkeypatch.setattr(reconnect, "FIRST_S", 0.4)
    monkeypatch.setattr(reconnect, "CAP_S", 0.4)
    monkeypatch.setattr(streams, "establish", counted)
    async with served(tmp_path) as running:
        await running.account("romeo")
        async with running.connect("romeo"):
            await running.cut()
            await until(lambda: len(tried) == 3)
    assert [later - before >= 0.2 for before, later in itertools.pairwise(tried)] == [True, True]


# ---- a server that is silent, or sends us elsewhere ----


@asynccontextmanager
async def silent_line(running: Served) -> AsyncIterator[tuple[str, list[bool]]]:
    """A way to the server that passes nothing on while the list is not empty."""
    silent: list[bool] = []

    async def serve(client: anyio.abc.SocketStream) -> None:
        host, _, port = running.address.rpartition(":")

        async def pass_on(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream) -> None:
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                async for data in source:
                    if not silent:
                        await sink.send(data)
            both.cancel_scope.cancel()

        async with await anyio.connect_tcp(host, int(port)) as server, anyio.create_task_group() as both:
            both.start_soon(pass_on, client, server)
            both.start_soon(pass_on, server, client)

    async with listening(serve) as address:
        yield address, silent


@on_both
@pytest.mark.security(statement=83)
async def test_a_server_that_is_silent_is_pinged_and_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings: list[float] = []
    send = ping.ping

    async def counted(*arguments: Any, **options: Any) -> float:
        pings.append(await send(*arguments, **options))
        return pings[-1]

    monkeypatch.setattr(ping, "ping", counted)
    monkeypatch.setattr(streams, "LOOK_AGAIN_S", 0.05)
    async with served(tmp_path) as running, silent_line(running) as (address, silent):
        await running.account("romeo")
        limits = {
            "ping_after_s": 0.1,
            "ping_timeout_s": 1,
            "timeout": 2,
        }  # a login that falls into the silence ends too
        async with running.connect("romeo", address=address, **limits) as romeo:
            await until(lambda: len(pings) == 3)  # it answers
            assert romeo.connected
            assert "ping" not in caplog.text
            silent.append(True)
            await until(lambda: not romeo.connected, 20)
            assert "the server has not answered a ping for 1 s" in caplog.text
            silent.clear()
            await until(lambda: romeo.connected, 20)


def server_context(running: Served) -> ssl.SSLContext:
    """TLS with the certificate of localhost."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    folder = running.folder / "tls"
    context.load_cert_chain(folder / "localhost.pem", folder / "localhost.key")
    return context


class Somewhere:
    """A resolver that knows one record."""

    def __init__(self, port: int, direct: bool) -> None:
        self.port, self.direct = port, direct

    async def services(self, name: str) -> Sequence[Service]:
        return [Service(0, 0, self.port, "x.example")] if name.startswith("_xmpps") is self.direct else []

    async def addresses(self, host: str) -> Sequence[str]:
        return ["127.0.0.1"]


HEADER = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    b" from='localhost' id='1' version='1.0'>"
)
STARTTLS = b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
PROCEED = b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"


@on_both
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.security(row=31)
async def test_the_certificate_must_be_that_of_the_jid_wherever_the_dns_leads(tmp_path: Path, direct: bool) -> None:
    async with served(tmp_path) as running:
        context = server_context(running)

    async def serve(stream: anyio.abc.SocketStream) -> None:
        if not direct:
            await stream.receive()
            await stream.send(HEADER + STARTTLS)
            await stream.receive()
            await stream.send(PROCEED)
        await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)
        raise AssertionError("the client goes on")

    async with listening(serve) as address:
        resolver = Somewhere(int(address.rpartition(":")[2]), direct)
        with pytest.raises(LinkError, match=r"the certificate of other\.example is refused.*other\.example"):
            async with xiot.connect("romeo@other.example", PASSWORD, resolver=resolver, ca_file=running.ca_file):
                pass


@on_both
@pytest.mark.parametrize("direct", [False, True])
async def test_a_server_is_found_by_its_records(tmp_path: Path, direct: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from xiot.net import dns

    async with served(tmp_path) as running:
        await running.account("romeo")
        monkeypatch.setattr(dns, "ascii_domain", lambda domain: "plant.example")  # localhost is not looked for
        at = running.tls_address if direct else running.address
        resolver = Somewhere(int(at.rpartition(":")[2]), direct)
        async with xiot.connect(
            "romeo@localhost",
            PASSWORD,
            resolver=resolver,
            ca_file=running.ca_file,
            tls="direct" if direct else "required",
        ) as romeo:
            assert await romeo.ping() > 0


REDIRECT = HEADER + (
    b"<stream:error><see-other-host"
    b" xmlns='urn:ietf:params:xml:ns:xmpp-streams'>%s</see-other-host></stream:error></stream:stream>"
)


@asynccontextmanager
async def sending_on(running: Served, *, tls: bool) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that sends everybody to `running`; the number of those it has sent."""
    sent: list[int] = []

    async def serve(stream: anyio.abc.SocketStream) -> None:
        way: anyio.abc.ByteStream = stream
        if tls:
            context = server_context(running)
            way = await TLSStream.wrap(stream, server_side=True, ssl_context=context, standard_compatible=False)
        await way.receive()
        sent.append(1)
        await way.send(REDIRECT % (running.tls_address if tls else running.address).encode())
        await way.receive()

    async with listening(serve) as address:
        yield address, sent


@on_both
@pytest.mark.security(statement=23)
async def test_a_server_that_has_proved_who_it_is_may_send_us_on(tmp_path: Path) -> None:
    async with served(tmp_path) as running, sending_on(running, tls=True) as (address, sent):
        await running.account("romeo")
        async with running.connect("romeo", address=address, tls="direct") as romeo:
            assert await romeo.ping() > 0
            assert sent == [1]


@on_both
@pytest.mark.security(statement=23)
async def test_a_server_that_has_not_may_not(tmp_path: Path) -> None:
    async with served(tmp_path) as running, sending_on(running, tls=False) as (address, sent):
        await running.account("romeo")
        for tls in ("required", "off"):
            with pytest.raises(StreamError, match="see-other-host"):
                async with running.connect("romeo", address=address, tls=tls):
                    pass
        assert sent == [1, 1]


@on_both
async def test_a_server_that_sends_us_in_a_circle_is_left(tmp_path: Path) -> None:
    async with served(tmp_path) as running, sending_on(running, tls=True) as (address, sent):
        running.tls_address = address
        with pytest.raises(LinkError, match="from one place to another"):
            async with running.connect("romeo", address=address, tls="direct"):
                pass
        assert len(sent) == 5
