"""From an archive of images to batches of tensors.

In: an archive. Out: samples with identity and camera (layouts.py, mot_crops.py), dealt out
(split.py), decoded into packed parts (packed.py), and batches of them (sampler.py, loader.py).
Open first: split.py. A new dataset layout goes into layouts.py.
"""
