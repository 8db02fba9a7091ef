from typing import Generic, final

from typing_extensions import Buffer, TypeVar

from _xmppcore.element import Element
from _xmppcore.stanza import Stanza

_S = TypeVar("_S", default=Stanza)  # what comes for each stanza

@final
class StreamOpen:
    @property
    def name(self) -> str: ...
    @property
    def ns(self) -> str: ...
    @property
    def to(self) -> str | None: ...
    @property
    def from_(self) -> str | None: ...
    @property
    def id(self) -> str | None: ...
    @property
    def version(self) -> str | None: ...
    @property
    def lang(self) -> str | None: ...
    @property
    def default_ns(self) -> str: ...
    @property
    def prefixes(self) -> dict[str, str]: ...
    @property
    def attrib(self) -> dict[str, str]: ...

@final
class StreamClose: ...

@final
class StreamParser(Generic[_S]):
    def __new__(
        cls,
        *,
        builder: type[_S] = ...,
        max_stanza_bytes: int = 262144,
        max_depth: int = 64,
        max_attributes: int = 64,
        max_namespaces: int = 256,
        max_tag_bytes: int = 65536,
        text_between: bool = True,
        kernel: str | None = None,
    ) -> StreamParser[_S]: ...
    @property
    def pending_bytes(self) -> int: ...
    def reset(self) -> None: ...
    def feed(self, data: Buffer) -> list[StreamOpen | _S | StreamClose]: ...

def parse_element(
    data: Buffer | str, default_ns: str = "", *, max_bytes: int = 262144, max_depth: int = 64, max_attributes: int = 64
) -> Element: ...
