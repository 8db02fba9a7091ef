# SPDX-License-Identifier: Apache-2.0
"""The receiving and the initiating entity: bytes in, bytes and events out. "Row n": the catalogue of known failures."""

from __future__ import annotations

import re
import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiot.core import JID, Element, StreamParser
from xiot.errors import STREAM_ERRORS, AuthError, LinkError, StanzaError, StreamError
from xiot.proto import ClientStream, ServerStream
from xiot.proto.events import (
    Authenticated,
    CheckPassword,
    Closed,
    LoginFailed,
    NeedBind,
    NeedKeys,
    NeedPassword,
    NeedSaltedPassword,
    NonzaReceived,
    Ready,
    Reply,
    RestartStream,
    StanzaReceived,
    StartTls,
)
from xiot.proto.stream import Phase
from xiot.stanzas import message, reply_to

from .ends import (
    BIND,
    BINDINGS,
    HEADER,
    KEYS,
    PLAIN_LOGIN,
    SASL,
    STARTTLS,
    Answer,
    End,
    client_end,
    policy,
    server_end,
    talk,
)

CLOSE = "</stream:stream>"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
BIND_NS = "urn:ietf:params:xml:ns:xmpp-bind"
BAD_LOGIN = f"<auth xmlns='{SASL}' mechanism='PLAIN'>AGJvaWxlcgB4</auth>"
MESSAGE = "<message to='app@plant.example'><body>21.5</body></message>"
SERVER_HEADER = (
    "<?xml version='1.0'?><stream:stream id='s1' from='plant.example' version='1.0' xmlns='jabber:client' "
    "xmlns:stream='http://etherx.jabber.org/streams'>"
)
BOILER = JID("boiler@plant.example")

chunks = pytest.mark.parametrize("chunk", [0, 1, 7], ids=["whole", "octets", "sevens"])


def hide_ids(data: bytes) -> str:
    return re.sub(r" id='[\w-]{32}'", " id='ID'", data.decode())


def features(*children: str) -> str:
    return f"<stream:features>{''.join(children)}</stream:features>"


def mechanisms(*names: str) -> str:
    return f"<mechanisms xmlns='{SASL}'>{''.join(f'<mechanism>{name}</mechanism>' for name in names)}</mechanisms>"


def assert_stream_error(end: End, sent: bytes, condition: str) -> None:
    """Exactly one header in all that was sent in this (re)start, then the error, then the closing tag, then silence."""
    start, _, tail = sent.decode().rpartition("<?xml version='1.0'?>")[2].partition("<stream:error>")
    assert start.count("<stream:stream ") <= 1
    assert tail.startswith(f"<{condition} xmlns='urn:ietf:params:xml:ns:xmpp-streams'"), sent
    assert tail.endswith("</stream:error></stream:stream>")
    assert isinstance(end.error, StreamError)
    assert end.error.condition == condition
    assert end.feed(MESSAGE) == b""
    assert end.stream.close() == []
    assert end.stream.data_to_send() == b""


def logged_in(chunk: int = 0, **options: Any) -> End:
    """A server's stream that waits for the bind request."""
    end = server_end(chunk=chunk, **options)
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN)
    end.feed(HEADER)
    end.take()
    return end


def bound(chunk: int = 0, **options: Any) -> End:
    """A server's stream that is ready."""
    end = logged_in(chunk, **options)
    end.feed(BIND)
    end.take()
    return end


# The receiving entity: from the header to a bound resource.


@chunks
@pytest.mark.security(statement=(28, 32))
def test_login_from_the_clear_to_a_bound_resource(chunk: int) -> None:
    end = server_end(secure=False, chunk=chunk)
    head = (
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' "
        "version='1.0' id='ID' from='plant.example' xml:lang='en'>"
    )
    assert hide_ids(end.feed(HEADER)) == head + features(f"<starttls xmlns='{TLS}'><required/></starttls>")
    assert end.feed(STARTTLS).decode() == f"<proceed xmlns='{TLS}'/>"
    assert end.take() == [StartTls("plant.example"), RestartStream()]
    assert hide_ids(end.feed(HEADER)) == head + features(mechanisms("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN"))
    assert end.feed(PLAIN_LOGIN).decode() == f"<success xmlns='{SASL}'/>"
    assert end.take() == [CheckPassword("boiler", "pencil"), Authenticated(BOILER, "PLAIN"), RestartStream()]
    session = "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>"
    assert hide_ids(end.feed(HEADER)) == head + features(f"<bind xmlns='{BIND_NS}'/>", session)
    jid = f"<bind xmlns='{BIND_NS}'><jid>boiler@plant.example/chosen</jid></bind>"
    assert end.feed(BIND).decode() == f"<iq id='b1' type='result'>{jid}</iq>"
    assert end.take() == [NeedBind(None), Ready(BOILER.with_resource("chosen"))]
    assert end.feed(MESSAGE) == b""
    (received,) = end.take()
    assert isinstance(received, StanzaReceived)
    assert received.stanza.tobytes().decode() == MESSAGE
    assert end.feed(CLOSE).decode() == CLOSE
    assert end.take() == [Closed(None)]


SCRIPT = (HEADER, STARTTLS, HEADER, PLAIN_LOGIN, HEADER, BIND, MESSAGE, CLOSE)


def play(cuts: dict[int, tuple[int, ...]]) -> tuple[list[str], list[str]]:
    """Let a server hear SCRIPT, each line cut at the offsets in `cuts`; return what it said and what it told."""
    end = server_end(secure=False)
    said = []
    for number, line in enumerate(SCRIPT):
        offsets = [0, *sorted(min(cut, len(line)) for cut in cuts.get(number, ())), len(line)]
        said.append(hide_ids(b"".join(end.feed(line[a:b]) for a, b in pairwise(offsets))))
    return said, [str(event) for event in end.events]


@pytest.mark.parametrize("number", range(len(SCRIPT)))
def test_login_is_the_same_at_whichever_octet_a_line_is_cut(number: int) -> None:
    whole = play({})
    for cut in range(len(SCRIPT[number])):
        assert play({number: (cut,)}) == whole


@settings(max_examples=30, deadline=None)
@given(cuts=st.dictionaries(st.integers(0, len(SCRIPT) - 1), st.tuples(*[st.integers(0, 300)] * 4)))
def test_login_is_the_same_however_it_is_cut(cuts: dict[int, tuple[int, ...]]) -> None:
    assert play(cuts) == play({})


@pytest.mark.security(statement=26)
def test_header_is_understood_however_it_is_written() -> None:
    end = server_end()
    odd = (
        '<s:stream  xmlns:s = \'http://etherx.jabber.org/streams\'\n version="1.0"\txmlns="jabber:client" '
        "to='PLANT.example' from='Boiler@plant.example/oven' >"
    )
    answer = hide_ids(end.feed(odd))
    assert " from='plant.example' to='boiler@plant.example'" in answer
    assert "<mechanisms" in answer


@pytest.mark.parametrize("version", ["1.0", "1.1", "01.0", "2.0", "10.7"])
def test_reply_has_the_lower_version(version: str) -> None:
    """RFC 6120 section 4.7.5."""
    assert b" version='1.0' " in server_end().feed(
        HEADER.replace("version='1.0' xml:lang", f"version='{version}' xml:lang")
    )


@pytest.mark.parametrize(
    "version", ["", " version='0.9'", " version='0.10'", " version='one'", " version='1'", " version=''"]
)
@pytest.mark.security(statement=5)
def test_no_version_or_a_lower_one_is_unsupported(version: str) -> None:
    end = server_end()
    sent = end.feed(HEADER.replace(" version='1.0' xml:lang", f"{version} xml:lang"))
    assert_stream_error(end, sent, "unsupported-version")


@pytest.mark.security(statement=6)
def test_id_is_new_in_each_restart() -> None:
    ids = set()
    for _ in range(5):
        end = server_end(secure=False)
        for line in (HEADER, STARTTLS, HEADER, PLAIN_LOGIN, HEADER):
            ids |= set(re.findall(rb" id='([\w-]{22,})'", end.feed(line)))
    assert len(ids) == 15


@pytest.mark.parametrize(("lang", "echoed"), [("de-CH", "de-CH"), ("x" * 40, "en"), ("&apos;&lt;", "en"), ("", "en")])
def test_language_is_echoed_if_it_is_one(lang: str, echoed: str) -> None:
    assert f" xml:lang='{echoed}'>".encode() in server_end().feed(HEADER.replace("xml:lang='en'", f"xml:lang='{lang}'"))


def test_features_of_the_shell_are_announced_before_and_after_login() -> None:
    def extra(authenticated: bool) -> list[Element]:
        return [Element("{urn:xmpp:features:rosterver}ver" if authenticated else "{urn:example}register")]

    end = server_end(policy(extra={"extra_features": extra}))
    before, after = end.feed(HEADER), (end.feed(PLAIN_LOGIN), end.feed(HEADER))[1]
    assert b"<register xmlns='urn:example'/></stream:features>" in before
    assert b"<ver xmlns='urn:xmpp:features:rosterver'/></stream:features>" in after
    assert b"<mechanism" not in after


@pytest.mark.security(row=36, statement=45)
def test_channel_binding_is_announced() -> None:
    announced = server_end(bindings=BINDINGS).feed(HEADER)
    assert b"<mechanism>SCRAM-SHA-256-PLUS</mechanism>" in announced
    assert (
        b"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-server-end-point'/>"
        b"</sasl-channel-binding>"
    ) in announced
    assert b"PLUS" not in server_end().feed(HEADER)
    assert b"sasl-cb" not in server_end().feed(HEADER)


# Stream errors. Each names its condition; where the catalogue or the list of requirements has it, its number.


@pytest.mark.parametrize(
    ("header", "condition"),
    [
        ("<stream xmlns='jabber:client'>", "invalid-namespace"),  # 1, 2
        (HEADER.replace("http://etherx.jabber.org/streams", "http://etherx.jabber.org/Streams"), "invalid-namespace"),
        (HEADER.replace("<stream:stream", "<stream:features"), "bad-format"),  # 1
        (HEADER.replace("jabber:client", "jabber:server"), "invalid-namespace"),  # 3
        (HEADER.replace(" xmlns='jabber:client'", ""), "invalid-namespace"),
        (HEADER.replace("plant.example", "elsewhere.example"), "host-unknown"),  # 4
        (HEADER.replace(" to='plant.example'", ""), "improper-addressing"),
        (HEADER.replace("plant.example", ""), "improper-addressing"),
        (HEADER.replace("plant.example", "@"), "improper-addressing"),
        (HEADER.replace("plant.example", "boiler@plant.example"), "improper-addressing"),
        (HEADER.replace("plant.example", "plant.example/x"), "improper-addressing"),
        (HEADER.replace(" to=", " from='@' to="), "improper-addressing"),
        (HEADER.replace("'1.0'?>", "'1.0' encoding='UTF-16'?>"), "unsupported-encoding"),  # 14
        ("<?xml version='1.0'?><!DOCTYPE x><x>", "restricted-xml"),  # 16
    ],
)
@chunks
@pytest.mark.security(row=1, statement=(2, 3, 4, 7, 14, 16))
def test_bad_header(header: str, condition: str, chunk: int) -> None:
    """Our header comes first even then."""
    end = server_end(chunk=chunk)
    sent = end.feed(header)
    assert sent.startswith(b"<?xml version='1.0'?><stream:stream ")
    assert_stream_error(end, sent, condition)


def test_header_within_the_stream_is_bad_format() -> None:
    """A shell that did not ask for a restart cannot get one; nor does a peer behind another framing."""
    end = bound()
    (header,) = StreamParser().feed(HEADER.encode())
    end.handle(end.stream.receive(header))
    assert_stream_error(end, end.stream.data_to_send(), "bad-format")


def test_header_before_an_error_names_no_host_that_is_not_ours() -> None:
    """RFC 6120 section 4.9.1.2."""
    sent = server_end().feed(HEADER.replace("plant.example", "elsewhere.example"))
    assert b" from='' " in sent
    assert b"elsewhere" not in sent


@pytest.mark.parametrize("first", ["GET / HTTP/1.1\r\n\r\n", "\0\0\0\0", "\x16\x03\x01 hello", "<", "{}"])
@pytest.mark.security(statement=1)
def test_peer_that_does_not_speak_xml_gets_no_features(first: str) -> None:
    end = server_end()
    sent = end.feed(first) + end.feed("\r\n\r\n<>")
    assert b"<stream:features" not in sent
    assert isinstance(end.error, StreamError)


@pytest.mark.parametrize(
    ("element", "condition"),
    [
        ("<message><!-- x --></message>", "restricted-xml"),  # 16
        ("<?pi x?>", "restricted-xml"),
        ("<message>&nbsp;</message>", "restricted-xml"),
        ("<message></massage>", "not-well-formed"),
        ("<x:message/>", "not-well-formed"),  # 17
    ],
)
@chunks
@pytest.mark.security(statement=(16, 17))
def test_condition_of_the_parser_is_passed_on(element: str, condition: str, chunk: int) -> None:
    end = bound(chunk)
    assert_stream_error(end, end.feed(element), condition)


@pytest.mark.parametrize(
    "element", [MESSAGE, "<presence/>", BIND, "<x xmlns='urn:example'/>", "<features xmlns='jabber:client'/>"]
)
@chunks
@pytest.mark.security(statement=19)
def test_stanza_before_login_is_not_authorized(element: str, chunk: int) -> None:
    end = server_end(chunk=chunk)
    end.feed(HEADER)
    assert_stream_error(end, end.feed(element), "not-authorized")


@pytest.mark.parametrize(
    "element", [MESSAGE, "<presence/>", "<iq type='get' id='1'><q xmlns='urn:example'/></iq>", STARTTLS, PLAIN_LOGIN]
)
@pytest.mark.security(statement=49)
def test_anything_but_binding_after_login_is_not_authorized(element: str) -> None:
    end = logged_in()
    assert_stream_error(end, end.feed(element), "not-authorized")


@pytest.mark.parametrize(
    "element",
    ["<massage/>", "<stream:stream/>", "<r xmlns='urn:xmpp:sm:3'/>", PLAIN_LOGIN, "<message xmlns='urn:example'/>"],
)
@pytest.mark.security(statement=18)
def test_unknown_element_after_binding_is_unsupported(element: str) -> None:
    end = bound()
    assert_stream_error(end, end.feed(element), "unsupported-stanza-type")


@pytest.mark.parametrize("start", [server_end, logged_in, bound])
def test_stanza_of_the_other_content_namespace_is_refused(start: Any) -> None:
    end = start()
    if start is server_end:
        end.feed(HEADER)
    assert_stream_error(end, end.feed("<message xmlns='jabber:server'/>"), "invalid-namespace")


@pytest.mark.parametrize(
    "sender", ["app@plant.example", "boiler@other.example/chosen", "boiler@plant.example/other", "@", ""]
)
@pytest.mark.security(row=53, statement=56)
def test_client_that_writes_another_sender_is_cut_off(sender: str) -> None:
    """Row 53."""
    end = bound()
    assert_stream_error(end, end.feed(f"<message from='{sender}'/>"), "invalid-from")


@pytest.mark.parametrize(
    "sender", ["boiler@plant.example", "boiler@plant.example/chosen", "BOILER@plant.example/chosen"]
)
def test_client_may_write_its_own_address(sender: str) -> None:
    end = bound()
    assert end.feed(f"<message from='{sender}'/>") == b""
    assert len(end.take()) == 1


@pytest.mark.parametrize("condition", sorted(STREAM_ERRORS))
@pytest.mark.security(statement=27)
def test_each_stream_error_arrives_as_it_was_sent(condition: str) -> None:
    client, server = client_end(secure=True), server_end()
    talk(client, server)
    error = StreamError(condition, "a < b & c", Element("{urn:example}detail"))
    server.handle(server.stream.close(error))
    assert client.feed(server.stream.data_to_send()) == CLOSE.encode()
    assert isinstance(client.error, StreamError)
    assert (client.error.condition, client.error.text) == (condition, error.text)
    assert client.error.app == error.app


def test_unknown_stream_error_is_undefined_condition() -> None:
    end = bound()
    later = "<stream:error><later xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    assert end.feed(later).decode() == CLOSE
    assert isinstance(end.error, StreamError)
    assert end.error.condition == "undefined-condition"


# TLS.


@pytest.mark.parametrize("behind", [PLAIN_LOGIN, HEADER, MESSAGE, "<", "\x16\x03\x01", STARTTLS])
@pytest.mark.parametrize("chunk", [0, 7])
@pytest.mark.security(row=24)
def test_nothing_in_the_clear_is_taken_for_something_from_inside_tls(behind: str, chunk: int) -> None:
    """Row 24, server: the octets come in one segment with ``<starttls/>``."""
    end = server_end(secure=False, chunk=chunk)
    end.feed(HEADER)
    assert end.feed(STARTTLS + behind) == b"" or chunk
    if chunk == 0:
        assert end.take()[0] == StartTls("plant.example")
    assert not any(isinstance(event, (Authenticated, StanzaReceived)) for event in end.events)
    assert end.stream.jid is None


@pytest.mark.parametrize("late", [MESSAGE, "<<", CLOSE])
@pytest.mark.security(statement=30)
def test_nothing_is_sent_in_the_clear_after_proceed(late: str) -> None:
    end = server_end(secure=False, answers={StartTls: lambda stream, event: []})
    end.feed(HEADER)
    assert end.feed(STARTTLS).decode() == f"<proceed xmlns='{TLS}'/>"
    assert end.feed(late) == b""
    assert end.error is not None
    assert end.feed(PLAIN_LOGIN) == b""


@pytest.mark.security(statement=(12, 13))
def test_whitespace_between_nonzas_is_tolerated() -> None:
    end = server_end(secure=False)
    for line in (HEADER, "\n", STARTTLS, HEADER, "\n ", PLAIN_LOGIN, HEADER + "\n", BIND, " ", MESSAGE):
        end.feed(line)
    assert isinstance(end.events[-1], StanzaReceived)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-1"])
@pytest.mark.security(row=26, statement=28)
def test_login_without_the_required_tls_is_refused(mechanism: str) -> None:
    """Row 26."""
    end = server_end(secure=False)
    end.feed(HEADER)
    answer = end.feed(f"<auth xmlns='{SASL}' mechanism='{mechanism}'>biwsbj1ib2lsZXIscj14</auth>")
    assert answer.decode() == f"<failure xmlns='{SASL}'><encryption-required/></failure>"
    assert end.take() == [LoginFailed(None, "encryption-required", None)]


def test_optional_tls_is_offered_beside_the_mechanisms_that_need_none() -> None:
    end = server_end(policy(starttls="optional"), secure=False)
    assert (
        features(f"<starttls xmlns='{TLS}'/>", mechanisms("SCRAM-SHA-256", "SCRAM-SHA-1")) in end.feed(HEADER).decode()
    )


@pytest.mark.parametrize(("starttls", "secure"), [("off", False), ("off", True), ("required", True)])
def test_starttls_that_was_not_offered_fails_and_ends_the_stream(starttls: str, secure: bool) -> None:
    """RFC 6120 section 5.4.2.2."""
    end = server_end(policy(starttls=starttls), secure=secure)
    assert b"<starttls" not in end.feed(HEADER)
    assert end.feed(STARTTLS).decode() == f"<failure xmlns='{TLS}'/></stream:stream>"
    assert isinstance(end.error, LinkError)


def test_tls_started_unasked_is_a_misuse() -> None:
    with pytest.raises(RuntimeError):
        server_end(secure=False).stream.tls_started()


# Restarts (row 27, CVE-2018-10847).


@pytest.mark.parametrize(
    ("to", "condition"), [("other.example", "not-authorized"), ("elsewhere.example", "host-unknown")]
)
@pytest.mark.security(row=27)
def test_other_host_after_login_is_refused(to: str, condition: str) -> None:
    end = server_end()
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN)
    assert_stream_error(end, end.feed(HEADER.replace("plant.example", to)), condition)


@pytest.mark.security(row=27)
def test_other_host_after_tls_is_refused() -> None:
    end = server_end(secure=False)
    end.feed(HEADER)
    end.feed(STARTTLS)
    assert_stream_error(end, end.feed(HEADER.replace("plant.example", "other.example")), "not-authorized")


@pytest.mark.parametrize("sender", ["app@plant.example", "boiler@other.example", "plant.example"])
@pytest.mark.security(row=27)
def test_other_sender_after_login_is_refused(sender: str) -> None:
    end = server_end()
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN)
    assert_stream_error(end, end.feed(HEADER.replace(" to=", f" from='{sender}' to=")), "invalid-from")


def test_own_address_after_login_is_fine() -> None:
    end = server_end()
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN)
    assert b" to='boiler@plant.example'" in end.feed(HEADER.replace(" to=", " from='Boiler@plant.example/oven' to="))


@pytest.mark.security(statement=32)
def test_what_was_sent_ahead_of_a_restart_is_refused() -> None:
    end = server_end()
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN + BIND)
    assert isinstance(end.error, StreamError)
    assert not any(isinstance(event, NeedBind) for event in end.events)


# Login on a stream.


@chunks
def test_scram_on_a_stream_asks_for_keys(chunk: int) -> None:
    end = server_end(chunk=chunk)
    end.feed(HEADER)
    challenge = end.feed(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1ib2lsZXIscj14</auth>")
    assert challenge.startswith(f"<challenge xmlns='{SASL}'>".encode())
    assert end.take() == [NeedKeys("boiler", "SCRAM-SHA-1")]


@pytest.mark.security(row=43, statement=42)
def test_fifth_failure_ends_the_stream() -> None:
    """Row 43."""
    end = server_end()
    end.feed(HEADER)
    failure = f"<failure xmlns='{SASL}'><not-authorized/></failure>"
    for _ in range(4):
        assert end.feed(BAD_LOGIN).decode() == failure
    sent = end.feed(BAD_LOGIN)
    assert sent.startswith(failure.encode())
    assert sum(isinstance(event, LoginFailed) for event in end.events) == 5
    assert_stream_error(end, sent, "policy-violation")


@pytest.mark.security(statement=42)
def test_login_succeeds_after_failures() -> None:
    end = server_end()
    end.feed(HEADER)
    end.feed(BAD_LOGIN * 4)
    assert end.feed(PLAIN_LOGIN).decode() == f"<success xmlns='{SASL}'/>"


@pytest.mark.security(row=43)
def test_tls_does_not_reset_the_count_of_failures() -> None:
    end = server_end(policy(starttls="optional", plain_without_tls=True), secure=False)
    end.feed(HEADER)
    end.feed(BAD_LOGIN * 3)
    end.feed(STARTTLS)
    end.feed(HEADER)
    assert_stream_error(end, end.feed(BAD_LOGIN * 2), "policy-violation")


def test_shell_may_refuse_a_login() -> None:
    end = server_end(
        answers={CheckPassword: lambda stream, event: stream.refuse_login("temporary-auth-failure", "later")}
    )
    end.feed(HEADER)
    assert b"<temporary-auth-failure/><text xml:lang='en'>later</text></failure>" in end.feed(PLAIN_LOGIN)
    assert end.events[-1] == LoginFailed("boiler", "temporary-auth-failure", "later")


def test_nothing_is_fed_while_a_question_waits() -> None:
    end = server_end(answers={CheckPassword: lambda stream, event: []})
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN)
    with pytest.raises(RuntimeError):
        end.feed(MESSAGE)


@pytest.mark.parametrize("error", [None, StreamError("system-shutdown")])
def test_answer_that_comes_after_the_end_is_dropped(error: StreamError | None) -> None:
    end = server_end(answers={CheckPassword: lambda stream, event: []})
    end.feed(HEADER)
    end.feed(PLAIN_LOGIN)
    end.handle(end.stream.close(error))
    end.stream.data_to_send()
    assert isinstance(end.stream, ServerStream)
    assert end.stream.password_checked(True) == []
    assert end.stream.data_to_send() == b""
    assert end.stream.jid is None


def test_resource_that_comes_after_the_end_is_dropped() -> None:
    end = logged_in(answers={NeedBind: lambda stream, event: []})
    end.feed(BIND)
    end.stream.close()
    end.stream.data_to_send()
    assert isinstance(end.stream, ServerStream)
    assert end.stream.bound(BOILER.with_resource("x")) == []
    assert end.stream.data_to_send() == b""


@pytest.mark.parametrize("call", ["provide_keys", "password_checked", "bound", "bind_refused", "refuse_login"])
def test_answer_without_question_is_a_misuse(call: str) -> None:
    end = server_end()
    end.feed(HEADER)
    with pytest.raises(RuntimeError):
        getattr(end.stream, call)(None)


def test_iq_that_the_host_allows_before_login_reaches_the_shell() -> None:
    register = "<iq type='get' id='r1'><query xmlns='jabber:iq:register'/></iq>"
    allowed = policy(extra={"iq_before_login": frozenset(["jabber:iq:register"])})
    end = server_end(allowed)
    end.feed(HEADER)
    assert end.feed(register) == b""
    (received,) = end.take()
    assert isinstance(received, StanzaReceived)
    end.stream.send(reply_to(received.stanza))
    assert end.stream.data_to_send() == b"<iq id='r1' type='result'/>"
    assert end.feed(PLAIN_LOGIN).startswith(b"<success")
    for refused, secure in (
        (register, False),
        (register.replace("iq", "message"), True),
        ("<iq id='r1' type='get'/>", True),
    ):
        end = server_end(allowed, secure=secure)
        end.feed(HEADER)
        assert_stream_error(end, end.feed(refused), "not-authorized")


# Binding.


@pytest.mark.security(statement=50)
def test_server_may_bind_another_resource() -> None:
    end = logged_in(answers={NeedBind: lambda stream, event: stream.bound(BOILER.with_resource("mine"))})
    asked = BIND.replace("/></iq>", "><resource>oven</resource></bind></iq>")
    assert b"<jid>boiler@plant.example/mine</jid>" in end.feed(asked)
    assert end.take() == [NeedBind("oven"), Ready(JID("boiler@plant.example/mine"))]


@pytest.mark.security(statement=51)
def test_refused_binding_may_be_asked_for_again() -> None:
    end = logged_in(answers={NeedBind: lambda stream, event: stream.bind_refused(StanzaError("resource-constraint"))})
    for _ in range(2):
        assert end.feed(BIND).decode() == (
            "<iq id='b1' type='error'><error type='wait'>"
            "<resource-constraint xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        )
    assert end.stream.phase is Phase.BINDING


@pytest.mark.parametrize(
    "iq",
    [
        BIND.replace(" id='b1'", ""),  # section 2, 52
        BIND.replace("/></iq>", f"><resource>{'x' * 1024}</resource></bind></iq>"),
    ],
)
def test_bind_request_that_cannot_be_met_is_a_bad_request(iq: str) -> None:
    end = logged_in()
    answer = end.feed(iq)
    assert b"<error type='modify'><bad-request " in answer
    assert end.take() == []
    assert b"<jid>" in end.feed(BIND)


def test_empty_resource_leaves_the_choice_to_the_server() -> None:
    end = logged_in()
    assert b"<jid>" in end.feed(BIND.replace("/></iq>", "><resource/></bind></iq>"))
    assert end.take()[0] == NeedBind(None)


def test_second_binding_is_not_allowed() -> None:
    end = bound()
    assert b"<not-allowed " in end.feed(BIND)
    assert [type(event) for event in end.take()] == [Reply]
    assert end.stream.phase is Phase.READY


def test_session_of_rfc_3921_is_granted() -> None:
    end = bound()
    session = "<iq type='set' id='s1' to='plant.example'><session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>"
    assert end.feed(session) == b"<iq from='plant.example' id='s1' type='result'/>"
    assert [type(event) for event in end.take()] == [Reply]


def test_nonzas_that_the_host_takes_reach_the_shell_after_login() -> None:
    takes = policy(extra={"nonzas": frozenset(["urn:xmpp:sm:3"])})
    for end in (logged_in(host=takes), bound(host=takes)):
        end.feed("<enable xmlns='urn:xmpp:sm:3'/>")
        (event,) = end.take()
        assert isinstance(event, NonzaReceived)
    end = server_end(takes)
    end.feed(HEADER)
    assert_stream_error(end, end.feed("<resume xmlns='urn:xmpp:sm:3'/>"), "not-authorized")


# The end.


@pytest.mark.security(statement=10)
def test_closing_tag_is_answered() -> None:
    end = bound()
    assert end.feed(CLOSE).decode() == CLOSE
    assert end.take() == [Closed(None)]
    assert end.feed("") == b""


@pytest.mark.security(statement=11)
def test_what_comes_before_the_peers_closing_tag_is_still_processed() -> None:
    end = bound()
    assert end.stream.close() == []
    assert end.stream.data_to_send().decode() == CLOSE
    assert end.stream.close() == []
    assert end.feed(MESSAGE + "<r xmlns='urn:xmpp:sm:3'/>" + CLOSE) == b""
    received, closed = end.take()
    assert isinstance(received, StanzaReceived)
    assert closed == Closed(None)


@pytest.mark.parametrize(
    "rest", ["</x>", "<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"]
)
@pytest.mark.security(statement=9)
def test_nothing_follows_our_closing_tag(rest: str) -> None:
    end = bound()
    end.stream.close()
    end.stream.data_to_send()
    assert end.feed(rest) == b""
    assert isinstance(end.error, StreamError)
    with pytest.raises(LinkError):
        end.stream.send(message(to="app@plant.example"))


def test_stanzas_before_login_do_not_count_while_closing() -> None:
    end = server_end()
    end.feed(HEADER)
    end.stream.close()
    end.feed(MESSAGE)
    assert end.take() == []


@pytest.mark.security(statement=(7, 22))
def test_server_that_stops_before_the_clients_header_says_so_within_a_stream() -> None:
    end = server_end()
    end.handle(end.stream.close(StreamError("system-shutdown")))
    assert_stream_error(end, end.stream.data_to_send(), "system-shutdown")


def test_client_that_leaves_before_login_is_a_lost_link() -> None:
    end = server_end()
    end.feed(HEADER)
    assert end.feed(CLOSE).decode() == CLOSE
    assert isinstance(end.error, LinkError)


# The initiating entity against the receiving one.


@pytest.mark.parametrize(
    "mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS"]
)
@chunks
def test_client_logs_in_to_our_server(mechanism: str, chunk: int) -> None:
    start: dict[type, Answer] = {StartTls: lambda stream, event: stream.tls_started(BINDINGS)}
    client = client_end("boiler@plant.example/oven", mechanisms=[mechanism], chunk=chunk, answers=start)
    server = server_end(secure=False, chunk=chunk, answers=start)
    sent = talk(client, server)
    jid = JID("boiler@plant.example/oven")
    assert client.events[-2:] == [RestartStream(), Ready(jid)]
    assert Authenticated(BOILER, mechanism) in client.events
    assert Authenticated(BOILER, mechanism) in server.events
    assert server.events[-2:] == [NeedBind("oven"), Ready(jid)]
    assert sent.count(b"<stream:stream ") == 3
    client.stream.send(message(to="app@plant.example"))
    talk(client, server)
    assert isinstance(server.events[-1], StanzaReceived)
    client.stream.close()
    talk(client, server)
    assert client.error is None
    assert server.error is None


def test_client_does_not_tell_its_name_in_the_clear() -> None:
    """RFC 6120 section 4.7.1."""
    client, server = client_end(), server_end(secure=False)
    sent = talk(client, server)
    before, _, after = sent.partition(STARTTLS.encode())
    assert b"boiler" not in before
    assert b" from='boiler@plant.example'" in after


def test_anonymous_client_gets_a_name() -> None:
    client, server = client_end("plant.example", secure=True), server_end(policy(mechanisms=("ANONYMOUS",)))
    talk(client, server)
    ready = client.events[-1]
    assert isinstance(ready, Ready)
    assert ready.jid == server.stream.jid
    assert ready.jid.domain == "plant.example"
    assert ready.jid.local


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"])
def test_client_with_a_wrong_password_is_told_so(mechanism: str) -> None:
    client, server = client_end(secure=True, password="pen", mechanisms=[mechanism]), server_end()
    talk(client, server)
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "not-authorized"


@pytest.mark.security(statement=43)
def test_client_refuses_a_server_that_does_not_know_the_password() -> None:
    """The server takes any proof, but cannot sign."""
    client = client_end(secure=True, mechanisms=["SCRAM-SHA-1"])
    client.feed(SERVER_HEADER + features(mechanisms("SCRAM-SHA-1")))
    client.feed(f"<success xmlns='{SASL}'/>")
    assert isinstance(client.error, AuthError)
    assert not any(isinstance(event, Authenticated) for event in client.events)


@pytest.mark.security(row=35)
def test_client_notices_another_certificate_in_the_middle() -> None:
    """Row 35: both talk TLS, but not to each other."""
    client = client_end(secure=True, bindings={"tls-server-end-point": b"of somebody in the middle"})
    server = server_end(bindings=BINDINGS)
    talk(client, server)
    assert isinstance(client.error, AuthError)
    assert client.error.text == "channel-bindings-dont-match"


@pytest.mark.security(row=37)
def test_client_notices_that_plus_mechanisms_were_cut_out() -> None:
    """Row 37: with the types of binding still there it is plain (XEP-0440), else the server sees our flag "y"."""
    for cut in (
        rb"<mechanism>[\w-]*-PLUS</mechanism>",
        rb"<mechanism>[\w-]*-PLUS</mechanism>|<sasl-channel.*?binding>",
    ):
        client, server = client_end(secure=True, bindings=BINDINGS), server_end(bindings=BINDINGS)
        offer = server.feed(client.stream.data_to_send())
        login = client.feed(re.sub(cut, b"", offer))
        if b"auth" in login:
            client.feed(server.feed(login))
            assert isinstance(client.error, AuthError)
            assert client.error.text == "server-does-support-channel-binding"
        else:
            assert isinstance(client.error, AuthError)
            assert client.error.condition == "downgrade"


@pytest.mark.security(row=25)
def test_client_stops_when_tls_is_required_but_not_offered() -> None:
    """Row 25: somebody on the way cut ``<starttls/>`` out."""
    client = client_end()
    client.stream.data_to_send()
    sent = client.feed(SERVER_HEADER + features(mechanisms("SCRAM-SHA-1", "PLAIN")))
    assert sent.decode() == CLOSE
    assert isinstance(client.error, LinkError)
    assert str(client.error) == "TLS is required, but the server does not offer it"


def test_client_told_so_goes_on_without_tls_but_not_with_its_password() -> None:
    client = client_end(tls="optional")
    client.feed(SERVER_HEADER + features(mechanisms("PLAIN")))
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "encryption-required"
    client = client_end(tls="optional", plain_without_tls=True)
    assert PLAIN_LOGIN in client.feed(SERVER_HEADER + features(mechanisms("PLAIN"))).decode()
    client = client_end(tls="optional")
    assert b"mechanism='SCRAM-SHA-1'" in client.feed(SERVER_HEADER + features(mechanisms("SCRAM-SHA-1")))


def test_client_that_shall_not_use_tls_stops_where_it_must() -> None:
    client = client_end(tls="off")
    client.feed(SERVER_HEADER + features(f"<starttls xmlns='{TLS}'><required/></starttls>"))
    assert isinstance(client.error, LinkError)


@pytest.mark.parametrize("behind", [SERVER_HEADER, features(mechanisms("PLAIN")), "<", MESSAGE])
@pytest.mark.security(row=24, statement=30)
def test_client_takes_nothing_in_the_clear_for_something_from_inside_tls(behind: str) -> None:
    """Row 24, client: the octets come in one segment with ``<proceed/>``."""
    client = client_end()
    assert client.feed(SERVER_HEADER + features(f"<starttls xmlns='{TLS}'/>")).endswith(STARTTLS.encode())
    assert client.feed(f"<proceed xmlns='{TLS}'/>{behind}") == b""
    assert client.error is not None
    assert not client.stream.secure


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (f"<failure xmlns='{TLS}'/></stream:stream>", LinkError),
        (features(mechanisms("PLAIN")), StreamError),
        (MESSAGE, StreamError),
        (f"<success xmlns='{SASL}'/>", StreamError),
    ],
)
def test_client_ends_where_the_server_answers_starttls_by_anything_else(answer: str, error: type) -> None:
    client = client_end()
    client.feed(SERVER_HEADER + features(f"<starttls xmlns='{TLS}'/>"))
    client.feed(answer)
    assert isinstance(client.error, error)


@pytest.mark.parametrize(
    ("header", "condition"),
    [
        (SERVER_HEADER.replace(" version='1.0' xmlns", " xmlns"), "unsupported-version"),
        (SERVER_HEADER.replace("jabber:client", "jabber:server"), "invalid-namespace"),
        ("<html>", "invalid-namespace"),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", "not-well-formed"),
    ],
)
def test_client_refuses_a_bad_header(header: str, condition: str) -> None:
    client = client_end()
    sent = client.feed(header)
    assert sent.count(b"<stream:stream ") == 1
    assert_stream_error(client, sent, condition)


@pytest.mark.parametrize(
    "element", [f"<challenge xmlns='{SASL}'>!</challenge>", f"<success xmlns='{SASL}'>AB==</success>"]
)
def test_client_refuses_malformed_base64(element: str) -> None:
    client = client_end(secure=True)
    client.feed(SERVER_HEADER + features(mechanisms("SCRAM-SHA-1")))
    client.feed(element)
    assert isinstance(client.error, AuthError)
    assert client.error.condition == "incorrect-encoding"


@pytest.mark.parametrize("element", [MESSAGE, f"<hello xmlns='{SASL}'/>", f"<proceed xmlns='{TLS}'/>"])
def test_client_refuses_other_elements_during_login(element: str) -> None:
    client = client_end(secure=True)
    client.feed(SERVER_HEADER + features(mechanisms("SCRAM-SHA-1")))
    assert_stream_error(client, client.feed(element), "unsupported-stanza-type")


def test_client_refuses_features_in_the_middle_of_a_login() -> None:
    client = client_end(secure=True)
    client.feed(SERVER_HEADER + features(mechanisms("SCRAM-SHA-1")))
    assert_stream_error(client, client.feed(features(mechanisms("PLAIN"))), "policy-violation")


def to_bind(resource: str = "") -> End:
    """A client that has asked for a resource; its request is the last that was sent."""
    client = client_end(f"boiler@plant.example{resource}", secure=True, mechanisms=["PLAIN"])
    client.feed(SERVER_HEADER + features(mechanisms("PLAIN")))
    client.feed(f"<success xmlns='{SASL}'/>")
    return client


def bind_result(request: bytes, jid: str) -> str:
    id = re.findall(rb"<iq id='([\w-]+)'", request)[0].decode()
    return f"<iq type='result' id='{id}'><bind xmlns='{BIND_NS}'><jid>{jid}</jid></bind></iq>"


@pytest.mark.security(statement=50)
def test_client_obeys_the_servers_choice_of_resource() -> None:
    client = to_bind("/oven")
    request = client.feed(SERVER_HEADER + features(f"<bind xmlns='{BIND_NS}'/>"))
    assert b"<resource>oven</resource>" in request
    client.feed(bind_result(request, "boiler@plant.example/other"))
    assert client.take()[-1] == Ready(JID("boiler@plant.example/other"))
    client.feed(MESSAGE + "<r xmlns='urn:xmpp:sm:3'/>")
    stanza, nonza = client.take()
    assert isinstance(stanza, StanzaReceived)
    assert isinstance(nonza, NonzaReceived)


@pytest.mark.parametrize("jid", ["boiler@plant.example", "", "@/"])
def test_client_refuses_a_result_without_full_jid(jid: str) -> None:
    client = to_bind()
    request = client.feed(SERVER_HEADER + features(f"<bind xmlns='{BIND_NS}'/>"))
    assert b"<resource" not in request
    client.feed(bind_result(request, jid))
    assert isinstance(client.error, StanzaError)


def test_client_whose_binding_is_refused_is_told_why() -> None:
    refuse: dict[type, Answer] = {NeedBind: lambda stream, event: stream.bind_refused(StanzaError("conflict"))}
    client, server = client_end(secure=True), server_end(answers=refuse)
    talk(client, server)
    assert isinstance(client.error, StanzaError)
    assert client.error.condition == "conflict"


@pytest.mark.security(row=54)
def test_client_takes_no_answer_with_another_id_for_its_own() -> None:
    client = to_bind()
    client.feed(SERVER_HEADER + features(f"<bind xmlns='{BIND_NS}'/>"))
    other = bind_result(b"<iq id='guessed'", "boiler@plant.example/x")
    assert_stream_error(client, client.feed(other), "unsupported-stanza-type")


def test_client_needs_binding() -> None:
    client = to_bind()
    client.feed(SERVER_HEADER + features())
    assert isinstance(client.error, LinkError)


def test_client_keeps_the_last_features() -> None:
    client = to_bind()
    client.feed(SERVER_HEADER + features(f"<bind xmlns='{BIND_NS}'/>", "<ver xmlns='urn:xmpp:features:rosterver'/>"))
    assert isinstance(client.stream, ClientStream)
    offer = client.stream.features
    assert offer is not None
    assert offer.bind
    assert offer.element.find("{urn:xmpp:features:rosterver}ver") is not None


def test_client_whose_server_leaves_before_login_has_lost_its_link() -> None:
    client = client_end()
    client.feed(SERVER_HEADER + CLOSE)
    assert isinstance(client.error, LinkError)


def test_client_asks_for_pbkdf2_instead_of_computing_it() -> None:
    client = client_end(secure=True, mechanisms=["SCRAM-SHA-1"], answers={NeedSaltedPassword: lambda stream, event: []})
    server = server_end()
    talk(client, server)
    keys = KEYS["SCRAM-SHA-1"]
    assert client.events == [NeedSaltedPassword("SCRAM-SHA-1", keys.salt, keys.iterations)]
    with pytest.raises(RuntimeError):
        client.feed(MESSAGE)


def test_client_is_given_no_password_unasked() -> None:
    client: Any = client_end().stream
    with pytest.raises(RuntimeError):
        client.provide_password("pencil")


def test_client_with_a_forbidden_password_is_a_misuse() -> None:
    client = client_end(secure=True, mechanisms=["PLAIN"], answers={NeedPassword: lambda stream, event: []})
    client.feed(SERVER_HEADER + features(mechanisms("PLAIN")))
    stream: Any = client.stream
    with pytest.raises(ValueError):
        stream.provide_password("\0")


# Whatever a peer sends.

FRAGMENTS = (
    *(HEADER, SERVER_HEADER, STARTTLS, PLAIN_LOGIN, BAD_LOGIN, BIND, MESSAGE, CLOSE, " ", "<presence/>", "</x>"),
    *(f"<{name} xmlns='{SASL}'/>" for name in ("abort", "response", "challenge", "success", "failure")),
    *(f"<{name} xmlns='{TLS}'/>" for name in ("proceed", "failure")),
    f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>biwsbj1ib2lsZXIscj14</auth>",
    *(features(), features(mechanisms("PLAIN", "SCRAM-SHA-1")), features(f"<bind xmlns='{BIND_NS}'/>")),
    *(features(f"<starttls xmlns='{TLS}'/>"), "<stream:error/>", "<r xmlns='urn:xmpp:sm:3'/>"),
)


@settings(max_examples=200, deadline=None)
@given(
    fragments=st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8).map(repr), max_size=12),
    as_client=st.booleans(),
)
def test_no_order_of_elements_gets_past_the_rules(fragments: list[str], as_client: bool) -> None:
    """Nobody is ready without TLS, login and binding; nothing is said or told after the end; nothing else is raised."""
    end = client_end() if as_client else server_end(secure=False)
    for fragment in fragments:
        before = len(end.events)
        ended = any(isinstance(event, Closed) for event in end.events)
        sent = end.feed(fragment)
        assert not (ended and (sent or len(end.events) > before))
    told = [type(event) for event in end.events]
    assert told.count(Closed) <= 1
    if Ready in told:
        assert told.index(StartTls) < told.index(Authenticated) < told.index(Ready)
    if Authenticated in told or NeedPassword in told or CheckPassword in told:
        assert end.stream.secure
    if StanzaReceived in told:
        assert told.index(Ready) < told.index(StanzaReceived)


def test_machines_load_no_io() -> None:
    """They run under any loop, or none."""
    loaded = "import sys, xiot.proto; print(*sys.modules.keys() & {'trio', 'anyio', 'socket', 'ssl', 'sqlalchemy'})"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True, text=True).stdout == "\n"
