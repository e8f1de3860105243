"""What an evaluation of a lens could have found, in the form that `editing.trust.examine` gives it."""

from MedSegLensLib.editing.verdict import verdict


def lens_facts(**changes) -> dict:
    facts = {
        "lens": {"latents": 512, "channels": 64, "k": 16, "steps": 6000, "seed": 21, "seconds": 130.2},
        "pack": "glioma-unet 0.2.0",
        "tap": "model.1.submodule <last>",
        "cases": {
            "fit": ["case-1", "case-2"],
            "score": ["case-8", "case-9"],
            "spliced": ["case-8"],
            "edited": ["case-8"],
        },
        "tokens": {"fit": 80000, "score": 60000, "there_are": 709857},
        "notes": ["Among the cases are phantoms."],
        "reconstruction": {
            "lens": {"all": 0.982, "air": 0.97, "brain": 0.981, "lesion": 0.963, "border": 0.958},
            "pca": {"all": 0.991, "air": 0.98, "brain": 0.99, "lesion": 0.985, "border": 0.981},
            "random_encoder": {"all": 0.71, "air": 0.6, "brain": 0.7, "lesion": 0.55, "border": 0.41},
            "random_decoder": {"all": 0.87, "air": 0.8, "brain": 0.86, "lesion": 0.81, "border": 0.79},
        },
        "activity": {
            "k": 16,
            "latents": 512,
            "l0": 16.2,
            "l0_by": {"air": 9.1, "brain": 15.7, "lesion": 31.4, "border": 18.2},
            "dead_share": 0.0234375,
            "hyperactive_share": 0.031,
            "tokens": 140000,
            "histogram": {"edges": [0, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1], "latents": [2, 20, 61, 190, 211, 16]},
            "latents_on_lesion": 214,
        },
        "stability": {
            "seeds": [22, 23],
            "at_least": 0.7,
            "latents_on_lesion": 214,
            "share": 0.31,
            "share_on_lesion": 0.42,
            "activation_share": 0.29,
            "activation_share_on_lesion": 0.38,
            "median": 0.55,
            "median_on_lesion": 0.63,
            "histogram": [0, 2, 8, 17, 29, 38, 30, 35, 33, 22],
            "nulls": {
                name: {
                    "share": share,
                    "share_on_lesion": share,
                    "activation_share": share,
                    "activation_share_on_lesion": share,
                    "median": 0.3,
                    "explained_variance": 0.41,
                    "histogram": histogram,
                }
                for name, share, histogram in (
                    ("random", 0.0, [0, 10, 90, 60, 8, 0, 0, 0, 0, 0]),
                    ("start", 0.01, [0, 4, 40, 70, 50, 12, 2, 0, 0, 0]),
                    ("tokens", 0.22, [0, 0, 6, 21, 45, 52, 40, 31, 12, 3]),
                )
            },
            "null_share": 0.22,
            "substitution_kept": 0.46,
            "substitution_kept_half": 0.47,
            "decoder_cosine": [0.5] * 512,
        },
        "probes": {
            name: {
                "tokens": [4000, 2200],
                "latent": 17,
                "latent_sign": -1 if name == "NCR" else 1,
                "best_latent": latent,
                "best_channel": channel,
                "best_component": channel - 0.02,
                "random_encoder": 0.8,
                "random_direction": 0.86,
                "shuffled": 0.503,
                "sparse_1": latent,
                "sparse_5": 0.97,
                "sparse_5_latents": [17, 3, 4, 5, 6],
                "sparse_5_channels": 0.951,
                "sparse_5_components": 0.962,
                "sparse_5_random_encoder": 0.9,
                "sparse_5_shuffled": 0.49,
                "dense": 0.985,
            }
            for name, latent, channel in (
                ("WT", 0.951, 0.93),
                ("ET", 0.965, 0.941),
                ("NCR", 0.88, 0.884),
                ("csf", 0.9, 0.91),
            )
        },
        "splice": {
            "cases": {
                "case-8": {
                    kind: {"WT": wt, "TC": tc, "ET": None}
                    for kind, wt, tc in (
                        ("plain", 0.91, 0.83),
                        ("spliced", 0.903, 0.826),
                        ("zero", 0.02, 0.0),
                        ("random_encoder", 0.61, 0.37),
                    )
                }
            },
            "items": 2,
            "loss_pp": 0.7,
            "mean_loss_pp": 0.55,
            "share_recovered": 0.9937,
            "nulls": {
                "zero": {"loss_pp": 89.0, "mean_loss_pp": 86.0, "share_recovered": 0.0},
                "random_encoder": {"loss_pp": 46.0, "mean_loss_pp": 38.0, "share_recovered": 0.56},
            },
        },
        "selectivity": {
            "moved_ml": 2.2,
            "target_share": 0.9,
            "support_share": 0.97,
            "random_moved_ml": 0.3,
            "random_target_share": 0.6,
            "beats_random": 0.5,
            "directions": 3,
            "by_chance": 0.25,
            "edits": [
                {
                    "case": "case-8",
                    "region": region,
                    "latent": latent,
                    "moved_ml": moved,
                    "target_share": 0.9,
                    "support_share": 0.97,
                    "random_moved_ml": 0.3,
                    "random_most_ml": 0.4,
                    "random_target_share": None,
                }
                for region, latent, moved in (("WT", 17, 4.2), ("ET", 204, 0.2))
            ],
        },
        "substituted": [{"latent": 17, "partner": 301, "cosine": 0.91, "removed_ml": 4.3, "replaced_ml": 1.2}],
        "training": {
            "log": [
                {
                    "step": 200 * i,
                    "loss": 0.4 / (i + 1),
                    "l0": 16 + i % 3,
                    "dead_share": 0.01 * i,
                    "explained_variance": 1 - 0.4 / (i + 1),
                    "threshold": 0.5,
                }
                for i in range(30)
            ]
        },
        "null_steps": 600,
    } | changes
    return facts | {"verdict": verdict(facts)}
