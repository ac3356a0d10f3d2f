"""Fine-tune a segmentation model: accelerate launch train.py --model linknet --crop 256

The same as `segacc train`, which needs no checkout.
"""

import sys

from segacc.commands.training import train
from segacc.errors import run_program


def main() -> int:
    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(run_program(main, debug="--debug" in sys.argv))
