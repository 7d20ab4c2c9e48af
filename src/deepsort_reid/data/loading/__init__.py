"""From packed parts to batches on a device: which images each rank takes, and their way there."""
