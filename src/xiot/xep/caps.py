# SPDX-License-Identifier: Apache-2.0
"""XEP-0115: Entity Capabilities, both ends: what one can do, as a hash in presence and stream features.

The hash is known to be weak: what it is made of can be arranged in other ways that give the same octets (section 8.3).
So a string that could do that, with ``<`` in it, makes an answer ill-formed here.
"""

import base64
import hashlib
from collections import OrderedDict
from collections.abc import Iterable

from _xmppcore import JID
from xiot.ext import HOST, SESSION, Extension, Scope, Session
from xiot.schema import Payload, attr
from xiot.xep import disco
from xiot.xep.disco import Directory, Info
from xiot.xep.forms import Form

NS = "http://jabber.org/protocol/caps"
ext = Extension("caps", spec="XEP-0115", version="1.6.0", features=[NS], needs=["disco", "forms"], at=HOST | SESSION)

HASHES = {"sha-1": hashlib.sha1, "sha-256": hashlib.sha256, "sha-512": hashlib.sha512}
"""By their names in the registry of IANA; the first is mandatory to implement (section 8.1)."""
NODE = "urn:xiot"
"""Whose capabilities ours are (section 4)."""
CACHED = 1000
"""Capabilities that a cache keeps: few kinds of clients are in use, and each costs some kilobytes."""


class C(Payload, tag=(NS, "c")):
    """In presence: the capabilities of the sender (section 4)."""

    hash: str | None = attr(default=None)
    """None in the legacy format, which cannot be verified and is ignored (section 5.4)."""
    node: str = attr()
    ver: str = attr()

    @property
    def full_node(self) -> str:
        """The node to ask for them (section 6.2)."""
        return f"{self.node}#{self.ver}"


def verification_string(info: Info, hash: str = "sha-1") -> str:
    """Return the hash of what `info` tells (section 5.1).

    Raises ValueError if it is ill-formed (section 5.4, step 3), KeyError if there is no such hash.
    """
    identities = [f"{i.category}/{i.type}/{i.lang or ''}/{i.name or ''}" for i in info.identities]
    features = [feature.var for feature in info.features]
    forms = [form for form in info.forms if _is_typed(form)]
    types = [form.form_type or "" for form in forms]
    _check(len(set(identities)) == len(identities), "the same identity twice")
    _check(len(set(features)) == len(features), "the same feature twice")
    _check(len(set(types)) == len(types), "two forms of the same type")
    parts = [*_sorted(identities), *_sorted(features)]
    for form in sorted(forms, key=lambda form: (form.form_type or "").encode()):
        _check(len(set(form.values["FORM_TYPE"])) == 1, "a form of two types")
        _check(len(form.values) == len([field for field in form.fields if field.var is not None]), "a field twice")
        parts.append(form.form_type or "")
        for var in _sorted(var for var in form.values if var != "FORM_TYPE"):
            parts += [var, *_sorted(form.values[var])]
    _check(not any("<" in part for part in parts), "a '<' in a name")
    text = "".join(f"{part}<" for part in parts)
    return base64.b64encode(HASHES[hash](text.encode()).digest()).decode()


def _is_typed(form: Form) -> bool:
    """Whether a form counts: it has a hidden FORM_TYPE (section 5.4, step 3.6)."""
    return any(field.var == "FORM_TYPE" and field.type == "hidden" and field.values for field in form.fields)


def _sorted(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=str.encode)  # i;octet


def _check(good: bool, problem: str) -> None:
    if not good:
        raise ValueError(problem)


def announce(directory: Directory, scope: Scope = SESSION, node: str = NODE) -> C:
    """Return what to send of the capabilities in `directory`, which from now on answers for them, too (section 6.2)."""
    c = C(hash="sha-1", node=node, ver=verification_string(directory.info(scope)))
    directory.node = c.full_node
    return c


class Cache:
    """Verified capabilities by their hash, the last used ones (section 7.2)."""

    def __init__(self, most: int = CACHED) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, str], Info] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, c: C) -> Info | None:
        """Return what `c` stands for, None if we do not know."""
        key = (c.hash or "", c.ver)
        if key in self._known:
            self._known.move_to_end(key)
        return self._known.get(key)

    def add(self, c: C, info: Info) -> bool:
        """Keep `info` if it has the hash of `c`; returns whether it has (section 5.4)."""
        if c.hash not in HASHES:
            return False
        try:
            if verification_string(info, c.hash) != c.ver:
                return False
        except ValueError:
            return False
        self._known[c.hash, c.ver] = info
        self._known.move_to_end((c.hash, c.ver))
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return True


async def capabilities(session: Session, of: JID, c: C, cache: Cache) -> Info:
    """Return what `of`, who sent `c` in its presence, can do: from the cache, else by asking (section 5.4).

    An answer that does not have the hash is only what `of` says of itself: it is returned, but not kept. Raises as
    `Session.request`.
    """
    known = cache.get(c)
    if known is None:
        known = await disco.info(session, of, c.full_node if c.hash else None)
        cache.add(c, known)
    return known
