"""MedSegLens: see what a tumour segmenter sees, and change its mind. Method: Med-SegLens, arXiv 2602.10508."""

__version__ = "0.3.0"
