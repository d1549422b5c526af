"""AIP-160 filters: text → tree.

What surprises: OR binds tighter than AND, terms side by side are an AND, a bare word is looked for
in all text, and ``:`` means "has" (for text: contains). ``conditions`` makes SQL of the tree.
docs/filters.md is the language as people use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from longshore.errors import InvalidArgument, invalid_field

MAX_BYTES = 10_000
TERMS_MAX = 100
DEPTH_MAX = 32

_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    |(?P<quoted>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<operator><=|>=|!=|=|<|>|:)
    |(?P<open>\()|(?P<close>\))
    |(?P<text>\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)
        |[^\s()<>=!:"'\0]+)""",
    re.VERBOSE | re.DOTALL,
)

_VALUE = re.compile(r"(?P<escaped>\\.)|(?P<star>\*)|[^\\*]+|\\", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Restriction:
    """``path operator value``; a bare word has neither path nor operator. ``pieces``: the value
    cut at its wildcards; ``quoted``: it was; ``position``: where this stands, for error texts."""

    path: str = ""
    operator: str = ""
    pieces: Sequence[str]
    quoted: bool = False
    position: int

    @property
    def value(self) -> str:
        """The value where a ``*`` is nothing but a star."""
        return "*".join(self.pieces)

    @property
    def asks_presence(self) -> bool:
        """Whether this is ``path:*``."""
        return self.operator == ":" and not self.quoted and self.value == "*"


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
    MAX_BYTES bytes, TERMS_MAX terms or DEPTH_MAX levels of parentheses.
    """
    if len(text.encode()) > MAX_BYTES:
        raise invalid_filter(f"it has more than {MAX_BYTES} bytes.")
    tokens = _tokens(text)
    if tokens[0].kind == "end":
        return None
    parser = _Parser(tokens)
    node = parser.expression()
    parser.expect("end")
    return node


def restrictions(node: Node) -> Iterator[Restriction]:
    """All that a tree holds."""
    match node:
        case All(terms=terms) | Some(terms=terms):
            for term in terms:
                yield from restrictions(term)
        case Not(term=term):
            yield from restrictions(term)
        case Restriction():
            yield node


def invalid(position: int, why: str) -> InvalidArgument:
    """The error for a filter that goes wrong at ``position``."""
    return invalid_filter(why, f" at position {position + 1}")


def invalid_filter(why: str, where: str = "") -> InvalidArgument:
    """The error for a whole filter."""
    return invalid_field("filter", f"Invalid filter{where}: {why}", reason="FILTER_INVALID")


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
        if after.kind != "operator":
            return _plain(left, left.position)
        if left.kind != "text":
            raise invalid(left.position, "a field's name is not quoted.")
        self._next += 1
        if self._peek().kind == "open":
            return _compared(self._simple(), left.text, after.text)
        right = _plain(self._value(), left.position)
        return replace(right, path=left.text, operator=after.text)

    def _value(self) -> _Token:
        token = self._peek()
        if token.kind not in ("text", "quoted") or token.text in ("AND", "OR", "NOT"):
            self.expect("value")
        self._next += 1
        after = self._peek()
        if after.kind == "open" and after.position == token.position + len(token.text):
            raise invalid(token.position, f"there is no function {token.text!r}.")
        return token

    def _accept_word(self, word: str) -> bool:
        token = self._peek()
        if token.kind == "text" and token.text == word:
            self._next += 1
            return True
        return False

    def _peek(self) -> _Token:
        return self._tokens[self._next]


def _plain(token: _Token, position: int) -> Restriction:
    """A bare word of the value without its quotes and escapes."""
    quoted = token.kind == "quoted"
    pieces = [""]
    for match in _VALUE.finditer(token.text[1:-1] if quoted else token.text):
        if match["star"]:
            pieces.append("")
        elif quoted and match["escaped"]:
            pieces[-1] += match["escaped"][1]
        else:
            pieces[-1] += match[0]
    return Restriction(pieces=pieces, quoted=quoted, position=position)


def _compared(node: Node, path: str, operator: str) -> Node:
    """``path operator`` each bare word of ``node``."""
    match node:
        case All(terms=terms):
            return All([_compared(term, path, operator) for term in terms])
        case Some(terms=terms):
            return Some([_compared(term, path, operator) for term in terms])
        case Not(term=term):
            return Not(_compared(term, path, operator))
        case Restriction(path=""):
            return replace(node, path=path, operator=operator)
        case Restriction():
            raise invalid(node.position, f"a comparison within one of {path}.")
