# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what it takes, and the one line with which it refuses."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xiot.core import JID
from xiot.proto.sasl import SaslPolicy
from xiot.server.config import Address, Config, ConfigError, Limits, Mechanism, find, load

EXAMPLE = """\
data_dir = "data"
[[host]]
name = "bench.test"
admins = ["admin@bench.test"]
registration = "open"            # off (default) | open
[[host]]
name = "anon.test"
mechanisms = ["ANONYMOUS"]
# certificate and private_key may be given per host too
[c2s]
listen = ["127.0.0.1:5222", "[::1]:5222"]
listen_tls = ["127.0.0.1:5223"]  # direct TLS, XEP-0368
starttls = "optional"            # required (default) | optional | off
plain_without_tls = true         # false (default): SASL PLAIN only under TLS
[tls]
certificate = "cert.pem"         # this table absent: a development CA and certificate are made
private_key = "key.pem"
[limits]
max_stanza_bytes = 262144
"""
MINIMAL = '[[host]]\nname = "plant.example"\n'


def read(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "xiot.toml"
    path.write_text(text, encoding="utf-8")
    return load(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{tmp_path / 'xiot.toml'}: ")


def test_example_is_taken_as_it_stands(tmp_path: Path) -> None:
    config = read(tmp_path, EXAMPLE)
    bench, anon = config.hosts
    assert (bench.name, bench.registration, bench.admins) == ("bench.test", "open", (JID("admin@bench.test"),))
    assert (anon.name, anon.registration, anon.mechanisms) == ("anon.test", "off", ("ANONYMOUS",))
    assert [(a.host, a.port) for a in config.c2s.listen] == [("127.0.0.1", 5222), ("::1", 5222)]
    assert [str(a) for a in config.c2s.listen_tls] == ["127.0.0.1:5223"]
    assert (config.c2s.starttls, config.c2s.plain_without_tls) == ("optional", True)
    assert config.limits == Limits()


def test_defaults_are_safe(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert (config.c2s.starttls, config.c2s.plain_without_tls) == ("required", False)
    assert (config.hosts[0].registration, config.hosts[0].admins) == ("off", ())
    assert "ANONYMOUS" not in config.hosts[0].mechanisms
    assert config.limits.pre_auth_stanza_bytes == 10_000


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    config = read(tmp_path, EXAMPLE.replace('"key.pem"', '"/etc/key.pem"'))
    assert config.data_dir == tmp_path / "data"
    assert config.database == tmp_path / "data" / "xiot.db"
    assert config.key_pair(config.hosts[0]) == (tmp_path / "cert.pem", Path("/etc/key.pem"))


def test_host_names_its_own_certificate(tmp_path: Path) -> None:
    own = 'name = "anon.test"\ncertificate = "a.pem"\nprivate_key = "b.pem"'
    config = read(tmp_path, EXAMPLE.replace('name = "anon.test"', own))
    assert config.key_pair(config.hosts[0]) == (tmp_path / "cert.pem", tmp_path / "key.pem")
    assert config.key_pair(config.hosts[1]) == (tmp_path / "a.pem", tmp_path / "b.pem")


def test_without_tls_table_there_is_no_key_pair(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL)
    assert config.key_pair(config.hosts[0]) is None


def test_host_name_is_prepared(tmp_path: Path) -> None:
    assert read(tmp_path, MINIMAL.replace("plant", "PLANT")).hosts[0].name == "plant.example"


def test_every_mechanism_that_can_be_named_is_implemented() -> None:
    policy = SaslPolicy(b"", mechanisms=get_args(Mechanism))
    offered = policy.offered(secure=True, bindings=["tls-server-end-point"], external=True)
    assert offered == list(get_args(Mechanism))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "host: missing"),
        ("host = []", "host: at least one [[host]] is needed"),
        ("host = 3", "host: expected `array`, got `int`"),
        ("host = [3]", "host[0]: expected `table`, got `int`"),
        ("[[host]]", "host[0].name: missing"),
        ("= 3", "Invalid statement (at line 1, column 1)"),
        (MINIMAL + "registraton = 'open'", "host[0].registraton: unknown key; did you mean registration?"),
        (MINIMAL + "Name = 'x'", "host[0].Name: unknown key; did you mean name?"),
        (MINIMAL + "zzz = 1", "host[0].zzz: unknown key"),
        (MINIMAL + '"a\\nb" = 1', 'host[0]."a\\nb": unknown key'),
        (MINIMAL + "[limit]", "limit: unknown key; did you mean limits?"),
        (
            MINIMAL + "registration = 'opne'",
            'host[0].registration: "opne" is not one of off, open; did you mean open?',
        ),
        (MINIMAL + "registration = true", "host[0].registration: true is not one of off, open"),
        (
            MINIMAL + "mechanisms = ['PLAIN', 'SCRAM-SHA256']",
            'host[0].mechanisms[1]: "SCRAM-SHA256" is not one of ANONYMOUS, EXTERNAL, PLAIN, SCRAM-SHA-1, SCRAM-SHA-1-PLUS, '
            "SCRAM-SHA-256, SCRAM-SHA-256-PLUS; did you mean SCRAM-SHA-256?",
        ),
        (MINIMAL + "mechanisms = []", "host[0].mechanisms: empty, so nobody could log in"),
        (MINIMAL + MINIMAL, "host[1].name: plant.example is already host[0]"),
        (
            MINIMAL + MINIMAL.upper().replace("HOST", "host").replace("NAME", "name"),
            "host[1].name: plant.example is already host[0]",
        ),
        ("[[host]]\nname = 'a b'", 'host[0].name: "a b" is not a host name'),
        ("[[host]]\nname = ''", 'host[0].name: "" is not a host name'),
        ("[[host]]\nname = 'me@plant.example'", 'host[0].name: "me@plant.example" is not a host name but a JID'),
        ("[[host]]\nname = 7", "host[0].name: 7 is not a string"),
        (MINIMAL + "admins = ['@']", 'host[0].admins[0]: "@" is not a JID'),
        (
            MINIMAL + "admins = ['plant.example']",
            'host[0].admins[0]: "plant.example" is not the JID of an account, like admin@example.org',
        ),
        (MINIMAL + "certificate = 'a'", "host[0].private_key: missing, but certificate is given"),
        (MINIMAL + "[tls]\nprivate_key = 'a'", "tls.certificate: missing, but private_key is given"),
        (
            MINIMAL + "[c2s]\nlisten = ['localhost:5222']",
            'c2s.listen[0]: "localhost:5222" is not like 127.0.0.1:5222 or [::1]:5222',
        ),
        (MINIMAL + "[c2s]\nlisten = ['1.2.3.4']", None),
        (MINIMAL + "[c2s]\nlisten = ['::1:5222']", None),
        (MINIMAL + "[c2s]\nlisten = ['1.2.3.400:1']", "c2s.listen[0]: 1.2.3.400 is not an IP address"),
        (MINIMAL + "[c2s]\nlisten = ['1.2.3.4:65536']", "c2s.listen[0]: 65536 is not a port: it goes up to 65535"),
        (
            MINIMAL + "[c2s]\nlisten = ['[::1]:5222']\nlisten_tls = ['[0::1]:5222']",
            "c2s.listen_tls[0]: [::1]:5222 is listened on twice",
        ),
        (MINIMAL + "[limits]\nmax_stanza_bytes = 9999", "limits.max_stanza_bytes: expected `int` >= 10000"),
        (MINIMAL + "[limits]\npre_auth_stanza_bytes = 1", "limits.pre_auth_stanza_bytes: expected `int` >= 10000"),
        (MINIMAL + "[limits]\npre_auth_s = 0", "limits.pre_auth_s: expected `float` > 0.0"),
        (MINIMAL + "[limits]\npre_auth_s = nan", None),
        (MINIMAL + "[limits]\npre_auth_s = inf", None),
        (MINIMAL + "[limits]\nmax_depth = '9'", "limits.max_depth: expected `int`, got `str`"),
        (MINIMAL + f"[limits]\nmax_depth = {2**70}", None),
        (MINIMAL + f"registration = {2**70}", None),
        (MINIMAL + "registration = 1979-05-27T07:32:00Z", None),
    ],
)
def test_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, message: str | None) -> None:
    refused = refusal(tmp_path, text)
    assert message in (None, refused)


def test_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(str(tmp_path))}: Is a directory$"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="No such file or directory$"):
        load(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"# \xe9")
    with pytest.raises(ConfigError, match="can't decode"):
        load(tmp_path / "latin")


def test_port_zero_may_be_named_twice(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL + "[c2s]\nlisten = ['127.0.0.1:0', '127.0.0.1:0']")
    assert [a.port for a in config.c2s.listen] == [0, 0]


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_ip_address_and_port_can_be_listened_on(address: Any, port: int) -> None:
    parsed = Address(f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}")
    assert (parsed.host, parsed.port) == (str(address), port)


def test_first_of_the_usual_places_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "own"))
    with pytest.raises(ConfigError, match="none of .*own/xiot/xiot.toml, xiot.toml"):
        find()
    (tmp_path / "xiot.toml").touch()
    assert find() == Path("xiot.toml")
    own = tmp_path / "own" / "xiot" / "xiot.toml"
    own.parent.mkdir(parents=True)
    own.touch()
    assert find() == own


keys = st.sampled_from(
    [
        "host",
        "name",
        "admins",
        "registration",
        "mechanisms",
        "certificate",
        "private_key",
        "c2s",
        "listen",
        "listen_tls",
        "starttls",
        "plain_without_tls",
        "tls",
        "limits",
        "max_stanza_bytes",
        "pre_auth_s",
        "data_dir",
        "accounts",
        "scram_iterations",
    ]
) | st.text(max_size=3)
leaves = (
    st.integers() | st.floats() | st.booleans() | st.text(max_size=5)
    | st.sampled_from(["a.example", "me@a.example", "open", "off", "PLAIN", "1.2.3.4:5", "[::]:5", 20_000])
)  # fmt: skip
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
    return str(value).lower()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(keys, values, max_size=5))
def test_any_toml_is_taken_or_refused_in_one_line(tmp_path: Path, data: dict[str, Any]) -> None:
    text = "\n".join(f"{toml(key)} = {toml(value)}" for key, value in data.items())
    try:
        read(tmp_path, text)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=50))
def test_any_text_is_taken_or_refused_in_one_line(tmp_path: Path, text: str) -> None:
    try:
        read(tmp_path, EXAMPLE + text)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
