"""What manifests can say and the engine cannot do yet, so that nothing is accepted and ignored.

`source.reading` asks about each document. When the engine learns something, its line goes; nothing else knows of it.
"""

from __future__ import annotations

OTHER_KINDS = frozenset({"Repository"})
"""Kinds of ours that have no model yet."""
