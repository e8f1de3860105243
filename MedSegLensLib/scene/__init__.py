"""MRML nodes: the only place that writes them."""
