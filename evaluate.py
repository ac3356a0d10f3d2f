"""Score a trained model on full images: python evaluate.py runs/NAME"""

import sys

import tyro

from segacc.config import EvaluateConfig, run_program


def main() -> None:
    config = tyro.cli(EvaluateConfig)
    from segacc.evaluation import evaluate  # after parsing: torch takes seconds, --help none

    evaluate(config)


if __name__ == "__main__":
    sys.exit(run_program(main, debug="--debug" in sys.argv))
