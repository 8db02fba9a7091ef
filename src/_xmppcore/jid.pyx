# SPDX-License-Identifier: Apache-2.0
"""JIDs, the addresses of XMPP: parsed, prepared and compared as RFC 7622 says.

Theory of operation.  `c/jid.c` prepares what is plain. A part that it calls slow goes to `_xmppcore.precis`, alone, and the answers are
kept there in bounded caches. What a JID object holds is prepared already, so that comparing and hashing are those of its text.
"""

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
    bint PyUnicode_IS_ASCII(object text)

    ctypedef object (*newfunc)(PyTypeObject *, PyObject *, PyObject *)
    ctypedef object (*vectorcallfunc)(object, PyObject *const *, size_t, PyObject *)
    ctypedef struct type_slots "PyTypeObject":
        newfunc tp_new
        vectorcallfunc tp_vectorcall

    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)

ctypedef int (*prepare_part)(const uint8_t *octets, size_t *n, uint8_t *out) noexcept nogil


cdef object bad(int code):
    """The JidError for a code of c/jid.h."""
    if code == XC_JID_BAD_LOCAL:
        return JidError("local", "empty, too long, or with characters that RFC 7622 section 3.3 forbids")
    if code == XC_JID_BAD_DOMAIN:
        return JidError("domain", "neither a host name nor an address as RFC 7622 section 3.2 asks for")
    if code == XC_JID_BAD_RESOURCE:
        return JidError("resource", "empty, too long, or with characters that RFC 7622 section 3.4 forbids")
    return JidError("jid", f"longer than {XC_JID_INPUT_MAX} octets")


# From parts and octets to objects.

cdef str ascii_str(const uint8_t *octets, Py_ssize_t n):
    cdef str text = PyUnicode_New(n, 127)
    memcpy(PyUnicode_DATA(text), octets, n)
    return text


cdef bint is_ascii(const uint8_t *octets, Py_ssize_t n) noexcept:
    cdef uint8_t found = 0
    for octet in octets[:n]:
        found |= octet
    return found < 0x80


cdef Py_ssize_t code_points(const uint8_t *octets, Py_ssize_t n) noexcept:
    cdef Py_ssize_t found = 0
    for octet in octets[:n]:
        found += octet & 0xC0 != 0x80
    return found


cdef str prepared_part(str text, prepare_part in_c, str in_python, int code_if_bad):
    cdef uint8_t out[XC_JID_INPUT_MAX]
    cdef Py_ssize_t n
    try:
        octets = PyUnicode_AsUTF8AndSize(text, &n)
        if n > XC_JID_INPUT_MAX:
            raise ValueError("too long")
        code = in_c(<const uint8_t *>octets, <size_t *>&n, out)
        if code == XC_JID_OK:
            return PyUnicode_DecodeUTF8(<const char *>out, n, NULL)
        if code == XC_JID_SLOW:
            from _xmppcore import precis  # not at the top: it takes 20 ms, and where all is ASCII nobody needs it

            return getattr(precis, in_python)(text)
    except ValueError as error:
        raise bad(code_if_bad) from error
    raise bad(code)


cdef str prepared_local(str text):
    return prepared_part(text, xc_jid_prepare_local, "local", XC_JID_BAD_LOCAL)


cdef str prepared_domain(str text):
    return prepared_part(text, xc_jid_prepare_domain, "domain", XC_JID_BAD_DOMAIN)


cdef str prepared_resource(str text):
    return prepared_part(text, xc_jid_prepare_resource, "resource", XC_JID_BAD_RESOURCE)


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
    cdef bint ascii
    if code == XC_JID_OK:
        length = xc_jid_len(&parts)
        ascii = is_ascii(octets, n) if text is None else PyUnicode_IS_ASCII(text)
        if text is None or length != n or memcmp(out, octets, n) != 0:
            text = ascii_str(out, length) if ascii else PyUnicode_DecodeUTF8(<const char *>out, length, NULL)
        if ascii:
            return made(text, parts.local_len, xc_jid_bare_len(&parts))
        return made(text, code_points(out, parts.local_len), code_points(out, xc_jid_bare_len(&parts)))
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
    JID, also if older servers would make another JID of it. Costs 60 to 100 ns if `text` is ASCII, 250 ns if it is plain beyond that, and
    microseconds if it is written from right to left, decomposed, or has A-labels.
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
        cdef JID jid = made(f"{bare}/{prepared_resource(PyUnicode_FromObject(resource))}", self.local_len, self.bare_len)
        jid.kept_bare = self.bare
        return jid

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
