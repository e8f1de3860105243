"""The lens's formulas, against a literal transcription of the equations."""

import torch


def test_encode_is_jumprelu_of_the_centred_token(lens):
    x = torch.randn(50, lens.d_in)
    pre = (x - lens.b_dec) @ lens.W_enc + lens.b_enc
    expected = torch.relu(pre) * (pre > lens.threshold)
    assert torch.allclose(lens.encode(x), expected, atol=1e-5)
    assert 0 < (expected > 0).sum() < expected.numel()


def test_decode_is_linear_in_the_codes(lens):
    z = torch.rand(7, lens.d_sae)
    assert torch.allclose(lens.decode(z), z @ lens.W_dec + lens.b_dec, atol=1e-5)
    assert torch.allclose(lens.decode(torch.zeros_like(z)), lens.b_dec.expand(7, -1))


def test_an_activation_at_the_threshold_does_not_fire(lens):
    lens.W_enc.zero_()
    lens.b_enc.copy_(lens.threshold)
    assert not lens.encode(torch.randn(3, lens.d_in)).any()
