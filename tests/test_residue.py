"""Tests that no variant has leftovers of what was not chosen: it takes a second, so every change is tested with all."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from checks import Project, nothing_left_over
from matrix import MATRIX, Variant


@pytest.mark.parametrize("looked_at", MATRIX.variants, ids=lambda variant: variant.name)
def test_nothing_is_left_over(looked_at: Variant, rendered: Callable[[str], Path]) -> None:
    nothing_left_over(Project(rendered(json.dumps(looked_at.answers))))
