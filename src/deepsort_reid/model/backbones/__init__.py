"""The networks by name: images in, embeddings and logits out.

`arch` names one: core/arch.py has the list, registry.py makes each. What all have in common is
base.py. A family is a file: resnet.py, osnet.py, deep_sort.py, and from_timm.py for all of timm's.
Open first: base.py, then the family.
"""
