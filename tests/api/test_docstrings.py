"""The examples in the docstrings of the API, run as they are written, one after the other."""

import doctest
from typing import Any

import segacc.api.evaluate
import segacc.api.predict
import segacc.api.train

MODULES = (segacc.api.train, segacc.api.evaluate, segacc.api.predict)


class LastOf(doctest.OutputChecker):
    """What is expected is the end of what is printed, since training prints lines of its own."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return got.endswith(want)


def test_examples_print_what_they_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(LastOf())
    examples: list[Any] = []
    for module in MODULES:
        for test in doctest.DocTestFinder(exclude_empty=True).find(module):
            examples += test.examples
            result = runner.run(test)
            assert result.failed == 0
    assert len(examples) >= 11
