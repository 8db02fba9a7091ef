# SPDX-License-Identifier: Apache-2.0
"""The sets of schemas whose tables are part of the package; setup.py takes them from here, by path.

`XMPP` gives the same bits as the schemas that the XEPs print, for those of XMPP and of things that are used together.
"""

XMPP = (
    "bind",
    "canonical",
    "caps",
    "chat-markers",
    "chatstates",
    "csi",
    "delay",
    "disco-info",
    "disco-items",
    "discovery",
    "exi",
    "iq-last",
    "iq-version",
    "jabber-client",
    "jabber-server",
    "ping",
    "pubsub",
    "pubsub-errors",
    "pubsub-event",
    "receipts",
    "roster",
    "sasl",
    "sensor-data",
    "sensor-network-concentrators",
    "sensor-network-control",
    "sensor-network-provisioning",
    "sm",
    "stanzaerror",
    "streamerror",
    "streams",
    "time",
    "tls",
    "x-data",
    "xdata-layout",
    "xdata-validate",
    "xml",
)
