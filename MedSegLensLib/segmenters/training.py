"""Training of a segmenter on conformed cases and phantoms.

A training example is a crop around a voxel drawn by class, so that a region which few cases have is seen as often as
one which all have; some crops show another case's lesion, or a fainter one (lesion_mixing.py). The loss is MONAI's
Dice + cross-entropy; the weights kept are the exponential moving average, and always those of the last step: no
validation case has a say in which weights are kept.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import nn

from MedSegLensLib.cases.case import Case
from MedSegLensLib.cases.conform import InputSpec, conform
from MedSegLensLib.cases.phantom import phantom
from MedSegLensLib.errors import CaseError
from MedSegLensLib.segmenters.architectures import SegmenterConfig, build_network
from MedSegLensLib.segmenters.augmentation import training_transforms, vary_modalities
from MedSegLensLib.segmenters.lesion_mixing import TrainingVolume, fainter, transplant

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides the trained weights. `crop` is (z, y, x) voxels; z = 1 for slices. `transplants` and
    `faint_lesions` are shares of the examples from real cases."""

    segmenter: SegmenterConfig
    input: InputSpec
    crop: tuple[int, int, int] = (1, 128, 128)
    steps: int = 2000
    batch_size: int = 12
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    average_decay: float = 0.998
    modality_dropout: float = 0.35
    spoilt_modality: float = 0.08
    transplants: float = 0.0
    faint_lesions: float = 0.0
    phantoms: int = 6
    phantom_share: float = 0.1
    class_shares: dict[str, float] = field(
        default_factory=lambda: {"NCR": 0.2, "ED": 0.25, "ET": 0.25, "brain": 0.25, "any": 0.05}
    )
    seed: int = 0

    def to_json(self) -> dict:
        return asdict(self) | {"input": self.input.to_json()}

    @staticmethod
    def from_json(values: dict) -> "TrainingConfig":
        values = dict(values)
        segmenter = dict(values.pop("segmenter"))
        if segmenter.get("patch_size"):
            segmenter["patch_size"] = tuple(segmenter["patch_size"])
        if "crop" in values:
            values["crop"] = tuple(values["crop"])
        return TrainingConfig(
            segmenter=SegmenterConfig(**segmenter), input=InputSpec.from_json(values.pop("input")), **values
        )


class _Crops:
    """Draws augmented crops from conformed cases kept in memory."""

    def __init__(self, cases: list[Case], config: TrainingConfig):
        self.config, self.random = config, np.random.default_rng(config.seed)
        self.transforms = training_transforms(config.segmenter.spatial_dims, config.seed)
        self.volumes: list[TrainingVolume] = []
        self.voxels: list[dict[str, np.ndarray]] = []
        for case in cases:
            if case.labels is None:
                raise CaseError(case.name, "has no labels to train on.", "Add its segmentation, or leave the case out.")
            conformed = conform(case, config.input)
            labels = conformed.labels(case.labels)
            self.volumes.append(TrainingVolume.of(conformed, labels))
            classes = {"NCR": labels == 1, "ED": labels == 2, "ET": labels == 3}
            classes |= {"brain": conformed.brain, "any": np.ones_like(conformed.brain)}
            self.voxels.append({name: np.flatnonzero(mask).astype(np.int32) for name, mask in classes.items()})

    def draw(self, among: range, mixing: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """One augmented crop, of a class drawn by `class_shares`: image (C, *spatial), label (1, *spatial)."""
        image, label, brain, _ = self._window(among, mixing)
        label, brain = label[None], brain[None]
        if self.config.segmenter.spatial_dims == 2:
            image, label, brain = image[:, 0], label[:, 0], brain[:, 0]
        # The brain travels as the label's second bit plane: one nearest-neighbour warp serves both.
        both = torch.from_numpy(label.astype(np.float32) + 8 * brain)
        moved = self.transforms({"image": torch.from_numpy(np.ascontiguousarray(image)), "label": both})
        both = torch.as_tensor(moved["label"]).round().to(torch.int64)
        image = torch.as_tensor(moved["image"])
        config = self.config
        return (
            vary_modalities(image, both[0] >= 8, self.random, config.modality_dropout, config.spoilt_modality),
            both % 8,
        )

    def _window(self, among: range, mixing: bool):
        random, shares = self.random, self.config.class_shares
        wanted = random.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values()))
        having = [i for i in among if self.voxels[i][wanted].size] or list(among)
        case = having[random.integers(len(having))]
        volume, size = self.volumes[case], np.array(self.config.crop)
        start = self._start(case, wanted, volume)
        if not mixing:
            return volume.window(start, size)
        share = random.uniform(0.15, 0.5) if random.random() < self.config.faint_lesions else 0.0
        if random.random() >= self.config.transplants:
            return fainter(volume, start, size, share) if share else volume.window(start, size)
        host = self.volumes[among[random.integers(len(among))]]
        offset = volume.offset_in(host)
        if offset is None or host is volume:
            return volume.window(start, size)
        if random.random() < 0.5:
            volume, start = volume.mirrored(), np.array([*start[:2], volume.shape[2] - start[2] - size[2]])
        return transplant(host.window(start + offset, size), fainter(volume, start, size, share))

    def _start(self, case: int, wanted: str, volume: TrainingVolume) -> np.ndarray:
        """First voxel (z, y, x) of a crop around a voxel of the wanted class, somewhere near its middle."""
        size = np.array(self.config.crop)
        voxels = self.voxels[case][wanted] if self.voxels[case][wanted].size else self.voxels[case]["any"]
        centre = np.array(np.unravel_index(voxels[self.random.integers(voxels.size)], tuple(volume.shape)))
        jitter = np.where(size > 1, self.random.integers(-size // 4, size // 4 + 1), 0)
        return np.clip(centre + jitter - size // 2, 0, np.maximum(volume.shape - size, 0))


def train_segmenter(
    cases: list[Case], config: TrainingConfig, device: str = "cpu", progress: Progress | None = None
) -> tuple[nn.Module, list[dict]]:
    """Train a segmenter; returns the averaged network (eval mode, CPU) and the log (step, loss, rate, seconds).

    cases: with labels. On CUDA the forward pass runs in bfloat16. Raises CaseError for a case without labels.
    """
    from monai.losses import DiceCELoss

    torch.manual_seed(config.seed)
    made = [phantom(config.seed * 1000 + i, tumour=i % 6 != 5) for i in range(config.phantoms)]
    crops = _Crops(cases + made, config)
    real, phantoms = range(len(cases)), range(len(cases), len(cases) + len(made))

    flat = config.segmenter.spatial_dims == 2
    memory_format = torch.channels_last if flat else torch.channels_last_3d
    network = build_network(config.segmenter).to(device, memory_format=memory_format).train()
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(config.average_decay), use_buffers=True
    )
    optimiser = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, total_steps=config.steps, pct_start=0.1
    )
    loss_of = DiceCELoss(softmax=True, to_onehot_y=True, include_background=False, batch=True, lambda_ce=1.0)

    log, started, recent = [], time.monotonic(), []
    for step in range(config.steps):
        batch = []
        for _ in range(config.batch_size):
            from_phantom = phantoms and (not cases or crops.random.random() < config.phantom_share)
            batch.append(crops.draw(phantoms if from_phantom else real, mixing=not from_phantom))
        x = torch.stack([image for image, _ in batch]).to(device).contiguous(memory_format=memory_format)
        y = torch.stack([label for _, label in batch]).to(device)
        with torch.autocast("cuda", torch.bfloat16, enabled=device.startswith("cuda")):
            logits = network(x)
        loss = loss_of(logits.float(), y)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is not finite at step {step}; lower learning_rate")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        schedule.step()
        averaged.update_parameters(network)
        recent.append(loss.item())
        if progress:
            progress(f"training {config.segmenter.architecture}, loss {np.mean(recent[-50:]):.3f}", step / config.steps)
        if (step + 1) % 50 == 0 or step + 1 == config.steps:
            log.append(
                {
                    "step": step + 1,
                    "loss": round(float(np.mean(recent[-50:])), 4),
                    "learning_rate": schedule.get_last_lr()[0],
                    "seconds": round(time.monotonic() - started, 1),
                }
            )
    return averaged.module.to("cpu", memory_format=torch.contiguous_format).eval(), log
