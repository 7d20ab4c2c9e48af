"""What the speed benchmarks measure, an item a module."""
