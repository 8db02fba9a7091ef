# SPDX-License-Identifier: Apache-2.0
"""The set of characters that an XML Schema pattern allows (EXI appendix E)."""

from __future__ import annotations

_MOST = 255  # a larger set is no restricted character set (EXI section 7.1.10.1)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", **{c: c for c in "\\|.-^?*+{}()[]"}}


class _TooMany(Exception):
    """The pattern allows too many characters, or characters that we do not list."""


def charset(patterns: tuple[str, ...]) -> tuple[int, ...] | None:
    """Code points that strings of these patterns are made of, sorted; None if there are too many or one is beyond U+FFFF."""
    found: set[int] = set()
    try:
        for pattern in patterns:
            found |= _Pattern(pattern).characters()
    except _TooMany:
        return None
    return tuple(sorted(found)) if len(found) <= _MOST and max(found, default=0) < 0x10000 else None


class _Pattern:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def characters(self) -> set[int]:
        found = self._expression()
        if self.at < len(self.text):
            raise _TooMany
        return found

    def _peek(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def _take(self) -> str:
        if self.at >= len(self.text):
            raise _TooMany  # not a pattern: no restriction follows from it
        self.at += 1
        return self.text[self.at - 1]

    def _expression(self) -> set[int]:
        found: set[int] = set()
        while self._peek() not in ("", ")"):
            if self._peek() == "|":
                self._take()
                continue
            atom = self._atom()
            if not self._quantifier_is_zero():
                found |= atom
        return found

    def _quantifier_is_zero(self) -> bool:
        c = self._peek()
        if c and c in "?*+":
            self._take()
        elif c == "{":
            end = self.text.find("}", self.at)
            if end < 0:
                raise _TooMany
            bounds = self.text[self.at + 1 : end]
            self.at = end + 1
            return bounds.replace(",", "").strip("0") == "" and bounds[-1:] != ","
        return False

    def _atom(self) -> set[int]:
        c = self._take()
        if c == "(":
            found = self._expression()
            if self._take() != ")":
                raise _TooMany
            return found
        if c == "[":
            return self._class()
        if c == "\\":
            return self._escape()
        if c == ".":
            raise _TooMany
        return {ord(c)}

    def _escape(self) -> set[int]:
        c = self._take()
        if c == "s":
            return {9, 10, 13, 32}
        if c in _ESCAPES:
            return {ord(_ESCAPES[c])}
        raise _TooMany  # \i, \c, \d, \w, \p and their complements are large

    def _class(self) -> set[int]:
        if self._peek() == "^":
            raise _TooMany
        found: set[int] = set()
        first = True
        while (c := self._take()) != "]" or first:
            first = False
            if c == "-" and self._peek() == "[":
                self._take()
                try:
                    found -= self._class()
                except _TooMany:
                    raise
                if self._take() != "]":
                    raise _TooMany
                return found
            low = self._escape() if c == "\\" else {ord(c)}
            if self._peek() == "-" and self.text[self.at + 1 : self.at + 2] not in ("]", "[", "") and len(low) == 1:
                self._take()
                end = self._take()
                high = self._escape() if end == "\\" else {ord(end)}
                start, stop = next(iter(low)), next(iter(high))
                if len(high) != 1 or not start <= stop or stop - start > 0xFFFF:
                    raise _TooMany
                found.update(range(start, stop + 1))
            else:
                found |= low
        return found
