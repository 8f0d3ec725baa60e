"""What libraries read from the environment."""

import os


def quiet_libraries() -> None:
    """Keep libraries from printing on success; a level that the user has set stays. Call before they are imported."""
    levels = {
        "TRANSFORMERS_VERBOSITY": "error", "DATASETS_VERBOSITY": "error", "ACCELERATE_LOG_LEVEL": "ERROR",
        "TF_CPP_MIN_LOG_LEVEL": "3", "TOKENIZERS_PARALLELISM": "true",
    }  # fmt: skip
    for name, level in levels.items():
        os.environ.setdefault(name, level)
