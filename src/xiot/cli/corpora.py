# SPDX-License-Identifier: Apache-2.0
"""Streams to measure with: what clients, things and rooms say, in words of our own. Everything follows from the seed.

chat     messages with markers and receipts, presences, roster and ping, about 250 bytes a stanza
iot      readings, control, publishing of items, about 380 bytes
unicode  chat in scripts beyond ASCII, about 320 bytes
large    one picture or log in a stanza, about 36,000 bytes
tiny     what stream management sends, about 29 bytes
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

OPEN = (
    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
    b" from='plant.example' id='b1946ac92492d234' version='1.0' xml:lang='en'>"
)
CLOSE = b"</stream:stream>"

PEOPLE = ["anna", "boris", "chen", "dalia", "emre", "fatou", "goran", "hina", "ines", "jonas"]
RESOURCES = ["phone", "desk", "web.7f3a", "tablet", "Conversations.Xy12"]
THINGS = ["boiler", "pump-3", "meter-117", "roof/sun", "gate", "tank-a"]
TEXTS = [
    "the pump runs again since noon can you look at valve four please it is warm here we meet at the gate I sent the"
    " drawing yes no maybe tomorrow after lunch pressure is fine now thanks for the help see you there",
    "насос снова работает с полудня посмотри пожалуйста четвёртый клапан здесь тепло спасибо до завтра",
    "η αντλία δουλεύει πάλι από το μεσημέρι κοίτα τη βαλβίδα τέσσερα ευχαριστώ",
]
WORDS, CYRILLIC, GREEK = (text.split() for text in TEXTS)
SCRIPTS = [
    CYRILLIC,
    GREEK,
    ["ポンプは", "正午から", "また", "動いています", "四番の弁を", "見てください", "ありがとう"],
    ["المضخة", "تعمل", "من", "جديد", "منذ", "الظهر", "شكرا"],
    ["die", "Pumpe", "läuft", "wieder", "schöne", "Grüße", "über", "\U0001f600", "\U0001f527", "naïve", "façade"],
]
FIELDS = [("temperature", "Cel"), ("pressure", "bar"), ("flow", "l/min"), ("level", "%"), ("energy", "kWh")]


@dataclass(frozen=True)
class Corpus:
    """A whole stream."""

    data: bytes
    stanzas: int


def jid(random: Random) -> str:
    return f"{random.choice(PEOPLE)}@plant.example/{random.choice(RESOURCES)}"


def ident(random: Random) -> str:
    return f"{random.getrandbits(48):012x}"


def sentence(random: Random, words: list[str], most: int) -> str:
    text = " ".join(random.choices(words, k=random.randint(most // 6, most)))
    return text.replace("can you", "can't you") + random.choice([".", "!", "?", " &amp; so on", " :-)", ""])


def chat(random: Random) -> str:
    kind = random.random()
    if kind < 0.6:
        return (
            f"<message from='{jid(random)}' to='{jid(random)}' type='chat' id='{ident(random)}'>"
            f"<body>{sentence(random, WORDS, 18)}</body><active xmlns='http://jabber.org/protocol/chatstates'/>"
            "<request xmlns='urn:xmpp:receipts'/></message>"
        )
    if kind < 0.75:
        return (
            f"<message from='{jid(random)}' to='{jid(random)}' id='{ident(random)}'>"
            f"<received xmlns='urn:xmpp:receipts' id='{ident(random)}'/></message>"
        )
    if kind < 0.9:
        return (
            f"<presence from='{jid(random)}' to='{jid(random)}'><show>{random.choice(['away', 'dnd', 'xa'])}</show>"
            f"<status>{sentence(random, WORDS, 6)}</status><c xmlns='http://jabber.org/protocol/caps' hash='sha-1'"
            f" node='https://plant.example/app' ver='{base64.b64encode(random.randbytes(20)).decode()}'/></presence>"
        )
    return f'<iq from="{jid(random)}" to="{jid(random)}" type="get" id="{ident(random)}"><ping xmlns="urn:xmpp:ping"/></iq>'


def iot(random: Random) -> str:
    thing = random.choice(THINGS)
    when = f"2026-{random.randint(1, 12):02}-{random.randint(1, 28):02}T{random.randint(0, 23):02}:15:00Z"
    if random.random() < 0.6:
        fields = "".join(
            f"<q n='{name}' v='{random.uniform(0, 99):.2f}' u='{unit}' m='true' ar='true'/>"
            for name, unit in random.sample(FIELDS, random.choice([3, 4, 5]))
        )
        return (
            f"<message from='{thing.split('/')[0]}@plant.example/thing' to='{jid(random)}' id='{ident(random)}'>"
            f"<resp xmlns='urn:nfi:iot:sd:1.0' id='{ident(random)}'><nd id='{thing}'><ts v='{when}'>{fields}</ts></nd></resp>"
            "</message>"
        )
    if random.random() < 0.5:
        return (
            f"<iq from='{jid(random)}' to='{thing.split('/')[0]}@plant.example/thing' type='set' id='{ident(random)}'>"
            f"<set xmlns='urn:nfi:iot:ctr:1.0' xml:lang='en'><d n='setpoint' v='{random.uniform(5, 90):.1f}'/>"
            f"<b n='enabled' v='true'/></set></iq>"
        )
    return (
        f"<message from='pubsub.plant.example' to='{jid(random)}' id='{ident(random)}' type='headline'>"
        f"<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='plant/{thing}'><item id='{ident(random)}'"
        f" publisher='{thing.split('/')[0]}@plant.example'><reading xmlns='urn:example:reading' at='{when}'>"
        f"{random.uniform(0, 99):.3f}</reading></item></items></event></message>"
    )


def unicode(random: Random) -> str:
    words = random.choice(SCRIPTS)
    return (
        f"<message from='{jid(random)}' to='{jid(random)}' type='chat' id='{ident(random)}'>"
        f"<body>{sentence(random, words, 22)}</body><active xmlns='http://jabber.org/protocol/chatstates'/></message>"
    )


def large(random: Random) -> str:
    if random.random() < 0.5:
        content = base64.b64encode(random.randbytes(random.randint(20_000, 34_000))).decode()
        return (
            f"<iq from='{jid(random)}' to='{jid(random)}' type='result' id='{ident(random)}'>"
            f"<data xmlns='urn:xmpp:bob' cid='sha1+{ident(random)}@bob.xmpp.org' type='image/png'>{content}</data></iq>"
        )
    lines = "\n".join(sentence(random, WORDS, 30) for _ in range(random.randint(350, 470)))
    return f"<message from='{jid(random)}' to='{jid(random)}' id='{ident(random)}'><body>{lines}</body></message>"


def tiny(random: Random) -> str:
    return random.choice(["<r xmlns='urn:xmpp:sm:3'/>", f"<a xmlns='urn:xmpp:sm:3' h='{random.randrange(9999)}'/>"])


KINDS: dict[str, Callable[[Random], str]] = {
    "chat": chat, "iot": iot, "unicode": unicode, "large": large, "tiny": tiny,
}  # fmt: skip


def make(kind: str, size: int, seed: int = 1) -> Corpus:
    """A stream of stanzas of this kind, at least `size` bytes."""
    random = Random(f"{kind} {seed}")
    parts, length = [OPEN], 0
    while length < size:
        parts.append(KINDS[kind](random).encode())
        length += len(parts[-1])
    return Corpus(b"".join([*parts, CLOSE]), len(parts) - 1)
