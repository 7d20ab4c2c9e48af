"""Train the appearance network of a Deep SORT tracker, reproducibly and on many GPUs."""
