"""The network: what it is made of, the file it lives in, and how to use it.

In: images. Out: embeddings. Networks, their heads, pretrained weights, the checkpoint, and the
Extractor, which is all that a tracker needs.
Open first: network.py, or extractor.py to use a trained one.
"""
