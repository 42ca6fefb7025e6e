"""HTML that can't be broken by what it shows: text is escaped unless it was made here."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import Any

VOID = frozenset({'br', 'img', 'meta', 'source'})


class Html(str):
  """Text that is markup already."""


def escape(child: Any) -> Html:
  """Markup as it is, anything else as escaped text."""
  return child if isinstance(child, Html) else Html(html.escape(str(child)))


def join(children: Iterable[Any], between: str = '') -> Html:
  """Children one after the other."""
  return Html(between.join(escape(child) for child in children))


def element(tag: str, /, *children: Any, **attributes: Any) -> Html:
  """`<tag attribute="value">children</tag>`.

  Args:
    tag: of the element.
    *children: see `escape`.
    **attributes: `class_` stands for class, other underscores for hyphens; None leaves one out.
  """
  shown = ''.join(
    f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
    for key, value in attributes.items()
    if value is not None
  )
  opening = f'<{tag}{shown}>'
  return Html(opening if tag in VOID else f'{opening}{join(children)}</{tag}>')


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]], class_: str | None = None) -> Html:
  """A table that scrolls by itself on narrow screens; the first cell of a row is its heading."""
  head = element('tr', *(element('th', cell, scope='col') for cell in header))
  body = [
    element('tr', element('th', row[0], scope='row'), *(element('td', cell) for cell in row[1:]))
    for row in rows
  ]
  whole = element('table', element('thead', head), element('tbody', *body), class_=class_)
  return element('div', whole, class_='scroll')


def details(summary: Any, *children: Any) -> Html:
  """Content that is folded away at first."""
  return element('details', element('summary', summary), *children)


def data_uri(data: bytes, kind: str) -> str:
  """`data` inside the page itself; `kind` is a MIME type."""
  return f'data:{kind};base64,{base64.b64encode(data).decode()}'


def two_tone(light: bytes, dark: bytes, alt: str) -> Html:
  """An SVG picture in the colours of the reader's choice."""
  kind = 'image/svg+xml'
  return element(
    'picture',
    element('source', media='(prefers-color-scheme: dark)', srcset=data_uri(dark, kind)),
    element('img', src=data_uri(light, kind), alt=alt, class_='chart'),
  )
