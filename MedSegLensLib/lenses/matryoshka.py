"""Matryoshka: the first latents alone must reconstruct too.

Bussmann et al. 2025, "Learning multi-level features with Matryoshka sparse autoencoders" (arXiv 2503.17547). The loss
is the mean over nested dictionaries, of the first m_1 < m_2 < ... < width latents, each of the error it leaves. That
keeps the general latents, the first ones, from being split up into special ones. Which activations stay is decided as
in BatchTopK.
"""


def default_prefixes(width: int) -> tuple[int, ...]:
    """An eighth, a quarter and half of the latents."""
    return tuple(p for p in (width // 8, width // 4, width // 2) if p)


def nested_loss(errors: list) -> object:
    """Mean over the nested dictionaries of the mean square of their errors, each (n, d)."""
    return sum(e.square().mean() for e in errors) / len(errors)
