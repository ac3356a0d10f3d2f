"""Work on threads: in order, whatever takes long, and not all of it read at once."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from segacc.runtime.threads import in_order


def test_results_come_in_order_and_few_items_are_read_ahead():
    read = []

    def items():
        for item in range(20):
            read.append(item)
            yield item

    def slow_at_first(item):
        time.sleep(0.05 * (item == 0))
        return item * item

    with ThreadPoolExecutor(4) as pool:
        results = in_order(pool, slow_at_first, items(), most=3)
        assert next(results) == 0
        assert read == [0, 1, 2, 3]
        assert list(results) == [item * item for item in range(1, 20)]


def test_an_error_comes_in_its_place():
    with ThreadPoolExecutor(2) as pool:
        results = in_order(pool, lambda item: 1 / item, [1, 2, 0, 4])
        assert [next(results), next(results)] == [1.0, 0.5]
        with pytest.raises(ZeroDivisionError):
            next(results)
