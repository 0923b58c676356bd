"""Nothing is sent: what dependencies report of a machine, or look up unasked, is switched off before they load.

The package calls ``switch_off`` as it is imported, so every process that uses it, the workers of a cluster included,
has gone through here before it loads anything else.
"""

from __future__ import annotations

import os
import sys
import warnings

SWITCHES = {
    # ONNX Runtime keeps an id of the machine in the user's cache, and reports every session. Its API comes too late,
    # after the first report.
    "ORT_DISABLE_TELEMETRY": "1",
    "FRBENCH_UPDATE_CHECK": "0",  # frbench asks once a day whether it is the newest.
    "NO_ALBUMENTATIONS_UPDATE": "1",  # albumentations asks with every import; an extra of insightface brings it.
    "HF_HUB_DISABLE_TELEMETRY": "1",  # Of huggingface_hub, which data sets given to `from_sequence` may come from.
    "npm_config_update_notifier": "false",  # npm, which fetches weights, asks whether it is the newest.
    "DO_NOT_TRACK": "1",  # The common wish, for whatever else a plug-in loads.
}


def switch_off() -> None:
    """Set the switches in the environment of this process and of those it starts, whatever they were before."""
    if "onnxruntime" in sys.modules and os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        warnings.warn(
            "onnxruntime was imported before ppfr_bench, with its telemetry on: it may report what it runs. "
            "Import ppfr_bench first, or set ORT_DISABLE_TELEMETRY=1.",
            RuntimeWarning,
            stacklevel=3,
        )
    os.environ.update(SWITCHES)
