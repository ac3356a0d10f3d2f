"""`python -m segacc` is the command `segacc`, in the form that launchers take:

accelerate launch -m segacc train --dataset demo
torchrun --nproc-per-node 2 -m segacc train --dataset demo
"""

from segacc.cli import main

if __name__ == "__main__":  # data workers import this module, too
    main()
