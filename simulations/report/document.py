"""An offline page around figures and words: one look, one policy, nothing from the network.

The page loads nothing. Its Content-Security-Policy allows exactly the scripts that it carries, by
their SHA-256, so that a name in the data can never become a script.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fedspeech.extras import lacking
from fedspeech.privacy.phrasing import NO_NOISE
from simulations.report import phrasing
from simulations.report.figures import Figure

_NOTHING = "'none'"
_ROOMS = ("report", "tuning", "audits", "analytics")  # that have templates
CONTENTS = "<!-- contents -->"  # where a template wants the list of its sections


def document(template: str, figures: Sequence[Figure], context: dict[str, Any]) -> str:
    """Fills a template that extends `layout.html` and says where its figures stand.

    Without the extra that draws plots, every figure is the table that it has in any case.
    """
    no_plots = lacking("plots") if figures else ""
    carried = () if no_plots or not figures else scripts()
    filled = _templates().get_template(template)
    page = filled.render(
        context
        | {
            "policy": _policy(*carried),
            "no_plots": no_plots,
            "phrasing": phrasing,
            "no_privacy": NO_NOISE,
            "css": Markup(_file("report.css")),
            "scripts": [Markup(script) for script in carried],
            "figures": [
                {name: getattr(figure, name) for name in ("key", "height", "traces", "layout")}
                for figure in figures
            ],
        }
    )
    return page.replace(CONTENTS, _contents(page))


@functools.cache
def _templates() -> Environment:
    """The templates of all rooms, each compiled once: that takes longer than filling one."""
    return Environment(
        loader=ChoiceLoader([PackageLoader("simulations", room) for room in _ROOMS]),
        autoescape=True,
        # A misspelled name is then an error, where it would leave a gap beside an epsilon.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unbroken,
    )


def _unbroken(value: Any) -> Any:
    """Text in which no line ends between a number and its unit, or within a number.

    What has lines of its own, such as a scenario, is left as it is: it may be copied into a file.
    """
    if not isinstance(value, str) or isinstance(value, Markup) or "\n" in value:
        return value
    joined = re.sub(r"(?<=\d) (?=(?:%|s|ms|KB|MB|GB|points?)(?!\w))", "\u00a0", value)
    return re.sub(r"(?<=\de)-(?=\d)", "\u2011", joined)


def _contents(page: str) -> str:
    headings = re.findall(r'<h2 id="([\w-]+)">(.*?)</h2>', page)
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in headings)
    return f'<nav class="contents" aria-label="Contents"><ul>{links}</ul></nav>'


def _file(name: str) -> str:
    return (resources.files("simulations.report") / name).read_text(encoding="utf-8")


@functools.cache
def scripts() -> tuple[str, str]:
    """What draws the plots: Plotly's own script, and the page's."""
    from plotly.offline import get_plotlyjs

    return _in_script(get_plotlyjs()), _in_script(_file("report.js"))


def _in_script(text: str) -> str:
    """A script as it may stand in a page: nothing in it may end the element.

    Raises:
      ValueError: if it contains the end tag.
    """
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("a script in the page must contain neither </script nor <!--")
    # A browser turns CRLF into LF before it hashes a script; the policy has to hash the same bytes.
    return text.replace("\r\n", "\n")


def _policy(*scripts: str) -> str:
    """The Content-Security-Policy: these scripts, inline styles, and nothing from anywhere."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed or _NOTHING}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
