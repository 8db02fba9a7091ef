# SPDX-License-Identifier: Apache-2.0
"""Builds the load generator, starts servers on loopback with their own data, and runs cases against them."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from typing import Any, Literal

HERE = Path(__file__).resolve().parent
GENERATOR_SOURCES = ("loadgen.c", "conn.c", "xmpp.c", "mqtt.c", "scram.c", "stats.c")
COMPILE = ("cc", "-std=c11", "-O2", "-g", "-Wall", "-Wextra", "-Wshadow", "-Wconversion")
PEERS = HERE.parents[1] / "build" / "load" / "peers" / "bin" / "python"
"""Where other Python servers are: what `peers.txt` names would not go together with ours."""
PASSWORD = "load-password"
"""The generator's, for all accounts."""
START_S = 60.0
"""How long a server may take to accept connections: Erlang on a busy machine needs 10."""
STOP_S = 20.0

Result = dict[str, Any]
"""What the generator prints; see ``print_report`` in ``loadgen.c``."""


class LoadError(Exception):
    """A tool could not be built, a server did not start, or a case could not be run; the text says which and why."""


@dataclass(frozen=True)
class Tools:
    """The built programs. `tls` is False where the OpenSSL headers are absent."""

    loadgen: Path
    relay: Path
    door: Path
    tls: bool


def build(cache: Path) -> Tools:
    """Compile the generator and the physical limits into `cache`, unless what lies there is newer than the sources. Raises LoadError."""
    cache.mkdir(parents=True, exist_ok=True)
    tls = _succeeds("cc", "-E", "-include", "openssl/ssl.h", "-x", "c", os.devnull)
    tools = Tools(cache / ("loadgen" if tls else "loadgen-no-tls"), cache / "relay", cache / "door", tls)
    openssl = ("-lssl", "-lcrypto") if tls else ("-DNO_TLS",)
    _compile(tools.loadgen, GENERATOR_SOURCES, openssl)
    _compile(tools.relay, ("relay.c",), ())
    _compile(tools.door, ("door.c", "scram.c"), openssl)
    return tools


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        raise LoadError(f"{command[0]} is not installed") from None


def _compile(target: Path, sources: tuple[str, ...], options: tuple[str, ...]) -> None:
    newest = max(path.stat().st_mtime for path in HERE.glob("*.[ch]"))
    if target.exists() and target.stat().st_mtime > newest:
        return
    fresh = target.with_suffix(f".{os.getpid()}")  # two runs may build at once
    command = [*COMPILE, "-o", str(fresh), *sources, *options]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        raise LoadError(f"{' '.join(command)}:\n{done.stderr}")
    fresh.rename(target)


# Servers


@dataclass(frozen=True)
class Place:
    """Where one server runs: its files and its ports on 127.0.0.1."""

    data: Path
    port: int
    tls_port: int
    tools: Tools

    @property
    def certificate(self) -> Path:
        return self.data / "localhost_cert.pem"

    @property
    def key(self) -> Path:
        return self.data / "localhost_key.pem"

    @property
    def both(self) -> Path:
        """Key and certificate in one file."""
        return self.data / "both.pem"

    @property
    def config(self) -> Path:
        return self.data / "config"


@dataclass(frozen=True)
class Kind:
    """One sort of server: how to tell whether it is installed, and how to start it in the foreground."""

    name: str
    missing: Callable[[], str | None]
    """What is not installed; None if all is there."""
    command: Callable[[Place], list[str]]
    version: Callable[[], str]
    config: str = ""
    """A template in `servers/`; "" for none."""
    words: Mapping[str, str] | None = None
    """What stands in the template besides ports and paths."""
    environment: Callable[[Place], dict[str, str]] = lambda place: {}
    speaks: Literal["xmpp", "mqtt", "bytes", "logins"] = "xmpp"
    """bytes: joins connections two by two, and moves what comes; logins: lets everybody in, to nothing."""
    starttls_only: bool = False
    """Nothing goes without TLS, and that is not there from the first octet."""

    @property
    def xmpp(self) -> bool:
        return self.speaks == "xmpp"


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    kind: Kind
    place: Place
    pid: int


def _on_path(program: str) -> Callable[[], str | None]:
    return lambda: None if shutil.which(program, path=_sbin()) else f"{program} is not installed"


def _debian(package: str) -> Callable[[], str]:
    return lambda: _output("dpkg-query", "-W", "-f", "${Version}", package)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "unknown"
    except FileNotFoundError:
        return "unknown"


def _ejabberd_home() -> Path | None:
    """The directory above ejabberd's Erlang application."""
    found = sorted(Path("/usr/lib").glob("*/ejabberd-*/ebin/ejabberd.app"))
    return found[-1].parents[2] if found else None


def _ejabberd_missing() -> str | None:
    return None if shutil.which("erl") and _ejabberd_home() else "ejabberd is not installed"


def _ejabberd_command(place: Place) -> list[str]:
    # By hand and not by ejabberdctl, whose change of user resets the limit of open files: out of them Erlang spins.
    # No node name: no distribution, no epmd.
    limits = ["+K", "true", "+P", "250000", "+Q", "65536", "-env", "ERL_CRASH_DUMP_BYTES", "0"]
    return ["erl", "-noinput", *limits, "-mnesia", "dir", f'"{place.data}/data"', "-s", "ejabberd"]


def _ejabberd_environment(place: Place) -> dict[str, str]:
    return {
        "EJABBERD_CONFIG_PATH": str(place.config.with_suffix(".yml")),
        "EJABBERD_LOG_PATH": str(place.data / "ejabberd.log"),
        "ERL_LIBS": str(_ejabberd_home()),
        "HOME": str(place.data),
    }


def _sbin() -> str:
    """The search path with where Debian puts servers."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])


def _xiot() -> str | None:
    """The command of the environment that runs this, else the one on the path."""
    beside = Path(sys.executable).with_name("xiot")
    return str(beside) if beside.exists() else shutil.which("xiot")


def _xiot_missing() -> str | None:
    if _xiot() is None:
        return "xiot is not installed"
    return None if _succeeds(str(_xiot()), "serve", "--help") else "xiot has no command serve"


def _not_beside(module: str) -> Callable[[], str | None]:
    """What is missing of a module of the other Python servers, which have an environment of their own."""

    def missing() -> str | None:
        if PEERS.exists() and _succeeds(str(PEERS), "-c", f"import {module}"):
            return None
        return f"{module} is not installed: python -m venv {PEERS.parents[1]}, and pip install -r {HERE / 'peers.txt'}"

    return missing


def _python_relay(python: str, loop: str) -> Callable[[Place], list[str]]:
    return lambda place: [python, str(HERE / "relay.py"), loop, str(place.port)]


def _door(place: Place) -> list[str]:
    files = [str(place.certificate), str(place.key)]
    return [str(place.tools.door), str(place.port), str(place.tls_port), *files, PASSWORD]


def _version(module: str) -> Callable[[], str]:
    code = f"from importlib.metadata import version; print(version({module!r}))"
    return lambda: _output(sys.executable if module == "trio" else str(PEERS), "-c", code)


def _pyjabber_command(place: Place) -> list[str]:
    arguments = ["--client_port", str(place.port), "--server_port", str(place.tls_port), "--cert_path", str(place.data)]
    arguments += ["--database_path", str(place.data / "pyjabber.db"), "--timeout", "3600", "--family", "ipv4"]
    return [str(PEERS.with_name("pyjabber")), *arguments]


_MOSQUITTO = Kind(
    "mosquitto",
    _on_path("mosquitto"),
    lambda place: [shutil.which("mosquitto", path=_sbin()) or "", "-c", str(place.config.with_suffix(".conf"))],
    _debian("mosquitto"),
    "mosquitto.conf",
    speaks="mqtt",
)
_PYJABBER = Kind(
    "pyjabber",
    _not_beside("pyjabber"),
    _pyjabber_command,
    _version("pyjabber"),
    starttls_only=True,
)
_PROSODY = Kind(
    "prosody",
    _on_path("prosody"),
    lambda place: ["prosody", "--config", str(place.config.with_suffix(".lua")), "-F"],
    _debian("prosody"),
    "prosody.cfg.lua",
    {"gc": "incremental"},
)
_EJABBERD = Kind(
    "ejabberd",
    _ejabberd_missing,
    _ejabberd_command,
    _debian("ejabberd"),
    "ejabberd.yml",
    environment=_ejabberd_environment,
)
_XIOT = Kind(
    "xiot",
    _xiot_missing,
    lambda place: [str(_xiot()), "serve", "--config", str(place.config.with_suffix(".toml"))],
    lambda: _output(str(_xiot()), "--version"),
    "xiot.toml",
    {"more": ""},
)
# What its defaults cost: no stored messages, no watch over silent clients, no resumption, no line for each login.
_BARE = 'offline_messages_per_account = 0\nidle_s = 0\nresume_s = 0\n\n[log]\nlevel = "error"'
# No busy waiting: schedulers that have nothing to do sleep at once, which costs a wake-up and saves CPU.
_NO_BUSY_WAIT = ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "relay", _on_path("cc"), lambda place: [str(place.tools.relay), str(place.port)], lambda: "", speaks="bytes"
        ),
        Kind("door", _on_path("cc"), _door, lambda: "", speaks="logins"),
        Kind("relay-trio", lambda: None, _python_relay(sys.executable, "trio"), _version("trio"), speaks="bytes"),
        Kind(
            "relay-uvloop",
            _not_beside("uvloop"),
            _python_relay(str(PEERS), "uvloop"),
            _version("uvloop"),
            speaks="bytes",
        ),
        _XIOT,
        replace(_XIOT, name="xiot-bare", words={"more": _BARE}),
        _PROSODY,
        replace(_PROSODY, name="prosody-gen", words={"gc": "generational"}),
        _EJABBERD,
        replace(_EJABBERD, name="ejabberd-nobw", command=lambda place: _ejabberd_command(place) + _NO_BUSY_WAIT),
        _MOSQUITTO,
        _PYJABBER,
    )
}
"""All servers that can be measured, by name."""


def make_place(kind: Kind, data: Path, tools: Tools) -> Place:
    """Lay out `data` (made if absent) for a server of `kind`: certificate, configuration, free ports."""
    (data / "data").mkdir(parents=True, exist_ok=True)
    port, tls_port = _free_ports(2)
    place = Place(data, port, tls_port, tools)
    if kind.speaks != "bytes":
        _make_certificate(place)
    if kind.config:
        words: dict[str, object] = {"data": data, "port": port, "tls_port": tls_port, "pem": place.both}
        words |= {"certificate": place.certificate, "key": place.key}
        text = Template((HERE / "servers" / kind.config).read_text(encoding="utf-8"))
        target = place.config.with_suffix(Path(kind.config).suffix)
        target.write_text(text.substitute(words | dict(kind.words or {})), encoding="utf-8")
    return place


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _make_certificate(place: Place) -> None:
    if place.certificate.exists():
        return
    names = "subjectAltName=DNS:localhost,DNS:anon.localhost"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = ["-keyout", str(place.key), "-out", str(place.certificate)]
    if not _succeeds("openssl", "req", "-x509", *kind, "-subj", "/CN=localhost", "-addext", names, *files):
        raise LoadError("openssl could not make a certificate")
    place.both.write_bytes(place.key.read_bytes() + place.certificate.read_bytes())


@contextlib.contextmanager
def running(kind: Kind, place: Place) -> Iterator[Server]:
    """A server of `kind` in `place`, which accepts connections on entry and has ended on exit. Raises LoadError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    output = place.data / "output.log"
    with output.open("ab") as log:
        process = subprocess.Popen(
            kind.command(place),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place.data,
            env=os.environ | kind.environment(place),
            start_new_session=True,  # its helpers end with it, and nothing else does
        )
    try:
        _await_ports(process, place, output, kind)
        yield Server(kind, place, process.pid)
    finally:
        _stop(process)


def _await_ports(process: subprocess.Popen[bytes], place: Place, output: Path, kind: Kind) -> None:
    deadline = time.monotonic() + START_S
    # The relay joins connections two by two: trials must not shift the pairs.
    ports = [place.port, place.port] if kind.speaks == "bytes" else [place.port, place.tls_port]
    while ports:
        if process.poll() is not None or time.monotonic() > deadline:
            raise LoadError(f"{kind.name} did not start:\n{output.read_text(errors='replace')[-2000:]}")
        try:
            socket.create_connection(("127.0.0.1", ports[0]), timeout=1).close()
            ports.pop(0)
        except OSError:
            time.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # helpers that outlived it; the group is ours alone


# Cases

NAMES = ("chat", "ping", "presence", "idle", "login", "storm", "return", "growth")


@dataclass(frozen=True)
class Case:
    """One thing to measure: ``chat/10/w64``, ``chat/100/2000ps``, ``ping/10/w1/direct``, ``login/64/scram-sha-1``,
    ``presence/100/w8``, ``chat/100/w1/sm``, ``idle/5000``, ``storm/1000/direct``, ``return/500``, ``growth/10/w64``.
    """

    text: str
    name: str
    count: int
    window: int = 1
    rate_per_s: int = 0
    tls: str = "none"
    sasl: str = "plain"
    sm: bool = False

    @classmethod
    def parse(cls, text: str) -> Case:
        """Read the text form. Raises ValueError."""
        name, *parts = text.split("/")
        if name not in NAMES or not parts or not parts[0].isdecimal():
            raise ValueError(f"{text} is not like chat/10/w64")
        case = cls(text, name, int(parts[0]))
        for part in parts[1:]:
            if part[:1] == "w" and part[1:].isdecimal():
                case = replace(case, window=int(part[1:]))
            elif part[-2:] == "ps" and part[:-2].isdecimal():
                case = replace(case, rate_per_s=int(part[:-2]))
            elif part == "sm":
                case = replace(case, sm=True)
            elif part in ("none", "starttls", "direct"):
                case = replace(case, tls=part)
            elif part in ("plain", "scram-sha-1", "anonymous"):
                case = replace(case, sasl=part)
            else:
                raise ValueError(f"{part} in {text} is not understood")
        return case

    @property
    def accounts(self) -> int:
        """How many accounts the case logs in."""
        if self.sasl == "anonymous":
            return 0
        return self.count * (2 if self.name in ("chat", "growth") else 1) + (self.name in ("presence", "storm"))

    @property
    def alone(self) -> bool:
        """Whether it wants a fresh process, in which nothing else is measured."""
        return self.name in ("idle", "storm", "return", "growth")

    def suits(self, kind: Kind, tools: Tools) -> bool:
        """Returns whether this can be measured there: a relay knows no logins, a door nothing else, and TLS must be built in."""
        if self.tls != "none" and not tools.tls:
            return False
        if kind.speaks == "bytes":
            return self.name == "chat" and self.tls == "none" and not self.sm
        if kind.speaks == "logins":
            return self.name == "login" and self.sasl == "scram-sha-1" and self.tls != "starttls"
        if kind.speaks == "mqtt":
            return self.name in ("chat", "idle") and not self.sm and self.tls != "starttls"
        if kind.starttls_only:
            return self.name in ("chat", "idle", "ping") and self.tls != "none" and self.sasl == "plain" and not self.sm
        return True

    def arguments(self, server: Server) -> list[str]:
        """The generator's command line, less its name."""
        place, kind = server.place, server.kind
        tls = "starttls" if kind.starttls_only else self.tls
        port = place.tls_port if tls == "direct" else place.port
        found = [self.name, "--port", str(port), "--count", str(self.count), "--tls", tls, "--sasl", self.sasl]
        found += ["--rate", str(self.rate_per_s)] if self.rate_per_s else ["--window", str(self.window)]
        found += ["--domain", "anon.localhost" if self.sasl == "anonymous" else "localhost", "--pid", str(server.pid)]
        found += ["--sm"] if self.sm else []
        return [*found, *{"xmpp": [], "logins": [], "bytes": ["--raw"], "mqtt": ["--mqtt"]}[kind.speaks]]


def generate(tools: Tools, *arguments: str) -> Result:
    """Run the generator to its end. Raises LoadError if not every login of the set-up succeeded."""
    done = subprocess.run([str(tools.loadgen), *arguments], capture_output=True, text=True)
    if not done.stdout:
        raise LoadError(f"loadgen {' '.join(arguments)}: {done.stderr.strip()}")
    result: Result = json.loads(done.stdout)
    if done.returncode:
        raise LoadError(f"loadgen {' '.join(arguments)}: {result['first_error']}")
    return result


def register(tools: Tools, server: Server, count: int) -> None:
    """Make the first `count` accounts. Raises LoadError."""
    if count and server.kind.xmpp:
        arguments = ["idle", "--port", str(server.place.port), "--count", str(count), "--register"]
        arguments += ["--tls", "starttls"] if server.kind.starttls_only else []
        generate(tools, *arguments, "--warmup", "0", "--seconds", "0", "--setup", "600")


def measure(tools: Tools, server: Server, case: Case, seconds: float, warmup_s: float = 0.5) -> Result:
    """Run `case` once. Raises LoadError."""
    return generate(tools, *case.arguments(server), "--seconds", str(seconds), "--warmup", str(warmup_s))


def measure_alone(tools: Tools, kind: Kind, place: Place, case: Case, seconds: float) -> Result:
    """Run `case`, one of those that are `alone`, in a process of its own. Raises LoadError."""
    with running(kind, place) as server:
        # The first logins load what every login needs: that is no cost of a connection.
        measure(tools, server, replace(case, name="idle", count=min(20, case.count)), 0, 0)
        if case.name == "return":
            return _kill_and_return(tools, server, case)
        if case.name == "growth":
            return _grow(tools, server, case, seconds)
        return measure(tools, server, case, seconds)


def _kill_and_return(tools: Tools, server: Server, case: Case) -> Result:
    """Kill the server under its clients, start it again, and wait until all are back."""
    command = [str(tools.loadgen), *case.arguments(server)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as clients:
        assert clients.stdout is not None
        assert clients.stderr is not None
        if clients.stderr.readline() != "ready\n":
            raise LoadError(f"{server.kind.name}: {clients.stdout.read()}")
        os.killpg(server.pid, signal.SIGKILL)
        while _lives(server.pid):
            time.sleep(0.01)
        with running(server.kind, server.place) as again:
            result: Result = json.loads(clients.stdout.read())
            # From its start on: with what it costs to start, since its clients come at once.
            cpu_s = time.clock_gettime((~again.pid << 3) | 2)  # CLOCK_PROCESS_CPUTIME_ID of that process
        result["server"]["cpu_s"], result["per_server_cpu_s"] = cpu_s, result["done"] / cpu_s
    return result


def _lives(pid: int) -> bool:
    """Whether the process, a child of ours, has not ended."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None


GROWTH_STANZAS = 1_000_000
GROWTH_LOOPS = 6


def _grow(tools: Tools, server: Server, case: Case, seconds: float) -> Result:
    """Put a million stanzas of several kinds through one process, and look at its memory behind each hundred thousand or so."""
    kinds = [
        replace(case, name="chat"),
        replace(case, name="chat", sm=True),
        replace(case, name="ping"),
        replace(case, name="presence", window=8),
    ]
    points: list[tuple[int, int]] = []
    stanzas = 0
    while stanzas < GROWTH_STANZAS or len(points) < GROWTH_LOOPS:
        results = [measure(tools, server, kind, seconds) for kind in kinds]
        stanzas += sum(result["done"] for result in results)
        points.append((stanzas, results[-1]["server"]["rss_kib"]))
    last = results[0]
    for name in ("lost", "doubled", "reordered", "errors", "disconnects", "failed_logins"):
        last[name] = sum(result[name] for result in results)
    slope = statistics.linear_regression(*zip(*points[1:], strict=True)).slope
    last["growth"] = {"points": points, "stanzas": stanzas, "bytes_per_stanza": slope * 1024}
    return last
