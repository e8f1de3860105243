"""From where on a latent is called stable. It stands alone: the panel asks for it too, and imports no torch."""

STABLE = 0.7
"""The least decoder cosine to a partner in the lens of every other seed. Paulo and Belrose 2025 (arXiv 2501.16615) look
at encoder and decoder; an edit adds the decoder's row, so that is what we ask for."""
