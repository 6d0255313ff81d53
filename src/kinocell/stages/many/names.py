"""How the settings of a run are written: in the name of its folder, for people, on a command line.

Pure; which settings a run has is decided in `plan.py`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

NAME_LENGTH = 80


def run_name(varied: Mapping[str, Any]) -> str:
    """The folder's name: `"seed=0,search.strategy=first"`, safe on every file system.

    It depends on nothing but these settings. What a file system does not take, or has twice where
    it sees no capitals, is told apart by a hash at the end.
    """
    exact = label(varied)
    safe = re.sub(r"[^A-Za-z0-9._=,+-]+", "-", exact).strip(".-")
    if safe == exact and len(safe) <= NAME_LENGTH and _plain_case(varied):
        return safe
    digest = short_hash(dict(varied))
    return f"{safe[: NAME_LENGTH - len(digest) - 1]}-{digest}"


def label(varied: Mapping[str, Any]) -> str:
    """The settings for people, in full: `"seed=0,search.strategy=first"`."""
    return ",".join(f"{key}={typed(value)}" for key, value in varied.items())


def _plain_case(varied: Mapping[str, Any]) -> bool:
    return all(typed(value) == typed(value).lower() for value in varied.values())


def typed(value: object) -> str:
    """A value as it is typed: `"true"`, `"0.05"`, `"first"`."""
    return json.dumps(value) if isinstance(value, bool | int | float) else str(value)


def short_hash(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
