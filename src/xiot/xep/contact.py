# SPDX-License-Identifier: Apache-2.0
"""XEP-0157: Contact Addresses for XMPP Services, both ends: a form in the service discovery of a host."""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from _xmppcore import JID
from xiot.ext import Extension, Session
from xiot.xep import disco
from xiot.xep.forms import Field, Form

FORM_TYPE = "http://jabber.org/network/serverinfo"
ext = Extension("contact", spec="XEP-0157", version="1.1.1", needs=["disco", "forms"])

Purpose = Literal["abuse", "admin", "feedback", "sales", "security", "status", "support"]


def form(addresses: Mapping[str, Iterable[str]]) -> Form | None:
    """Return the form that tells the URIs by purpose (section 3), None if there are none."""
    told = {f"{purpose}-addresses": tuple(addresses.get(purpose, ())) for purpose in get_args(Purpose)}
    fields = [Field(var=var, type="list-multi", values=uris) for var, uris in told.items() if uris]
    hidden = Field(var="FORM_TYPE", type="hidden", values=(FORM_TYPE,))
    return Form(type="result", fields=(hidden, *fields)) if fields else None


async def addresses(session: Session, to: JID | str) -> dict[Purpose, tuple[str, ...]]:
    """Ask the host `to` for the URIs of its people, by purpose. Raises as `Session.request`."""
    info = await disco.info(session, to)
    told = next((form.values for form in info.forms if form.form_type == FORM_TYPE), {})
    return {purpose: told[var] for purpose in get_args(Purpose) if (var := f"{purpose}-addresses") in told}
