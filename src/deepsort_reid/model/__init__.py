"""The network: what it is made of, the file it lives in, and how to use it.

In: images. Out: embeddings. Networks (network.py), poolings, necks and classifiers (heads.py),
pretrained weights (the folder pretrained), files of torch.save (weights.py), the checkpoint
(checkpoint.py), the sample by which a training is followed (retrieval.py), and the Extractor, which
is all that a tracker needs.
Open first: network.py, or extractor.py to use a trained network.
"""
