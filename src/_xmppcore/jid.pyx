# SPDX-License-Identifier: Apache-2.0
"""JIDs, the addresses of XMPP: parsed, prepared and compared as RFC 7622 says.

Theory of operation.  `c/jid.c` prepares ASCII. A part that it calls slow goes to Python, alone: localparts and resourceparts to the
PRECIS profiles (RFC 8265), domainparts to IDNA2008 (RFC 5891) or `ipaddress`, and the answers are kept in bounded caches. What a JID
object holds is prepared already, so that comparing and hashing are those of its text.
"""

from functools import lru_cache
from unicodedata import bidirectional, is_normalized, normalize

cimport cython
from cpython.object cimport PyObject, PyObject_Hash, PyTypeObject
from cpython.unicode cimport (
    PyUnicode_AsUTF8AndSize, PyUnicode_DATA, PyUnicode_DecodeUTF8, PyUnicode_FromObject, PyUnicode_GET_LENGTH, PyUnicode_New,
    PyUnicode_RichCompare, PyUnicode_Substring,
)
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from _xmppcore.errors import JidError

cdef extern from "Python.h":
    ctypedef object (*newfunc)(PyTypeObject *, PyObject *, PyObject *)
    ctypedef object (*vectorcallfunc)(object, PyObject *const *, size_t, PyObject *)
    ctypedef struct type_slots "PyTypeObject":
        newfunc tp_new
        vectorcallfunc tp_vectorcall

    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)

ctypedef int (*prepare_part)(const uint8_t *octets, size_t *n, uint8_t *out) noexcept nogil

_CACHED = 512  # prepared parts of a kind: at most some 5 MB, were all of them as long as can be


cdef object bad(int code):
    """The JidError for a code of c/jid.h."""
    if code == XC_JID_BAD_LOCAL:
        return JidError("local", "empty, too long, or with characters that RFC 7622 section 3.3 forbids")
    if code == XC_JID_BAD_DOMAIN:
        return JidError("domain", "neither a host name nor an address as RFC 7622 section 3.2 asks for")
    if code == XC_JID_BAD_RESOURCE:
        return JidError("resource", "empty, too long, or with characters that RFC 7622 section 3.4 forbids")
    return JidError("jid", f"longer than {XC_JID_INPUT_MAX} octets")


# Beyond ASCII: functions from text to prepared text, which raise ValueError if there is none.

@lru_cache(None)
def _profile(name):
    from precis_i18n import get_profile

    return get_profile(name)


@lru_cache(4096)
def _property(character):
    """The PRECIS derived property of a character (RFC 8264 section 8): PVALID, FREE_PVAL, CONTEXTJ, CONTEXTO, ..."""
    from precis_i18n.derived import derived_property

    return derived_property(ord(character), _profile("OpaqueString").base.ucd)[0]


@lru_cache(4096)
def _stays(profile, character):
    """True if the profile leaves the character as it is wherever it stands, but for normalization."""
    try:
        return profile.enforce(character) == character and bidirectional(character) not in ("R", "AL", "AN")
    except ValueError:
        return False


def _enforce(profile, allowed, text):
    """Enforces a PRECIS profile (RFC 8264 section 7), in time linear in the length of `text`.

    `profile.enforce` would not do: it judges each occurrence of a character anew, and some by a look at the whole string, so that 340
    characters in a stanza's address could stop a server for 0.1 s.
    """
    if is_normalized("NFC", text) and all([_stays(profile, character) for character in set(text)]):
        prepared = text
    else:
        prepared = profile.idempotence_check(profile.apply_five_rules(text))
        for character in set(prepared):
            kind = _property(character)
            if kind in ("CONTEXTJ", "CONTEXTO"):
                _check_context(profile, character, prepared)
            elif kind not in allowed:
                raise ValueError(f"U+{ord(character):04X} is not allowed")
    if not 0 < len(prepared.encode()) <= XC_JID_PART_MAX:
        raise ValueError("empty or too long")
    return prepared


def _check_context(profile, character, prepared):
    """Raises ValueError where the character stands in a context that RFC 5892 appendix A forbids."""
    from precis_i18n.context import context_rule_error

    places = [place for place, c in enumerate(prepared) if c == character]
    if character == "\u30fb" or character.isdecimal():  # appendix A.7 to A.9 look at the whole string: all places are alike
        del places[1:]
    if any([context_rule_error(prepared, place, profile.base.ucd) for place in places]):
        raise ValueError(f"U+{ord(character):04X} is not allowed where it is")


@lru_cache(_CACHED)
def _local(text):
    """RFC 7622 section 3.3: UsernameCaseMapped, and then no character of section 3.3.1, which the mapping may have brought in."""
    prepared = _enforce(_profile("UsernameCaseMapped"), ("PVALID",), text)
    if not set(prepared).isdisjoint("\"&'/:<>@"):
        raise ValueError("excluded character")
    return prepared


@lru_cache(_CACHED)
def _resource(text):
    """RFC 7622 section 3.4: OpaqueString."""
    return _enforce(_profile("OpaqueString"), ("PVALID", "FREE_PVAL"), text)


@lru_cache(_CACHED)
def _label(text):
    """The U-label or NR-LDH label of a mapped label (RFC 5891 section 5), and how many octets its A-label has."""
    import idna

    label = idna.ulabel(text)
    return label, len(label) if label.isascii() else len("xn--") + len(label.encode("punycode"))


@lru_cache(_CACHED)
def _domain(text):
    """RFC 7622 section 3.2: an IPv6 address in brackets, or U-labels and NR-LDH labels, mapped as RFC 5895 section 2 has it."""
    if text.startswith("["):
        return _ip_literal(text.removesuffix("."))

    # Lower case by code point: a capital sigma is a small one wherever it stands, as in all other mappings of domain names.
    narrow = _profile("UsernameCaseMapped").width_mapping_rule("".join([character.lower() for character in text]))
    mapped = normalize("NFC", narrow).replace("\u3002", ".").removesuffix(".")
    labels = mapped.split(".")
    # No A-label is shorter than its U-label, so this refuses nothing that the exact test would not; it bounds the work before that.
    if len(mapped) > XC_JID_DOMAIN_MAX or max(map(len, labels)) > XC_JID_LABEL_MAX:
        raise ValueError("too long")
    labels, lengths = zip(*map(_label, labels))
    if max(lengths) > XC_JID_LABEL_MAX or sum(lengths) + len(lengths) - 1 > XC_JID_DOMAIN_MAX:
        raise ValueError("too long")
    return ".".join(labels)  # less than 1023 octets: one of four octets takes at least one of the 253


def _ip_literal(text):
    """An IPv6 address in brackets, as RFC 5952 writes it. RFC 9844 took back the zone identifiers of RFC 6874."""
    from ipaddress import IPv6Address

    address = IPv6Address(text[1:-1])
    if text[-1] != "]" or address.scope_id is not None:
        raise ValueError("no IPv6 address in brackets")
    mapped = address.ipv4_mapped  # written out here, since Python's own form of these depends on its version
    return f"[{address}]" if mapped is None else f"[::ffff:{mapped}]"


# From parts and octets to objects.

cdef str ascii_str(const uint8_t *octets, Py_ssize_t n):
    cdef str text = PyUnicode_New(n, 127)
    memcpy(PyUnicode_DATA(text), octets, n)
    return text


cdef str prepared_part(str text, prepare_part in_c, object in_python, int code_if_bad):
    cdef uint8_t out[XC_JID_INPUT_MAX]
    cdef Py_ssize_t n
    try:
        octets = PyUnicode_AsUTF8AndSize(text, &n)
        if n > XC_JID_INPUT_MAX:
            raise ValueError("too long")
        code = in_c(<const uint8_t *>octets, <size_t *>&n, out)
        if code == XC_JID_OK:
            return ascii_str(out, n)
        if code == XC_JID_SLOW:
            return in_python(text)
    except ValueError as error:
        raise bad(code_if_bad) from error
    raise bad(code)


cdef str prepared_local(str text):
    return prepared_part(text, xc_jid_prepare_local, _local, XC_JID_BAD_LOCAL)


cdef str prepared_domain(str text):
    return prepared_part(text, xc_jid_prepare_domain, _domain, XC_JID_BAD_DOMAIN)


cdef str prepared_resource(str text):
    return prepared_part(text, xc_jid_prepare_resource, _resource, XC_JID_BAD_RESOURCE)


cdef JID made(str full, Py_ssize_t local_len, Py_ssize_t bare_len):
    cdef JID jid = JID.__new__(JID)
    jid.full = full
    jid.local_len = local_len
    jid.bare_len = bare_len
    return jid


cdef JID joined(str local, str domain, str resource):
    """The JID of unprepared parts."""
    if local is not None:
        local = prepared_local(local)
    domain = prepared_domain(domain)
    cdef str bare = domain if local is None else f"{local}@{domain}"
    return made(
        bare if resource is None else f"{bare}/{prepared_resource(resource)}",
        0 if local is None else len(local), len(bare),
    )


cdef JID parsed(const uint8_t *octets, Py_ssize_t n, str text):
    """The JID of `octets`, which are UTF-8; `text` is the same as str, or None."""
    cdef uint8_t out[XC_JID_INPUT_MAX]
    cdef xc_jid_parts parts
    cdef Py_ssize_t length
    cdef int code = xc_jid_prepare(octets, n, out, &parts)
    if code == XC_JID_OK:
        length = xc_jid_len(&parts)
        if text is None or length != n or memcmp(out, octets, n) != 0:
            text = ascii_str(out, length)
        return made(text, parts.local_len, xc_jid_bare_len(&parts))
    if code != XC_JID_SLOW:
        raise bad(code)
    if text is None:
        try:
            text = PyUnicode_DecodeUTF8(<const char *>octets, n, NULL)
        except UnicodeDecodeError as error:
            raise JidError("jid", "not UTF-8") from error
    # Before any mapping: RFC 7622 section 3.1, second note.
    bare, slash, resource = text.partition("/")
    head, at, tail = bare.partition("@")
    return joined(head if at else None, tail if at else bare, resource if slash else None)


cdef JID parsed_str(str text):
    cdef Py_ssize_t n
    try:
        octets = PyUnicode_AsUTF8AndSize(text, &n)
    except UnicodeEncodeError as error:
        raise JidError("jid", "lone surrogate") from error
    return parsed(<const uint8_t *>octets, n, text)


cdef JID jid_from_utf8(const uint8_t *octets, Py_ssize_t n):
    return parsed(octets, n, None)


@cython.final
@cython.freelist(256)
@cython.no_gc  # no cycles: a JID refers to text and to a bare JID, which refers to text only
@cython.auto_pickle(False)
cdef class JID:
    """JID(text): an address, `localpart@domainpart/resourcepart` (RFC 7622 section 3.1), prepared and immutable.

    `str(jid)` is the prepared form: localpart and domainpart in lower case, A-labels as U-labels, no final dot. Two JIDs are equal if
    and only if these are; a JID is never equal to a str. Order is that of the text. JID(jid) is jid. Raises JidError if `text` is no
    JID. Costs 50 to 100 ns if `text` is ASCII, microseconds if it is not.
    """

    @classmethod
    def of(cls, local, domain, resource=None):
        """The JID of these parts, each of which may yet be unprepared; None = there is no such part.

        Raises JidError, also for an empty part, and for '@' or '/' in `local` or `domain` (RFC 7622 sections 3.2 to 3.4).
        """
        return joined(
            None if local is None else PyUnicode_FromObject(local),
            PyUnicode_FromObject(domain),
            None if resource is None else PyUnicode_FromObject(resource),
        )

    @property
    def local(self):
        """The localpart, None if there is none (RFC 7622 section 3.3)."""
        return PyUnicode_Substring(self.full, 0, self.local_len) if self.local_len else None

    @property
    def domain(self):
        """The domainpart: host name with U-labels, IPv4 address, or IPv6 address in brackets (RFC 7622 section 3.2)."""
        return PyUnicode_Substring(self.full, self.local_len + 1 if self.local_len else 0, self.bare_len)

    @property
    def resource(self):
        """The resourcepart, None if there is none (RFC 7622 section 3.4)."""
        cdef Py_ssize_t length = PyUnicode_GET_LENGTH(self.full)
        return None if self.bare_len == length else PyUnicode_Substring(self.full, self.bare_len + 1, length)

    @property
    def is_bare(self):
        """True if there is no resourcepart (RFC 6120 section 1.4)."""
        return self.bare_len == PyUnicode_GET_LENGTH(self.full)

    @property
    def bare(self):
        """The JID without its resourcepart; this very object if it has none (RFC 6120 section 1.4)."""
        if self.bare_len == PyUnicode_GET_LENGTH(self.full):
            return self
        if self.kept_bare is None:
            self.kept_bare = made(PyUnicode_Substring(self.full, 0, self.bare_len), self.local_len, self.bare_len)
        return self.kept_bare

    def with_resource(self, resource):
        """The full JID of the same account or host with this resourcepart instead (RFC 7622 section 3.4). Raises JidError."""
        cdef str bare = PyUnicode_Substring(self.full, 0, self.bare_len)
        return made(f"{bare}/{prepared_resource(PyUnicode_FromObject(resource))}", self.local_len, self.bare_len)

    def __str__(self):
        return self.full

    def __repr__(self):
        return f"JID({self.full!r})"

    def __hash__(self):
        return PyObject_Hash(self.full)  # kept in the str

    def __richcmp__(self, other, int op):
        if type(other) is not JID:
            return NotImplemented
        return PyUnicode_RichCompare(self.full, (<JID>other).full, op)

    def __reduce__(self):
        return JID, (self.full,)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


# JID(...) comes in through these slots. A __cinit__ could neither return an object that exists already, nor keep JID.__new__(JID) from
# giving out one without text; and the vectorcall slot saves a tuple.

cdef JID constructed(object text):
    if type(text) is JID:
        return text
    if type(text) is str:
        return parsed_str(text)
    if isinstance(text, str):
        return parsed_str(PyUnicode_FromObject(text))
    raise TypeError(f"a JID is made of str or JID, not {type(text).__name__}")


cdef object constructor(PyTypeObject *cls, PyObject *args, PyObject *kwargs):
    if kwargs is not NULL and <dict>kwargs or len(<tuple>args) != 1:
        raise TypeError("JID() takes one positional argument")
    return constructed((<tuple>args)[0])


cdef object vectorcall(object cls, PyObject *const *args, size_t nargsf, PyObject *names):
    if names is not NULL and <tuple>names or PyVectorcall_NARGS(nargsf) != 1:
        raise TypeError("JID() takes one positional argument")
    return constructed(<object>args[0])


(<type_slots *>JID).tp_new = constructor
(<type_slots *>JID).tp_vectorcall = vectorcall


# For tests and benches.

def _prepare(bytes octets not None, bint scalar=False):
    """What c/jid.c says: (code, prepared octets, lengths of local, domain and resource); (code, b"", (0, 0, 0)) if it is not 0."""
    cdef bytearray out = bytearray(len(octets))
    cdef xc_jid_parts parts
    prepare = xc_jid_prepare_scalar if scalar else xc_jid_prepare
    cdef int code = prepare(<const uint8_t *><const char *>octets, len(octets), <uint8_t *><char *>out, &parts)
    if code != XC_JID_OK:
        return code, b"", (0, 0, 0)
    return code, bytes(out[:xc_jid_len(&parts)]), (parts.local_len, parts.domain_len, parts.resource_len)


def _from_utf8(bytes octets not None):
    """jid_from_utf8."""
    return jid_from_utf8(<const uint8_t *><const char *>octets, len(octets))


def _bench_prepare(list texts not None, Py_ssize_t repeat):
    """Prepares each of `texts` (bytes) `repeat` times without leaving C; returns how many were plain."""
    cdef uint8_t out[XC_JID_INPUT_MAX]
    cdef xc_jid_parts parts
    cdef Py_ssize_t plain = 0
    cdef bytes text
    for _ in range(repeat):
        for text in texts:
            plain += xc_jid_prepare(<const uint8_t *><const char *>text, len(text), out, &parts) == XC_JID_OK
    return plain
