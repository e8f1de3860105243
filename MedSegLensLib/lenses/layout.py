"""Which tensors a lens file holds, in SAELens' layout. Imports no torch: a pack is verified without it."""


def weight_shapes(architecture: str, d_in: int, d_sae: int) -> dict[str, tuple[int, ...]]:
    """The tensors that SAELens stores for an architecture, and their shapes."""
    shapes = {"W_dec": (d_sae, d_in), "b_dec": (d_in,)}
    if architecture == "matching_pursuit":
        return shapes
    shapes |= {"W_enc": (d_in, d_sae)}
    biases = {"jumprelu": ("b_enc", "threshold"), "gated": ("b_gate", "b_mag", "r_mag")}.get(architecture, ("b_enc",))
    return shapes | {name: (d_sae,) for name in biases}
