"""gather_images puts every rank's share back into the order of the split."""

import torch
from accelerate import Accelerator

from segacc.data.loader import rank_share
from segacc.inference import gather_images

accelerator = Accelerator(cpu=True)
world = accelerator.num_processes
for samples in (1, 2, 3, 7, 9):
    share = rank_share(samples, accelerator.process_index, world)
    counts = torch.tensor([[i, 10 * i] for i in share], dtype=torch.long).view(-1, 2)
    everything = gather_images(accelerator, samples, counts)
    assert everything.tolist() == [[i, 10 * i] for i in range(samples)], everything
if accelerator.is_main_process:
    print(f"in order on {world}")
accelerator.end_training()
