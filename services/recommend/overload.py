"""What a slate is made by while the process has more to do than it can do well."""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from services.recommend.pipeline import Ask
from services.recommend.surfaces import Surface


def relieved(ask: Ask, surfaces: Mapping[str, Surface]) -> Ask:
    """Return what is asked for made cheaper: by the rules that its surface names for overload, or else unranked.

    It stays a slate of its own surface, and its answer names the fallback.
    """
    if ask.surface.overload is None:
        return replace(ask, overload="unranked")
    cheaper = surfaces[ask.surface.overload]
    return replace(ask, surface=msgspec.structs.replace(cheaper, name=ask.surface.name), overload="other_rules")
