"""Work in flight."""

from concurrent.futures import Future

from mlpot.fitting.accumulate import bounded_map


class Patient:
    """An executor whose results are there when asked for: nothing is computed before."""

    def __init__(self):
        self.futures = []

    def submit(self, function, item):
        self.futures.append(Future())
        if len(self.futures) == 1:
            self.futures[0].set_result(function(item))
        return self.futures[-1]


def test_what_is_no_longer_wanted_is_cancelled():
    executor = Patient()
    results = bounded_map(executor, lambda x: 10 * x, range(1, 100), 4)
    assert next(results) == 10 and len(executor.futures) == 4
    results.close()
    assert all(future.cancelled() for future in executor.futures[1:])
