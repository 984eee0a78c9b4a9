"""Plain data as YAML, for people: block style, keys in the given order, and strings that stay strings.

Called by the command line for `-o yaml`. It reads nothing.
"""

from __future__ import annotations

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import SafeRepresenter

_BOOLEANS_OF_OLD = frozenset({"y", "n", "yes", "no", "on", "off"})
"""Strings in YAML 1.2, but booleans to the many readers of YAML 1.1."""


class _Representer(SafeRepresenter):
    """Quotes also what only older readers would misread."""

    def represent_str(self, data: Any) -> Any:
        """A string."""
        style = "'" if data.lower() in _BOOLEANS_OF_OLD else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Representer.add_representer(str, _Representer.represent_str)


def dump(data: object) -> str:
    """Dictionaries, lists, strings, numbers, booleans and None as one YAML document.

    Raises:
        ruamel.yaml.representer.RepresenterError: there is anything else in the data.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()
