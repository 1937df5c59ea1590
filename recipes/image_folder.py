"""Distil a pretrained image classifier on a folder of your own images: everything else as in ``cifar10.py``.

    accelerate launch recipes/image_folder.py --preset quick
    accelerate launch recipes/image_folder.py --dataset path/to/images --output_dir out/mine

The folder has one folder of images for each class, within ``train``, ``validation`` and ``test`` or without; a warning
names the files that are left out. Where no images are for validation, a tenth of those for training is held out. A
ResNet-50 is fine-tuned first and then teaches a MobileNetV2 of about a tenth of its size, both pretrained on ImageNet
and each with images normalised as it knows them.
Images are squeezed into squares. It has not been run here: both models come from the Hub.
"""

from __future__ import annotations

from functools import partial

import cifar10

from hf_distill.recipe import Preset, hardware_defaults, run

PRESETS = {
    "full": Preset(
        "Your images at 224 x 224 pixels, ResNet-50 to MobileNetV2; for a GPU.",
        {
            **hardware_defaults(),
            "output_dir": "out/image-folder",
            "dataset": None,
            "image_size": 224,
            "hold_out": True,
            "teacher": "microsoft/resnet-50",
            "teacher_epochs": 10.0,
            "teacher_learning_rate": 1e-4,
            "student": "google/mobilenet_v2_1.0_224",
            "padding": 28,
            "num_train_epochs": 20.0,
            "per_device_train_batch_size": 32,
            "per_device_eval_batch_size": 64,
            "dataloader_num_workers": 4,
            "learning_rate": 5e-4,
            "weight_decay": 0.05,
            "lr_scheduler_type": "cosine",
            "warmup_steps": 0.1,
            "temperature": 4.0,
            "distillation_weight": 0.9,
            "save_strategy": "epoch",
            "save_total_limit": 1,
            "logging_steps": 50,
            "log_level": "warning",
        },
    ),
    "quick": cifar10.PRESETS["quick"],
}

if __name__ == "__main__":
    run(partial(cifar10.main, PRESETS, __doc__))
