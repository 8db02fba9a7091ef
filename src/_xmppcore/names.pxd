# SPDX-License-Identifier: Apache-2.0
# Names as shared `str` objects: a bounded table from UTF-8 slices, and the rule for what a name is.

# "{ns}local" ("local" if ns_len is 0); both slices are valid UTF-8 and borrowed. Tens of ns if the name was met before.
cdef str name_tag(const char *ns, Py_ssize_t ns_len, const char *local, Py_ssize_t local_len)

# The same for one slice: attribute names and other short strings that come again and again.
cdef str name_str(const char *s, Py_ssize_t n)

# True if `name` is an NCName of XML 1.0 fifth edition, that is a name without colon.
cpdef bint is_ncname(str name)
