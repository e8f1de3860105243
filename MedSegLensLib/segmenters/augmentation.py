"""What a training crop goes through, by MONAI transforms, and modality dropout.

Seven real cases are few, and a new scanner's contrast is the commonest reason for a failure, so intensity is varied
harder per modality than anatomy is. Images are z-scored, 0 outside the brain.
"""

import numpy as np
import torch


def training_transforms(spatial_dims: int, seed: int):
    """MONAI transforms over {"image": (C, *spatial), "label": (1, *spatial)}; in place for 2D crops and 3D patches."""
    from monai.transforms import (
        Compose,
        RandAdjustContrastd,
        RandAffined,
        RandBiasFieldd,
        RandFlipd,
        RandGaussianNoised,
        RandGaussianSmoothd,
    )

    rotation = 0.35 if spatial_dims == 2 else (0.15, 0.15, 0.35)
    transforms = Compose(
        [
            RandFlipd(["image", "label"], prob=0.5, spatial_axis=spatial_dims - 1),  # left-right
            RandAffined(
                ["image", "label"],
                prob=0.8,
                rotate_range=rotation,
                scale_range=0.2,
                shear_range=0.1,
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
            RandBiasFieldd(["image"], prob=0.2, degree=2, coeff_range=(0.0, 0.15)),
            RandAdjustContrastd(["image"], prob=0.25, gamma=(0.6, 1.6), retain_stats=True),
            RandGaussianSmoothd(["image"], prob=0.15, sigma_x=(0.4, 1.2), sigma_y=(0.4, 1.2), sigma_z=(0.4, 1.2)),
            RandGaussianNoised(["image"], prob=0.25, std=0.15),
        ]
    )
    transforms.set_random_state(seed)
    return transforms


def vary_modalities(
    image: torch.Tensor, brain: torch.Tensor, random: np.random.Generator, dropout: float, spoilt: float
) -> torch.Tensor:
    """Per modality: gain and shift; with probability `dropout` one to all but one modalities are zeroed (what a missing
    one looks like); with probability `spoilt` one modality is drowned in noise, as a motion-ruined series would be.

    image (C, *spatial), brain bool (*spatial). Returns a new tensor, 0 outside the brain.
    """
    channels = image.shape[0]
    shape = (channels,) + (1,) * (image.ndim - 1)
    gain = torch.from_numpy(random.uniform(0.75, 1.3, shape).astype(np.float32))
    shift = torch.from_numpy(random.uniform(-0.3, 0.3, shape).astype(np.float32))
    image = image * gain + shift
    if random.random() < spoilt:
        noise = torch.from_numpy(random.standard_normal(image.shape[1:], dtype=np.float32))
        image[random.integers(channels)] = noise * random.uniform(0.5, 1.2)
    if random.random() < dropout:
        missing = random.permutation(channels)[: random.integers(1, channels)]
        image[missing.tolist()] = 0
    return image * brain
