"""Lens packs: segmenter, lenses, catalogue and model card in one folder or zip (docs/pack-format.md)."""
