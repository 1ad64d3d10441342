"""Amounts as people write them."""

import pytest

from ddhub.base.units import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(1, "image", "1 image"), (0, "image", "0 images"), (2000, "image", "2,000 images"), (3, "class", "3 classes")],
)
def test_a_noun_agrees_with_its_number(number, noun, text):
    """One image, several images, several classes."""
    assert counted(number, noun) == text
