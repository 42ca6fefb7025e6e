"""The frame of the report: one HTML file that asks for nothing from outside."""

from collections.abc import Iterable
from typing import Any

from afslvm.visualization.markup import Html, element, join

# The browser is told to refuse whatever isn't in the file itself.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --quiet: #59636e; --line: #d1d9e0;
  --paper: #ffffff; --tint: #f6f8fa; --accent: #3b82f6; --given: #dbeafe;
  --alarm: #d1242f; --alarm-tint: #fff1f0; --fine: #1a7f37; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --quiet: #9198a1; --line: #3d444d;
  --paper: #0d1117; --tint: #151b23; --accent: #58a6ff; --given: #1e3a5f;
  --alarm: #f85149; --alarm-tint: #2d1214; --fine: #3fb950; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 1.5rem clamp(0.8rem, 3vw, 2.5rem) 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0.4rem 0; }
h2 { font-size: 1.35rem; margin: 3rem 0 0.6rem; padding-top: 0.8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 0.4rem; }
p, li { max-width: 75ch; }
p { margin: 0.5rem 0 0.9rem; }
.lead { padding: 0; list-style: none; }
.lead li { margin: 0.25rem 0; }
nav a { color: var(--accent); margin-right: 1.1rem; text-decoration: none; }
nav a:hover { text-decoration: underline; }
small, .quiet { color: var(--quiet); font-size: 0.82rem; }
.line { display: block; font-weight: normal; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.45rem 1.3rem 0.45rem 0;
  border-bottom: 1px solid var(--line); }
thead th { font-weight: normal; color: var(--quiet); vertical-align: bottom; }
tbody th { font-weight: 600; }
tbody th, td { white-space: nowrap; }
.prose td { white-space: normal; }
tbody th em { font-weight: normal; }
.question { font-size: 0.82rem; line-height: 1.45; min-width: 11.5rem; max-width: 16rem; }
.question b { color: var(--ink); font-size: 0.95rem; }
.number { margin-bottom: 0.25rem; }
.bar { display: inline-block; height: 0.6rem; margin-right: 0.5rem; border-radius: 2px;
  background: var(--accent); vertical-align: baseline; min-width: 1px; }
code, pre { font: 0.85rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { background: var(--tint); padding: 0.1rem 0.3rem; border-radius: 4px; }
pre { background: var(--tint); padding: 0.8rem 1rem; border-radius: 6px; overflow-x: auto; }
details { margin: 0.7rem 0; }
summary { cursor: pointer; color: var(--accent); }
.note { border-left: 3px solid var(--accent); background: var(--tint); padding: 0.5rem 1rem;
  max-width: 75ch; margin: 0.8rem 0; }
.warning { border-left-color: var(--alarm); background: var(--alarm-tint); }
.fine { border-left-color: var(--fine); }
.note code { overflow-wrap: anywhere; }
.chart { display: block; width: 100%; max-width: 900px; height: auto; }
.pixels { image-rendering: pixelated; display: block; }
.strips > div { display: flex; align-items: center; margin-bottom: 3px; width: max-content; }
.strips > div > b { position: sticky; left: 0; z-index: 1; flex: none; width: 8.5rem;
  padding-right: 0.7rem; background: var(--paper); font-size: 0.9rem; line-height: 1.2; }
.strips small { font-size: 0.75rem; }
.steps > div { display: flex; color: var(--quiet); font-size: 0.72rem; }
.steps span { text-align: center; }
.steps .given { background: var(--given); color: var(--ink); }
figure { margin: 0.4rem 0 0.4rem 8.5rem; }
.names { display: flex; color: var(--quiet); font-size: 0.8rem; }
.names span { flex: 1; text-align: center; }
.clip { margin: 0.5rem 0 0.9rem; max-width: 900px; }
.clip > div { display: flex; flex-wrap: wrap; align-items: center; gap: 0.1rem 0.9rem; }
.clip audio { height: 2rem; width: 17rem; max-width: 100%; margin-left: auto; }
.legend span { display: inline-block; width: 0.8rem; height: 0.8rem; border-radius: 2px;
  margin: 0 0.35rem 0 0; vertical-align: -0.05rem; }
@media (max-width: 640px) { .strips > div > b { width: 5.2rem; } figure { margin-left: 0; }
  .strips small { display: none; } }
"""


def section(anchor: str, heading: str, *children: Any) -> Html:
  """A part of the page that the navigation leads to."""
  return element('section', element('h2', heading, id=anchor), *children)


def paragraphs(*sentences: Any) -> Html:
  """One paragraph per argument; empty ones are left out."""
  return join([element('p', sentence) for sentence in sentences if sentence])


def page(title: str, lead: Iterable[Any], sections: dict[str, tuple[str, Html]]) -> str:
  """The whole file.

  Args:
    title: of the page.
    lead: lines under the title.
    sections: {anchor: (heading, content)}, in order.
  """
  head = element(
    'head',
    element('meta', charset='utf-8'),
    element('meta', name='viewport', content='width=device-width, initial-scale=1'),
    element('meta', http_equiv='Content-Security-Policy', content=POLICY),
    element('title', title),
    element('style', Html(STYLE)),
  )
  links = [element('a', heading, href=f'#{anchor}') for anchor, (heading, _) in sections.items()]
  body = element(
    'main',
    element('h1', title),
    element('ul', *(element('li', line) for line in lead), class_='lead'),
    element('nav', *links),
    *(section(anchor, heading, content) for anchor, (heading, content) in sections.items()),
  )
  return '<!doctype html>\n' + element('html', head, element('body', body), lang='en') + '\n'
