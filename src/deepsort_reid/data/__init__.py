"""From an archive of images to batches of tensors.

In: an archive, or several (joint.py). Out: samples with identity and camera (samples.py, layouts/,
video/), assigned to parts (split.py, queries.py), decoded (images.py, decode.py) into packed parts
(pack.py, packed.py), and batches of them (loading/). sample_size.py says how many images or people
a number takes before it means something, for all rooms that report numbers.
Open first: split.py. A new dataset layout is a file in a folder of layouts/ and a line in its
registry.py.
"""
