# SPDX-License-Identifier: Apache-2.0
"""Each thing that may be wrong with a configuration is found, and said in one line."""

from __future__ import annotations

import hashlib
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dns.message
import dns.resolver
import dns.rrset
import pytest
import trio
import trustme

from xiot.server import checks
from xiot.server.checks import Finding
from xiot.server.config import Config, ConfigError, load
from xiot.store import Store

from .serving import serving

NOW = datetime.now(UTC)
PORTS = '[c2s]\nlisten = ["127.0.0.1:5222"]\nlisten_tls = ["127.0.0.1:5223"]\n'


def configured(folder: Path, text: str = PORTS, tls: bool = True, name: str = "plant.example") -> Config:
    path = folder / "xiot.toml"
    pair = '[tls]\ncertificate = "cert.pem"\nprivate_key = "key.pem"\n' if tls else ""
    path.write_text(f'data_dir = "data"\n[[host]]\nname = "{name}"\n{pair}{text}', encoding="utf-8")
    return load(path)


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


def issue(ca: trustme.CA, folder: Path, *names: str, **options: datetime) -> None:
    cert = ca.issue_cert(*names, **options)  # type: ignore[arg-type]
    cert.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in cert.cert_chain_pems))
    (folder / "key.pem").chmod(0o600)
    ca.cert_pem.write_to_path(folder / "ca.pem")


def look(folder: Path, config: Config, *, trusted: bool = True, now: datetime = NOW) -> list[tuple[str, str]]:
    ca_file = folder / "ca.pem" if trusted else None
    return [(each.level, each.text) for each in checks.certificate(config, config.hosts[0], now, ca_file)]


def test_a_good_certificate_is_good(ca: trustme.CA, tmp_path: Path) -> None:
    for name in ("a.plant.example", "*.plant.example"):
        issue(ca, tmp_path, name)
        ((level, text),) = look(tmp_path, configured(tmp_path, name="a.plant.example"))
        assert level == "ok"
        assert "trusted by clients" in text


def test_a_domain_that_is_not_ascii_is_compared_as_certificates_have_it(ca: trustme.CA, tmp_path: Path) -> None:
    issue(ca, tmp_path, "xn--brse-5qa.example")
    ((level, _),) = look(tmp_path, configured(tmp_path, name="börse.example"))
    assert level == "ok"


def test_what_the_systems_cas_do_not_know_is_a_warning(ca: trustme.CA, tmp_path: Path) -> None:
    issue(ca, tmp_path, "plant.example")
    ((level, text),) = look(tmp_path, configured(tmp_path), trusted=False)
    assert level == "warning"
    assert "clients that trust the system's CAs refuse the certificate: " in text


def test_an_intermediate_certificate_that_is_missing_is_noticed(tmp_path: Path) -> None:
    root = trustme.CA()
    issue(root.create_child_ca(), tmp_path, "plant.example")
    root.cert_pem.write_to_path(tmp_path / "ca.pem")
    config = configured(tmp_path)
    assert [level for level, _ in look(tmp_path, config)] == ["ok"]
    whole = (tmp_path / "cert.pem").read_text()
    leaf, middle = whole.split("-----END CERTIFICATE-----\n")[:2]
    (tmp_path / "cert.pem").write_text(f"{leaf}-----END CERTIFICATE-----\n")
    ((level, text),) = look(tmp_path, config)
    assert (level, "unable to get local issuer certificate" in text) == ("warning", True)
    other = trustme.CA().cert_pem.bytes().decode()
    (tmp_path / "cert.pem").write_text(f"{leaf}-----END CERTIFICATE-----\n{other}{middle}-----END CERTIFICATE-----\n")
    assert ("problem", "certificate 2 of the chain has not issued the one before it") in look(tmp_path, config)


@pytest.mark.parametrize(
    ("names", "now", "expected"),
    [
        (
            ["other.example", "a.plant.example"],
            NOW,
            "the certificate is for other.example, a.plant.example, not for plant.example",
        ),
        (["192.0.2.1"], NOW, "the certificate is for no domain, not for plant.example"),
        (["plant.example"], NOW + timedelta(days=31), "the certificate ran out on"),
        (["plant.example"], NOW - timedelta(days=31), "the certificate is not valid before"),
    ],
)
def test_names_and_dates_are_compared(
    ca: trustme.CA, tmp_path: Path, names: list[str], now: datetime, expected: str
) -> None:
    issue(ca, tmp_path, *names, not_before=NOW - timedelta(days=30), not_after=NOW + timedelta(days=30))
    ((level, text),) = look(tmp_path, configured(tmp_path), now=now)
    assert (level, text.startswith(expected)) == ("problem", True)


def test_one_that_runs_out_soon_is_a_warning(ca: trustme.CA, tmp_path: Path) -> None:
    issue(ca, tmp_path, "plant.example", not_after=NOW + timedelta(days=13, hours=1))
    assert look(tmp_path, configured(tmp_path))[0][1].startswith("the certificate runs out in 13 days: ")


def test_files_that_cannot_be_used_are_named(ca: trustme.CA, tmp_path: Path) -> None:
    config = configured(tmp_path)
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    assert look(tmp_path, config, trusted=False) == [("problem", f"{cert}: No such file or directory")]
    issue(ca, tmp_path, "plant.example")
    good = key.read_bytes()
    ca.issue_cert("plant.example").private_key_pem.write_to_path(key)
    assert look(tmp_path, config) == [("problem", f"{key} is not the key of {cert}")]
    key.write_bytes(b"garbage")
    ((level, text),) = look(tmp_path, config)
    assert level == "problem"
    assert "\n" not in text
    from cryptography.hazmat.primitives import serialization as s

    locked = s.load_pem_private_key(good, None).private_bytes(
        s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"x")
    )
    key.write_bytes(locked)
    assert look(tmp_path, config)[0][1] == f"{key} is protected by a password: nobody could type it at the start"
    key.write_bytes(good)
    key.chmod(0o644)
    assert look(tmp_path, config)[0] == ("problem", f"{key} is open to all users: chmod o= {key}")
    assert look(tmp_path, configured(tmp_path, tls=False))[0][0] == "warning"


def levels(findings: Iterator[Finding]) -> list[str]:
    return [finding.level for finding in findings]


async def test_data_that_others_may_read_or_that_is_too_new_is_a_problem(tmp_path: Path) -> None:
    config = configured(tmp_path)
    assert levels(checks.files(config)) == ["ok"]  # not there yet
    async with Store.open(config.database):
        pass
    assert levels(checks.files(config)) == ["ok"]
    config.database.chmod(0o640)
    assert levels(checks.files(config)) == ["problem", "ok"]
    config.database.chmod(0o600)
    with closing(sqlite3.connect(config.database)) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    assert levels(checks.files(config)) == ["problem"]
    config.database.write_text("not a database, and long enough to be looked at" * 100)
    assert levels(checks.files(config)) == ["problem"]
    config.data_dir.chmod(0o777)
    assert levels(checks.files(config)) == ["problem", "problem"]


async def test_ports_are_tried_unless_the_server_has_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        findings = await trio.to_thread.run_sync(lambda: list(checks.ports(running.server.config)))
        assert findings == [Finding("ok", "server", "running")]
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        config = configured(tmp_path, f'[c2s]\nlisten = ["{taken}"]\n')
        found = list(checks.ports(config))
    assert found[0] == Finding("ok", "server", "not running")
    assert found[1] == Finding("problem", "ports", f"cannot listen on {taken}: Address already in use")


def test_schemas_that_clients_may_name_are_compiled(tmp_path: Path) -> None:
    pytest.importorskip("lxml")
    head = b"<xs:schema xmlns:xs='http://www.w3.org/2001/XMLSchema' targetNamespace='urn:odd'>"
    texts = []
    for name, data in (
        ("good", head + b"<xs:element name='odd' type='xs:int'/></xs:schema>"),
        ("bad", head + b"<xs:element name='odd' type='nowhere'/></xs:schema>"),
        ("absent", b""),
        ("other", head + b"</xs:schema>"),
        ("broken", b"<"),
    ):
        if data:
            (tmp_path / f"{name}.xsd").write_bytes(data)
        md5 = hashlib.md5(data + name.encode() if name == "other" else data, usedforsecurity=False).hexdigest()
        size = len(data) or 1
        texts.append(f'[[exi.aliases]]\nnamespace = "urn:odd"\nbytes = {size}\nmd5 = "{md5}"\nfile = "{name}.xsd"\n')
    texts.append(f'[[exi.aliases]]\nnamespace = "urn:xmpp:ping"\nbytes = 7\nmd5 = "{"0" * 32}"\n')
    found = list(checks.schemas(configured(tmp_path, "".join(texts))))
    assert [each.level for each in found] == ["ok", "problem", "problem", "problem", "problem", "ok"]
    for each, words in zip(
        found, ["compiles", "nowhere", "No such file", "has namespace", "no XML", "as ours"], strict=True
    ):
        assert words in each.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('namespace = "urn:odd"\nbytes = 7', "none of ours|no schema of ours"),
        ('namespace = "urn:xmpp:ping"\nbytes = 0', "bytes"),
        ('namespace = "urn:xmpp:ping"\nbytes = 7\nfiel = "a"', "did you mean file"),
    ],
)
def test_an_alias_of_a_schema_needs_what_it_is_for(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        configured(tmp_path, f'[[exi.aliases]]\n{text}\nmd5 = "{"0" * 32}"\n')


def test_settings_for_closed_networks_are_pointed_out(tmp_path: Path) -> None:
    text = 'starttls = "optional"\nplain_without_tls = true\n[http]\nlisten = ["0.0.0.0:0"]\n'
    config = configured(tmp_path, f'[c2s]\nlisten = ["0.0.0.0:5222"]\n{text}')
    assert levels(checks.policy(config)) == ["warning", "warning"]
    assert "warning" in levels(checks.ports(config))
    assert levels(checks.policy(configured(tmp_path))) == []
    config = configured(tmp_path, f'[c2s]\nlisten = ["127.0.0.1:5222"]\n{text}')
    assert levels(checks.policy(config)) == []


class Zone(threading.Thread):
    """A DNS server on loopback that knows `records`: (name, type) -> data."""

    def __init__(self, records: dict[tuple[str, str], list[str]]) -> None:
        super().__init__(daemon=True)
        self.records = records
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.start()

    def run(self) -> None:
        while True:
            try:
                data, client = self.sock.recvfrom(4096)
            except OSError:
                return
            query = dns.message.from_wire(data)
            answer = dns.message.make_response(query)
            question = query.question[0]
            name, kind = question.name.to_text(True), dns.rdatatype.to_text(question.rdtype)
            found = self.records.get((name, kind))
            if found:
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *found))
            elif not any(known == name for known, _ in self.records):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            self.sock.sendto(answer.to_wire(), client)

    @property
    def resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = ["127.0.0.1"]
        resolver.port = self.sock.getsockname()[1]
        resolver.lifetime = 5
        return resolver


C, S = "_xmpp-client._tcp.plant.example", "_xmpps-client._tcp.plant.example"


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            {
                (C, "SRV"): ["0 0 5222 x.example."],
                (S, "SRV"): ["0 0 5223 x.example."],
                ("x.example", "A"): ["192.0.2.1"],
            },
            ["ok", "ok"],
        ),
        ({(C, "SRV"): ["0 0 5269 x.example."], ("x.example", "AAAA"): ["2001:db8::1"]}, ["problem"]),
        ({(C, "SRV"): ["0 0 5222 x.example."]}, ["problem"]),
        ({(C, "SRV"): ["0 0 0 ."]}, ["problem"]),
        ({("plant.example", "A"): ["192.0.2.1"]}, ["ok"]),
        ({("plant.example", "MX"): ["0 x.example."]}, ["problem"]),
        ({}, ["problem"]),
    ],
)
def test_dns_is_asked_as_clients_do(
    tmp_path: Path, records: dict[tuple[str, str], list[str]], expected: list[str]
) -> None:
    zone = Zone(records)
    config = configured(tmp_path)
    found = list(checks.dns_records(config, config.hosts[0], zone.resolver))
    zone.sock.close()
    assert [finding.level for finding in found] == expected, found
    assert all("\n" not in finding.text for finding in found)


def test_a_resolver_that_does_not_answer_is_not_taken_for_no_records(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind(("127.0.0.1", 0))
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port, resolver.lifetime = ["127.0.0.1"], deaf.getsockname()[1], 0.2
        config = configured(tmp_path)
        ((finding),) = checks.dns_records(config, config.hosts[0], resolver)
    assert (finding.level, finding.text.startswith("DNS does not answer: ")) == ("problem", True)
