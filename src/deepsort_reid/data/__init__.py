"""From an archive of images to batches of tensors.

In: an archive. Out: samples with identity and camera (samples.py, layouts/), assigned to parts
(split.py), decoded (images.py, decode.py) into packed parts (packed.py), and batches of them
(sampler.py, loader.py, batches.py, augment.py). sample_size.py says how many images or people a
number takes before it means something, for all rooms that report numbers.
Open first: split.py. A new dataset layout is a file in layouts/ and a line in its registry.py.
"""
