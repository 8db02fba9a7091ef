import ssl
from typing import final

from _xmppcore.layer import Layer

@final
class Tls(Layer):
    above: Layer | None
    def __new__(cls, context: ssl.SSLContext) -> Tls: ...
    @property
    def session(self) -> ssl.SSLObject: ...
    @property
    def secured(self) -> bool: ...
    def handshake(self) -> bool: ...
