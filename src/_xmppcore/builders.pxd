# SPDX-License-Identifier: Apache-2.0
# What a stanza becomes that is to be a tree at once.
from libc.stdint cimport uint8_t

from _xmppcore.cxml cimport xc_context, xc_head


cdef class Builder:
    """One stream's; makes xiot Elements."""
    # A stream has begun, whose root declares this.
    cdef int begin(self, const xc_context *context) except -1
    # The tree of the stanza that begins at `raw`. Has done with its arguments before it lets any other Python code run.
    cdef object build(self, const uint8_t *raw, const xc_head *head, const xc_context *context)


# The builder of elements of this class; None if it is Stanza. Raises TypeError.
cdef Builder builder_of(kind)
