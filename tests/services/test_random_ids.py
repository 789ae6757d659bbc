"""Random ids come in blocks, which nobody is to notice."""

import re

from services.random_ids import RandomIds


def test_ids_of_several_blocks_and_sources_are_32_hexadecimal_digits_and_differ() -> None:
    one, other = RandomIds(), RandomIds()
    found = [ids.new() for _ in range(600) for ids in (one, other)]
    assert len(set(found)) == 1_200
    assert all(re.fullmatch("[0-9a-f]{32}", item) for item in found)
