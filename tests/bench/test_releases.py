"""The benchmark of the server, small: it measures what it says."""

import pytest

from tests.bench.releases import serving


@pytest.mark.slow
def test_the_rows_of_serving_are_made() -> None:
    found = serving.rows(clients=8)
    assert [row.holds for row in found] == [True, True, True]
    assert found[1].value is not None and found[1].value > 0
