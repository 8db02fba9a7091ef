# SPDX-License-Identifier: Apache-2.0
"""The protocol without I/O: parser events in, octets and events out, for both ends of a stream."""

from xiot.proto.features import HostPolicy
from xiot.proto.initiating import ClientStream
from xiot.proto.receiving import ServerStream
from xiot.proto.sasl import SaslPolicy

__all__ = ["ClientStream", "HostPolicy", "SaslPolicy", "ServerStream"]
