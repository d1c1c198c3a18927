"""Nothing is downloaded: set before `transformers` is imported."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
