"""AIP-160 filters: text → tree.

What surprises: OR binds tighter than AND, terms side by side are an AND, a bare word is looked for
in the name, and ``:`` means "has" (for text: contains). ``conditions`` makes SQL of the tree.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from longshore.errors import InvalidArgument, invalid_field

LENGTH_MAX = 10_000
TERMS_MAX = 100
DEPTH_MAX = 32

_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    |(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<operator><=|>=|!=|=|<|>|:)
    |(?P<open>\()|(?P<close>\))
    |(?P<text>\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)|[^\s()<>=!:"']+)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """``path operator value``; a bare word has neither path nor operator. ``quoted``: the value
    was; ``position`` is where it stands, for error texts."""

    path: str = ""
    operator: str = ""
    value: str
    quoted: bool = False
    position: int


@dataclass(frozen=True, slots=True)
class Not:
    """What ``term`` is not."""

    term: Node


@dataclass(frozen=True, slots=True)
class All:
    """Each of ``terms``."""

    terms: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one of ``terms``."""

    terms: Sequence[Node]


Node = Restriction | Not | All | Some


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


def parse(text: str) -> Node | None:
    """The tree of a filter, None for a blank one.

    Raises InvalidArgument, with the position, for what is no filter, and for one of more than
    LENGTH_MAX characters, TERMS_MAX terms or DEPTH_MAX levels of parentheses.
    """
    if len(text) > LENGTH_MAX:
        raise invalid_field("filter", f"Invalid filter: it has more than {LENGTH_MAX} characters.")
    tokens = _tokens(text)
    if tokens[0].kind == "end":
        return None
    parser = _Parser(tokens)
    node = parser.expression()
    parser.expect("end")
    return node


def invalid(position: int, why: str) -> InvalidArgument:
    """The error for a filter that goes wrong at ``position``."""
    return invalid_field("filter", f"Invalid filter at position {position + 1}: {why}")


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise invalid(position, f"unexpected {text[position]!r}.")
        kind = match.lastgroup or ""
        if kind != "blank":
            tokens.append(_Token(kind, match.group(), position))
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


class _Parser:
    """Recursive descent over the grammar of AIP-160, one method a rule."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._terms = 0
        self._depth = 0

    def expression(self) -> Node:
        """``factor [AND] factor …``"""
        factors = [self._factor()]
        while True:
            if self._accept_word("AND") or self._peek().kind in ("text", "quoted", "open"):
                factors.append(self._factor())
            else:
                return factors[0] if len(factors) == 1 else All(factors)

    def expect(self, kind: str) -> _Token:
        """The next token, which must be of this kind."""
        token = self._peek()
        if token.kind != kind:
            found = repr(token.text) if token.text else "the end"
            wanted = {"close": "')'", "end": "the end", "value": "a value"}.get(kind, kind)
            raise invalid(token.position, f"expected {wanted}, found {found}.")
        self._next += 1
        return token

    def _factor(self) -> Node:
        terms = [self._term()]
        while self._accept_word("OR"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else Some(terms)

    def _term(self) -> Node:
        self._terms += 1
        token = self._peek()
        if self._terms > TERMS_MAX:
            raise invalid(token.position, f"more than {TERMS_MAX} terms.")
        if self._accept_word("NOT"):
            return Not(self._simple())
        if token.kind == "text" and token.text.startswith("-"):
            if token.text == "-":
                self._next += 1
            else:
                rest = _Token("text", token.text[1:], token.position + 1)
                self._tokens[self._next] = rest
            return Not(self._simple())
        return self._simple()

    def _simple(self) -> Node:
        if self._peek().kind != "open":
            return self._restriction()
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise invalid(self._peek().position, f"more than {DEPTH_MAX} levels of parentheses.")
        self.expect("open")
        node = self.expression()
        self.expect("close")
        self._depth -= 1
        return node

    def _restriction(self) -> Node:
        left = self._value()
        after = self._peek()
        if after.kind == "open" and left.kind == "text":
            raise invalid(left.position, f"there is no function {left.text!r}.")
        if after.kind != "operator":
            return Restriction(
                value=_plain(left), quoted=left.kind == "quoted", position=left.position
            )
        if left.kind != "text":
            raise invalid(left.position, "a field's name is not quoted.")
        self._next += 1
        right = self._value()
        return Restriction(
            path=left.text,
            operator=after.text,
            value=_plain(right),
            quoted=right.kind == "quoted",
            position=left.position,
        )

    def _value(self) -> _Token:
        token = self._peek()
        if token.kind not in ("text", "quoted") or token.text in ("AND", "OR", "NOT"):
            self.expect("value")
        self._next += 1
        return token

    def _accept_word(self, word: str) -> bool:
        token = self._peek()
        if token.kind == "text" and token.text == word:
            self._next += 1
            return True
        return False

    def _peek(self) -> _Token:
        return self._tokens[self._next]


def _plain(token: _Token) -> str:
    """The value without its quotes; an escaped ``*`` keeps its backslash, as no wildcard."""
    if token.kind != "quoted":
        return token.text
    return re.sub(r"\\([^*])", r"\1", token.text[1:-1], flags=re.DOTALL)
