"""Plain data as YAML, for people: block style, keys in the given order, and strings that stay strings.

Called by the command line for `-o yaml`. It reads nothing.
"""

from __future__ import annotations

import io

from ruamel.yaml import YAML


def dump(data: object) -> str:
    """Dictionaries, lists, strings, numbers, booleans and None as one YAML document.

    Raises:
        ruamel.yaml.representer.RepresenterError: there is anything else in the data.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 4096
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()
