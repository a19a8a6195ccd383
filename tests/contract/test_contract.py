"""Every modulator config x every small network obeys every law. A new YAML line is picked up by itself."""

from collections.abc import Callable

import pytest

from tests.contract.cells import CONFIGS, PAIRS, Cell, cell
from tests.contract.laws import LAWS
from tests.contract.laws_of_others import LAWS_OF_OTHERS


@pytest.mark.parametrize("law", [*LAWS, *LAWS_OF_OTHERS], ids=lambda law: law.__name__)
@pytest.mark.parametrize(("config", "network"), PAIRS, ids=lambda value: value)
def test_law(config: str, network: str, law: Callable[[Cell], None]) -> None:
    law(cell(CONFIGS[config], network))
