# SPDX-License-Identifier: Apache-2.0
"""Finding servers: SRV records from a DNS server of our own, and which of them is tried first."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import anyio
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client.both import listening, on_both
from xiot.errors import LinkError
from xiot.net import dial
from xiot.net.dns import Dns, Service, Target, ascii_domain, discover, in_order

CLIENT, CLIENTS = "_xmpp-client._tcp.", "_xmpps-client._tcp."


class NameServer:
    """Answers over UDP from `records`: (name, type) to lines of data; unknown names do not exist, those in `failing` fail."""

    def __init__(self, records: dict[tuple[str, str], Sequence[str]], failing: Sequence[str] = ()) -> None:
        self.records = records
        self.failing = failing
        self.asked: list[tuple[str, str]] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    @property
    def resolver(self) -> Dns:
        return Dns(["127.0.0.1"], port=self.port)

    def serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(4096)
            if not data:
                self._socket.close()
                return
            query = dns.message.from_wire(data)
            (question,) = query.question
            name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
            self.asked.append((name, kind))
            answer = dns.message.make_response(query)
            answer.flags |= dns.flags.RA
            if name in self.failing:
                answer.set_rcode(dns.rcode.SERVFAIL)
            elif lines := self.records.get((name, kind)):
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *lines))
            elif not any(known == name for known, _ in self.records):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self._socket.sendto(answer.to_wire(), peer)

    def end(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.sendto(b"", ("127.0.0.1", self.port))


@contextmanager
def names(records: dict[tuple[str, str], Sequence[str]], failing: Sequence[str] = ()) -> Iterator[NameServer]:
    """A name server on loopback."""
    server = NameServer(records, failing)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.end()
        thread.join()


@on_both
async def test_records_of_both_kinds_are_one_list_by_priority() -> None:
    records = {
        (CLIENT + "plant.example", "SRV"): ["10 0 5222 a.plant.example.", "30 0 5222 c.plant.example."],
        (CLIENTS + "plant.example", "SRV"): ["20 0 443 b.plant.example."],
    }
    with names(records) as server:
        assert await discover("plant.example", server.resolver) == [
            Target("a.plant.example", 5222, False, 10),
            Target("b.plant.example", 443, True, 20),
            Target("c.plant.example", 5222, False, 30),
        ]
        assert [t.host for t in await discover("plant.example", server.resolver, starttls=False)] == ["b.plant.example"]
        starttls = await discover("plant.example", server.resolver, direct_tls=False)
        assert [t.host for t in starttls] == ["a.plant.example", "c.plant.example"]


@on_both
async def test_a_domain_without_records_is_tried_itself() -> None:
    with names({("plant.example", "A"): ["127.0.0.1"]}) as server:
        assert await discover("plant.example", server.resolver) == [Target("plant.example", 5222)]
        only_tls = await discover("plant.example", server.resolver, starttls=False)
        assert only_tls == [Target("plant.example", 5223, True)]


@on_both
async def test_a_dot_means_not_offered() -> None:
    none, tls = ["0 0 0 ."], ["5 0 443 b.plant.example."]
    with names({(CLIENT + "plant.example", "SRV"): none, (CLIENTS + "plant.example", "SRV"): tls}) as server:
        assert await discover("plant.example", server.resolver) == [Target("b.plant.example", 443, True, 5)]
    with names({(CLIENTS + "plant.example", "SRV"): none, (CLIENT + "plant.example", "SRV"): tls}) as server:
        assert await discover("plant.example", server.resolver) == [Target("b.plant.example", 443, False, 5)]
    with names({(CLIENT + "plant.example", "SRV"): none}) as server:
        with pytest.raises(LinkError, match="offers no XMPP service"):
            await discover("plant.example", server.resolver)


@on_both
async def test_a_name_server_that_fails_is_gone_on_without() -> None:
    name = CLIENT + "plant.example"
    with names({(CLIENTS + "plant.example", "SRV"): ["5 0 443 b.plant.example."]}, failing=[name]) as server:
        assert await discover("plant.example", server.resolver) == [Target("b.plant.example", 443, True, 5)]
    with names({}, failing=[name, CLIENTS + "plant.example"]) as server:
        assert await discover("plant.example", server.resolver) == [Target("plant.example", 5222)]


@on_both
async def test_a_domain_in_other_letters_is_asked_for_in_a_labels() -> None:
    name = CLIENT + "xn--bcher-kva.example"
    with names({(name, "SRV"): ["5 0 5222 b.example."]}) as server:
        assert await discover("bücher.example", server.resolver) == [Target("b.example", 5222, False, 5)]
        assert (name, "SRV") in server.asked


@on_both
async def test_addresses_and_localhost_are_not_asked_for() -> None:
    with names({}) as server:
        for domain, host in (
            ("192.0.2.1", "192.0.2.1"),
            ("[::1]", "::1"),
            ("localhost", "localhost"),
            ("a.localhost", "a.localhost"),
        ):
            assert await discover(domain, server.resolver) == [Target(host, 5222)]
        assert await server.resolver.addresses("::1") == ["::1"]
        assert not server.asked


@on_both
async def test_name_servers_that_are_given_are_asked_for_addresses_too() -> None:
    with names({("a.example", "A"): ["192.0.2.7"], ("a.example", "AAAA"): ["2001:db8::7"]}) as server:
        assert set(await server.resolver.addresses("a.example")) == {"192.0.2.7", "2001:db8::7"}
        with pytest.raises(LinkError, match=r"b\.example has no address"):
            await server.resolver.addresses("b.example")


@on_both
async def test_the_system_knows_its_own_names() -> None:
    assert set(await Dns().addresses("localhost")) & {"127.0.0.1", "::1"}


def test_a_label_too_long_is_a_fault_of_the_domain() -> None:
    with pytest.raises(LinkError, match="no domain of the DNS"):
        ascii_domain("ü" * 80 + ".example")


services = st.builds(Service, st.integers(0, 3), st.integers(0, 65535), st.integers(1, 65535), st.just("a.example"))


@given(st.lists(st.tuples(st.booleans(), services)), st.integers(0))
def test_an_order_has_every_record_once_and_lower_priorities_first(
    records: list[tuple[bool, Service]], seed: int
) -> None:
    ordered = in_order(records, random.Random(seed))
    assert Counter(ordered) == Counter(records)
    priorities = [service.priority for _, service in ordered]
    assert priorities == sorted(priorities)


def test_weights_are_chances() -> None:
    records = [(False, Service(1, weight, 5222, f"w{weight}")) for weight in (0, 10, 30)]
    rng = random.Random(1)
    first = Counter(in_order(records, rng)[0][1].target for _ in range(4000))
    assert 0 < first["w0"] < 300  # RFC 2782: a very small chance
    assert 800 < first["w10"] < 1200
    assert 2600 < first["w30"] < 3200


async def hello(stream: anyio.abc.SocketStream) -> None:
    await stream.send(b"hello")
    await stream.receive()


@on_both
async def test_a_place_that_refuses_gives_way_to_the_next() -> None:
    async with listening(hello) as address:
        port = int(address.rpartition(":")[2])
        records = {("a.example", "A"): ["127.0.0.1"]}
        with names(records) as server:
            places = [Target("127.0.0.1", 9), Target("none.example", 9), Target("a.example", port, priority=1)]
            stream, target = await dial.reach(places, "x.example", None, server.resolver)
            async with stream:
                assert target.port == port
                assert await stream.receive() == b"hello"
            with pytest.raises(LinkError, match=r"127.0.0.1:9.*refused; none.example has no address"):
                await dial.reach(places[:2], "x.example", None, server.resolver)


class Slow:
    """A resolver that never knows the addresses of some."""

    async def services(self, name: str) -> Sequence[Service]:
        return []

    async def addresses(self, host: str) -> Sequence[str]:
        if host == "slow.example":
            await anyio.sleep_forever()
        return ["127.0.0.1"]


@on_both
async def test_a_place_that_is_slow_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    async with listening(hello) as address:
        port = int(address.rpartition(":")[2])
        with anyio.fail_after(5):  # the equal does not wait for it to give up
            stream, _ = await dial.reach(
                [Target("slow.example", 1), Target("x.example", port)], "x.example", None, Slow()
            )
            await stream.aclose()
        monkeypatch.setattr(dial, "ATTEMPT_S", 0.3)
        later = [Target("slow.example", 1), Target("x.example", port, priority=1)]
        with anyio.fail_after(5):
            stream, _ = await dial.reach(later, "x.example", None, Slow())
            await stream.aclose()
        with pytest.raises(LinkError, match="within 0.3 s"):
            await dial.reach(later[:1], "x.example", None, Slow())


def test_a_client_that_is_told_an_address_loads_no_dns() -> None:
    code = "import sys, xiot.client\nsys.exit('dns' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
