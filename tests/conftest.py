"""What every test shares: one thread, since tests and their ranks run side by side."""

import torch

torch.set_num_threads(1)
