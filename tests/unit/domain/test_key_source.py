"""Where a product's private key is, in the one word that is kept of it."""

from __future__ import annotations

import pytest

from reconciler.domain.resources.product import KeySource


@pytest.mark.parametrize(
    ("said", "word"),
    [({"env": "SIGNING_KEY"}, "env:SIGNING_KEY"), ({"file": "/keys/a:b.pem"}, "file:/keys/a:b.pem")],
)
def test_a_key_is_named_in_one_word(said, word):
    assert KeySource(**said).reference == word
