"""From an archive of images to batches of tensors.

In: an archive. Out: samples with identity and camera (samples.py, layouts/), assigned to parts
(split.py), decoded (images.py, decode.py) into packed parts (packed.py), and batches of them
(sampler.py, loader.py, batches.py, augment.py).
Open first: split.py. A new dataset layout is a file in layouts/ and a line in its registry.py.
"""
