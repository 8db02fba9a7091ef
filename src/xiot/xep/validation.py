# SPDX-License-Identifier: Apache-2.0
"""XEP-0122: Data Forms Validation: what the value of a field of a form has to be."""

from xiot.ext import Extension
from xiot.schema import Payload, attr, child

NS = "http://jabber.org/protocol/xdata-validate"
ext = Extension("validation", spec="XEP-0122", version="1.0.2", features=[NS])


class Range(Payload, tag=(NS, "range")):
    """The least and the greatest value (section 3.2.3)."""

    min: str | None = attr(default=None)
    max: str | None = attr(default=None)


class Validate(Payload, tag=(NS, "validate")):
    """The type of a value, and its limits (section 3)."""

    datatype: str = attr(default="xs:string")
    range: Range | None = child(default=None)
