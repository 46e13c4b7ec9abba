"""Model execution: packed forward passes, attention, layers and CUDA graphs."""
