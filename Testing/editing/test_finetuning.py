"""A lens that was fitted to the segmentation gives it back better, and stays a lens."""

import numpy as np
import pytest
import torch

from MedSegLensLib.editing.finetuning import finetune
from MedSegLensLib.segmenters.taps import changed


def divergence(session, lens):
    """KL of the spliced from the plain segmentation, mean over the brain."""
    total, voxels = 0.0, 0
    volume = torch.from_numpy(session.conformed.array)
    sampling = session.sampling
    brain_volume = torch.from_numpy(session.conformed.brain.astype(np.float32))[None]
    for sample in range(sampling.count):
        brain = torch.from_numpy(session.brain_tokens[lens.tap][sample].ravel())

        def splice(x, brain=brain):
            tokens = x.flatten(2).transpose(1, 2).flatten(0, 1).clone()
            tokens[brain] = lens.decode(lens.encode(tokens[brain]))
            return tokens.view(*x.shape[2:], -1).movedim(-1, 0)[None]

        x = session.engine.place(sampling.inputs(volume, [sample]))
        inside = sampling.inputs(brain_volume, [sample])[0, 0] > 0
        with torch.no_grad():
            plain = session.network(x)[0]
            with changed(session.network, {lens.tap: splice}):
                spliced = session.network(x)[0]
        kl = (plain.softmax(0) * (plain.log_softmax(0) - spliced.log_softmax(0))).sum(0)[inside]
        total, voxels = total + float(kl.sum()), voxels + len(kl)
    return total / voxels


@pytest.mark.parametrize(
    "pack", ["unet", "segformer", pytest.param("segresnet", marks=pytest.mark.slow)], indirect=True, scope="session"
)
def test_the_spliced_segmentation_comes_nearer_to_the_plain_one(session, case):
    pack = session.pack
    lens = session.lenses[pack.default_tap]
    before = {name: getattr(lens, name).clone() for name in ("W_enc", "W_dec", "b_enc", "b_dec")}
    fitted = finetune(
        lens, [case], session.network, pack.info.segmenter, pack.input_spec(), session.engine, steps=30, lr=1e-2
    )
    assert divergence(session, fitted) < 0.8 * divergence(session, lens)
    assert torch.allclose(fitted.W_dec.norm(dim=1), torch.ones(fitted.d_sae), atol=1e-5)
    assert all(torch.equal(getattr(lens, name), value) for name, value in before.items()), "the given lens is kept"
