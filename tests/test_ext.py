# SPDX-License-Identifier: Apache-2.0
"""How extensions register handlers, and how those are found."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from xiot.ext import (
    ACCOUNT,
    HOST,
    SESSION,
    Context,
    Extension,
    Key,
    Load,
    Scope,
    Style,
    dispatch_table,
    specification_table,
    third_party,
)
from xiot.schema import Payload, PayloadError, attr

if TYPE_CHECKING:
    from xiot.model.effects import Tx

NS = "urn:example:ext"


class Ask(Payload, tag=(NS, "ask")):
    id: str = attr()


def an_extension(name: str = "one", **kwargs: Any) -> Extension:
    return Extension(name, spec="XEP-9999", version="1.0", features=[NS], **kwargs)


def test_handler_is_found_by_kind_type_scope_and_payload() -> None:
    ext = an_extension()

    @ext.iq_get(Ask, at=HOST | ACCOUNT)
    def get(ask: Ask, ctx: Context) -> Ask:
        return ask

    @ext.iq_set(Ask, at=SESSION)
    def set_(ask: Ask, ctx: Context) -> None:
        pass

    table = dispatch_table([ext])
    assert {key: handler.function for key, (handler,) in table.items()} == {
        Key("iq", "get", HOST, (NS, "ask")): get,
        Key("iq", "get", ACCOUNT, (NS, "ask")): get,
        Key("iq", "set", SESSION, (NS, "ask")): set_,
    }


def test_two_claims_on_one_iq_are_refused() -> None:
    one, two = an_extension("one"), an_extension("two")
    one.iq_get(Ask, at=HOST | ACCOUNT)(lambda ask, ctx: None)
    two.iq_get(Ask, at=HOST)(lambda ask, ctx: None)
    with pytest.raises(ValueError, match="one and two both claim"):
        dispatch_table([one, two])


def test_several_handlers_may_see_one_message_in_the_order_of_the_extensions() -> None:
    one, two = an_extension("one"), an_extension("two")
    for ext in (one, two):
        ext.message(Ask, at=SESSION)(lambda ask, ctx: None)
        ext.presence(Ask, at=SESSION)(lambda ask, ctx: None)
    table = dispatch_table([two, one])
    kinds: list[Literal["message", "presence"]] = ["message", "presence"]
    for kind in kinds:
        assert [handler.extension for handler in table[Key(kind, None, SESSION, (NS, "ask"))]] == ["two", "one"]


def test_missing_need_is_refused() -> None:
    with pytest.raises(ValueError, match="two needs one"):
        dispatch_table([an_extension("two", needs=["one"])])
    assert dispatch_table([an_extension("two", needs=["one"]), an_extension("one")]) == {}


def test_two_extensions_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same name"):
        dispatch_table([an_extension(), an_extension()])


def test_style_says_how_a_handler_is_run() -> None:
    ext = an_extension()

    @ext.iq_get(Ask, at=HOST)
    def plain(ask: Ask, ctx: Context) -> None:
        pass

    @ext.iq_get(Ask, at=ACCOUNT)
    def steps(ask: Ask, ctx: Context) -> Generator[Load[Any], Any, None]:
        yield from ctx.load(lambda tx: 1)

    @ext.iq_get(Ask, at=SESSION)
    async def slow(ask: Ask, ctx: Context) -> None:
        pass

    assert [handler.style for handler in ext.handlers] == [Style.PLAIN, Style.GENERATOR, Style.ASYNC]


def test_calling_a_handler_reads_the_payload() -> None:
    ext = an_extension()
    ext.iq_get(Ask, at=HOST)(lambda ask, ctx: ask)
    (handler,) = ext.handlers
    ctx: Any = None
    assert handler(Ask(id="1").to_element(), ctx) == Ask(id="1")
    element = Ask(id="1").to_element()
    del element.attrib["id"]
    with pytest.raises(PayloadError, match="ask@id: missing"):
        handler(element, ctx)


def test_load_hands_the_result_of_its_function_to_the_handler() -> None:
    def handler() -> Generator[Load[Any], Any, int]:
        first = yield from Load(lambda tx: 1)
        second = yield from Load(lambda tx: 2, writes=True)
        return first + second

    steps, no_tx = handler(), cast("Tx", None)
    first = next(steps)
    assert not first.writes
    second = steps.send(first.run(no_tx))
    assert second.writes
    with pytest.raises(StopIteration) as stop:
        steps.send(second.run(no_tx))
    assert stop.value.value == 3


def test_extension_shows_itself_where_it_has_handlers() -> None:
    ext = an_extension(at=SESSION)
    ext.iq_get(Ask, at=HOST)(lambda ask, ctx: None)
    assert ext.scopes == HOST | SESSION
    assert an_extension().scopes == Scope(0)


def test_table_of_specifications_is_ordered_by_number() -> None:
    first = Extension("a", spec="XEP-0199", version="2.0.1")
    first.iq_get(Ask, at=HOST | SESSION)(lambda ask, ctx: None)
    second = Extension("b", spec="RFC 6121")
    assert specification_table([first, second]) == (
        "| specification | version | name | answers at |\n"
        "| --- | --- | --- | --- |\n"
        "| RFC 6121 |  | b |  |\n"
        "| XEP-0199 | 2.0.1 | a | host, session |\n"
    )


def test_without_installed_packages_there_are_no_third_party_extensions() -> None:
    assert third_party() == []
