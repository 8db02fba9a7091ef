# SPDX-License-Identifier: Apache-2.0
"""XEP-0004: Data Forms."""

import pytest

from _xmppcore import Element
from xiot.schema import PayloadError
from xiot.xep.forms import Field, Form, Option

SUBMIT = """<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE' type='hidden'><value>urn:t</value></field>\
<field var='a'><value>1</value></field><field var='b'><value>x</value><value/></field></x>"""


def test_submitted_form_both_ways() -> None:
    form = Form.submit("urn:t", {"a": "1", "b": ["x", ""]})
    assert form.to_element() == Element.fromstring(SUBMIT)
    assert Form.from_element(Element.fromstring(SUBMIT)) == form
    assert (form.form_type, form.values) == ("urn:t", {"FORM_TYPE": ("urn:t",), "a": ("1",), "b": ("x", "")})


def test_form_to_fill_in_both_ways() -> None:
    xml = """<x xmlns='jabber:x:data' type='form'><title>T</title><instructions>I</instructions><field var='m'
    type='list-single' label='Mode'><required/><value>slow</value><option label='Slow'><value>slow</value></option>\
</field><field type='fixed'><value>text</value></field></x>"""
    form = Form(
        type="form",
        title="T",
        instructions=("I",),
        fields=(
            Field(
                var="m",
                type="list-single",
                label="Mode",
                required=True,
                values=("slow",),
                options=(Option(label="Slow", value="slow"),),
            ),
            Field(type="fixed", values=("text",)),
        ),
    )
    assert form.to_element() == Element.fromstring(xml)
    assert Form.from_element(Element.fromstring(xml)) == form
    assert form.form_type is None
    assert form.values == {"m": ("slow",)}


def test_form_without_type_is_a_bad_request() -> None:
    with pytest.raises(PayloadError, match="x@type: missing"):
        Form.from_element(Element.fromstring("<x xmlns='jabber:x:data'/>"))
