"""What all tests share: one thread, as the last bits of sums depend on how many there are, and runs are compared."""

import os

import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
torch.set_num_threads(1)
