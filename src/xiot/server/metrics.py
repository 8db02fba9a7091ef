# SPDX-License-Identifier: Apache-2.0
"""What a server counts, for ``/metrics`` and ``xiot status``. No label has a value that peers choose, above all no JID.

Stanzas that the core routes are counted there, octets by the links: what they have is summed when somebody asks. Only what Python
deals with anyway is counted here.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from xiot.net.pump import Connection
    from xiot.server.server import Server

SLICE = 1000  # connections summed up, at a time: about a millisecond
COMMIT_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""From an SSD's fsync to that of a disk that others use too."""


@dataclass(slots=True)
class Tally:
    """All connections of a moment, summed up; octets also of those that were before."""

    connections: int = 0
    sessions: Counter[tuple[bool, bool]] = field(default_factory=Counter)
    """Bound ones, by whether they have TLS and whether they are in EXI."""
    bytes_in: int = 0
    bytes_out: int = 0
    exi: Counter[str] = field(default_factory=Counter)
    """Octets of streams in EXI, without TLS: ``in`` and ``out``, as XML ``xml_in`` and ``xml_out``, on the wire ``wire_in`` and ``wire_out``."""
    queued_bytes: int = 0
    paused: int = 0
    """Not read: they wait for something, for a slow recipient, or because they do not take their own answers."""
    choked: int = 0
    """Those of the last kind."""
    stalled: int = 0
    """Passed over by senders: they take nothing."""


class Metrics(Collector):
    """The figures of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.stanzas: Counter[str] = Counter()
        """Received and dealt with here, by kind; `Router.routed` counts those the core dealt with."""
        self.errors: Counter[tuple[str, str]] = Counter()
        """By ``stanza`` or ``stream``, and condition."""
        self.logins: Counter[tuple[str, str]] = Counter()
        """By mechanism, and ``success`` or the condition."""
        self.accepted = self.refused = 0
        """Connections; refused: too many of one address."""
        self._bytes_in = self._bytes_out = 0  # of those that are gone
        self._exi: Counter[str] = Counter()  # likewise
        self._tally = Tally()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._commits = Histogram(
            "xiot_store_seconds",
            "Commits of the store, fsync included.",
            ["op"],
            buckets=COMMIT_S,
            registry=self._registry,
        ).labels("commit")
        self._jobs = 0

    def committed(self, jobs: int, seconds: float) -> None:
        """The store has committed so many jobs; called in its thread."""
        self._jobs += jobs
        self._commits.observe(seconds)

    def ended(self, connection: Connection) -> None:
        """The connection is gone."""
        self._bytes_in += connection.bytes_in
        self._bytes_out += connection.bytes_out
        _add_exi(self._exi, connection)

    async def tally(self) -> Tally:
        """Sum up all connections, some at a time."""
        # Together, so that the octets of none are counted twice or never; what goes meanwhile keeps its counts.
        connections, tally = self._server.pump.connections(), Tally(bytes_in=self._bytes_in, bytes_out=self._bytes_out)
        tally.exi.update(self._exi)
        for number, connection in enumerate(connections, 1):
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
            tally.bytes_in += connection.bytes_in
            tally.bytes_out += connection.bytes_out
            _add_exi(tally.exi, connection)
            if connection.lost is None:
                tally.connections += 1
                tally.queued_bytes += connection.link.queued_bytes
                tally.paused += not connection.reading
                tally.choked += connection.choked
                tally.stalled += connection.link.stalled
        for number, session in enumerate(list(self._server.sessions), 1):
            if number % SLICE == 0:
                await trio.lowlevel.checkpoint()
            if session.bound and session.connection.lost is None:
                tally.sessions[session.connection.tls is not None, session.connection.over_exi] += 1
        return tally

    async def text(self) -> bytes:
        """All figures in the text format of Prometheus."""
        self._tally = await self.tally()
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: asked for when registered, before there is a server."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The figures that are not the library's own."""
        server, tally, watch = self._server, self._tally, self._server.watch
        yield InfoMetricFamily(
            "xiot_build", "What runs.", {"version": server.version, "python": platform.python_version()}
        )
        yield _counter("xiot_connections_accepted", "Connections accepted.", [], {(): server.metrics.accepted})
        yield _counter("xiot_connections_refused", "Too many of one address.", [], {(): server.metrics.refused})
        yield _gauge("xiot_connections", "Open connections.", [], {(): tally.connections})
        yield _gauge(
            "xiot_c2s_sessions",
            "Bound sessions of clients.",
            ["transport", "tls", "encoding"],
            {
                ("tcp", str(tls).lower(), "exi" if exi else "xml"): tally.sessions[tls, exi]
                for tls in (False, True)
                for exi in (False, True)
            },
        )
        yield _gauge(
            "xiot_c2s_sessions_detached", "Without a connection, to be resumed.", [], {(): len(server.resumptions)}
        )
        kinds = {(kind, "in"): self.stanzas[kind] for kind in ("message", "presence", "iq")}
        yield _counter("xiot_stanzas", "Stanzas dealt with by rules and handlers.", ["kind", "direction"], kinds)
        routed = server.router.routed
        yield _counter(
            "xiot_stanzas_routed", "Messages and iqs that the core routed, from client to client.", [], {(): routed}
        )
        wire = {"in": tally.bytes_in, "out": tally.bytes_out}
        yield _counter(
            "xiot_bytes",
            "Octets on the wire.",
            ["direction", "encoding"],
            {(way, "xml"): octets - tally.exi[f"wire_{way}"] for way, octets in wire.items()}
            | {(way, "exi"): tally.exi[f"wire_{way}"] for way in wire},
        )
        yield _counter(
            "xiot_exi_bytes",
            "Octets of streams in EXI, without TLS, and what they would be as XML.",
            ["direction", "encoding"],
            {
                (direction, encoding): tally.exi[prefix + direction]
                for encoding, prefix in (("exi", ""), ("xml", "xml_"))
                for direction in ("in", "out")
            },
        )
        yield _counter("xiot_errors", "Errors sent, and stream errors of peers.", ["kind", "condition"], self.errors)
        yield _counter("xiot_auth", "Logins; a failed one without -PLUS.", ["mechanism", "result"], self.logins)
        yield _counter(
            "xiot_tls_handshakes",
            "Handshakes done or failed.",
            ["result"],
            {("success",): server.pump.handshakes, ("failure",): server.pump.failed_handshakes},
        )
        yield _gauge(
            "xiot_queue_depth",
            "What waits: octets for clients, jobs for the store, handshakes.",
            ["queue"],
            {
                ("out_bytes",): tally.queued_bytes,
                ("store",): server.store.queued,
                ("handshakes",): server.pump.securing,
            },
        )
        yield _gauge(
            "xiot_connections_waiting",
            "Connections that are not read (paused; of these, choked do not take their own answers, held are over a rate)"
            " or passed over (stalled).",
            ["state"],
            {
                ("paused",): tally.paused,
                ("choked",): tally.choked,
                ("held",): watch.held,
                ("stalled",): tally.stalled,
            },
        )
        waits = {(scope,): watch.waits[scope] for scope in watch.waited_s}
        yield _counter("xiot_shaper_waits", "Holds for a rate.", ["scope"], waits)
        yield _counter(
            "xiot_shaper_wait_seconds",
            "Time held, of holds that are over.",
            ["scope"],
            {(scope,): seconds for scope, seconds in watch.waited_s.items()},
        )
        yield _counter("xiot_store_jobs", "Jobs of all commits.", [], {(): self._jobs})
        yield _counter("xiot_pump_turns", "Turns of the pump.", [], {(): server.pump.turns})
        yield _gauge(
            "xiot_tls_cert_expiry_timestamp_seconds",
            "When the certificate in use runs out.",
            ["host"],
            {(host,): at.timestamp() for host, at in server.certificates.expiry.items()},
        )
        yield _gauge("xiot_start_time_seconds", "When it started.", [], {(): server.started_at.timestamp()})


def _add_exi(counts: Counter[str], connection: Connection) -> None:
    exi = connection.exi
    if exi is not None and not exi.xml:
        for name, octets in (
            ("in", exi.octets_in),
            ("out", exi.octets_out),
            ("xml_in", exi.xml_in),
            ("xml_out", exi.xml_out),
            ("wire_in", connection.bytes_in),
            ("wire_out", connection.bytes_out),
        ):
            counts[name] += octets


def _counter(name: str, help: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    return _fill(CounterMetricFamily(name, help, labels=labels), values)


def _gauge(name: str, help: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    return _fill(GaugeMetricFamily(name, help, labels=labels), values)


def _fill(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[Any, float]) -> Metric:
    for labels, value in values.items():
        family.add_metric(list(labels), value)
    return family
