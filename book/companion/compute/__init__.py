"""Independent pieces of work, over cores, GPUs and machines."""
