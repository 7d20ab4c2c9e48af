"""What a network learns from: the losses, and the sum of those that the parameters ask for.

In: logits, embeddings and labels of this rank's images. Out: a sum over them, so that ranks with
shares of different sizes add up to the mean over the global batch.
A new loss is a function in a file here and a term in total.py; its weight is a parameter in
core/config.py.
Open first: total.py.
"""
