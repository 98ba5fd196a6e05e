"""A page that is one file: light, dark or printed, and nothing is loaded from anywhere.

Texts are escaped here; what is given as HTML was escaped by whoever made it. The page's
Content-Security-Policy forbids scripts and requests even where that should have been forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from importlib import resources
from string import Template


def page(*, title: str, kicker: str, headline: str, lead: str, body: str, style: str = "") -> str:
    """Return a whole page; `body` is HTML and `style` more CSS, the others are text."""
    return Template(package_text("veilface_common", "page.html")).substitute(
        title=escape(title),
        style=package_text("veilface_common", "page.css") + style,
        kicker=escape(kicker),
        headline=escape(headline),
        lead=f"<p>{escape(lead)}</p>",
        body=body,
    )


def facts_table(facts: Iterable[tuple[str, str]]) -> str:
    """Return (name, value) texts as a table of two columns; nothing where there are none."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in facts
    )
    return f'<table class="settings"><tbody>{rows}</tbody></table>' if rows else ""


def package_text(package: str, name: str) -> str:
    """Return a text file that lies in one of our packages."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")
