"""The templates of the pages: what they are filled with is escaped, and nothing that they name may be missing."""

from collections.abc import Callable

import jinja2


def template(name: str, **filters: Callable) -> jinja2.Template:
    """A template of this folder's `templates`, with filters by their name in it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("MedSegLensLib.reports", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    return environment.get_template(name)
