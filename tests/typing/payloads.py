# SPDX-License-Identifier: Apache-2.0
"""What a type checker makes of Payload declarations; checked by mypy, never run.

Each ``type: ignore`` marks a mistake that must be found: an unused one is an error as well.
"""

from typing import Literal, assert_type

from _xmppcore import JID, Element
from xiot.ext import HOST, Context, Extension, Load, Session
from xiot.schema import Payload, any_child, any_children, attr, child, children, flag, text

NS = "urn:example:typing"


class Part(Payload, tag=(NS, "part")):
    id: str = attr()


class Whole(Payload, tag=(NS, "whole")):
    id: str = attr()
    peer: JID | None = attr(default=None)
    mode: Literal["slow", "fast"] = attr(default="slow")
    closed: bool = flag(default=False)
    part: Part | None = child(default=None)
    parts: tuple[Part, ...] = children(name="part", ns="urn:other", default=())
    rest: tuple[Element, ...] = any_children(default=())


class Note(Payload, tag=(NS, "note")):
    value: int = text()
    payload: Element | None = any_child(default=None)


class Wrong(Payload, tag=(NS, "wrong")):
    count: int = attr(default="x")  # type: ignore[assignment]
    parts: tuple[Part, ...] = children(default=("x",))  # type: ignore[arg-type]
    no_default: bool = flag()  # type: ignore[call-arg]


whole = Whole(id="1", peer=JID("a@b.example"), part=Part(id="2"))
assert_type(whole.peer, JID | None)
assert_type(whole.mode, Literal["slow", "fast"])
assert_type(whole.parts, tuple[Part, ...])
assert_type(Whole.from_element(whole.to_element()), Whole)
assert_type(Whole.from_element(None).part, Part | None)

Whole()  # type: ignore[call-arg]
Whole("1")  # type: ignore[call-arg]
Whole(id=1)  # type: ignore[arg-type]
Whole(id="1", mode="sly")  # type: ignore[arg-type]
Whole(id="1", unknown="2")  # type: ignore[call-arg]
whole.id = "2"  # type: ignore[misc]
Note(value="1")  # type: ignore[arg-type]

ext = Extension("typing", spec="XEP-9999")


@ext.iq_get(Part, at=HOST)
def right(part: Part, ctx: Context) -> Part:
    return part


@ext.iq_get(Part, at=HOST)  # type: ignore[arg-type]
def wrong_payload(note: Note, ctx: Context) -> None: ...


@ext.iq_get(Part, at=HOST)  # type: ignore[type-var]
def wrong_answer(part: Part, ctx: Context) -> int:
    return 1


def typed_load(ctx: Context) -> object:
    number: Load[int] = ctx.load(lambda tx: tx.nodes.node_count("pubsub.plant.example"))
    return number


async def typed_request(session: Session) -> None:
    assert_type(await session.request("get", Part(id="1")), Element | None)
    await session.request("result", Part(id="1"))  # type: ignore[arg-type]
