# What StreamParser(builder=...) uses; there is nothing in it for Python.
from typing import Self, final

from typing_extensions import disjoint_base

@disjoint_base
class Builder: ...

@final
class EtreeBuilder(Builder):
    def __new__(cls, kind: type) -> Self: ...

@final
class LxmlBuilder(Builder): ...
