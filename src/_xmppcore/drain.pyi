from collections.abc import Callable
from typing import final

from _xmppcore.errors import XmlError
from _xmppcore.layer import Layer
from _xmppcore.router import Link, Router
from _xmppcore.stanza import Stanza
from _xmppcore.xml import StreamClose, StreamOpen

@final
class Drain:
    def __new__(cls, router: Router, epoll_fd: int) -> Drain: ...
    @property
    def router(self) -> Router: ...
    def add(self, link: Link, fd: int, layer: Layer | None = None) -> None: ...
    def remove(self, link: Link) -> None: ...
    def turn(
        self,
        ready: Callable[[int, StreamOpen | Stanza | StreamClose | XmlError | Link | OSError | int | None], None],
        linger: bool = False,
    ) -> bool: ...
    def flush(self, late: bool = True) -> list[Link]: ...
