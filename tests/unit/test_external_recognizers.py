"""A card beside an ONNX or TorchScript file: input as it says, answers as by hand, and an identity of its own."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made_networks import by_hand, write_card, write_onnx
from PIL import Image
from typer.testing import CliRunner

from ppfr_bench.api import ByteArray, FaceDataset, Recognizer, to_float
from ppfr_bench.assets import MANIFEST, asset_path
from ppfr_bench.cli import app
from ppfr_bench.contracts.check import examine_recognizer
from ppfr_bench.errors import Unavailable, UserError
from ppfr_bench.leaderboard.changes import changes_of
from ppfr_bench.recognizers import load_recognizer, recognizer_card, recognizer_component
from ppfr_bench.recognizers.store import EmbeddingStore
from ppfr_bench.records.store import ResultStore
from ppfr_bench.runner.plan import Plan, make_plan
from ppfr_bench.suites import load_suite
from ppfr_bench.testing import example_faces

ROOT = Path(__file__).parents[2]
onnx = pytest.importorskip("onnx", reason="needs the extra: pip install 'ppfr-bench[onnx]'")


def faces(count: int = 5) -> ByteArray:
    return example_faces().load(range(0, 3 * count, 3))


def loaded(card: Path) -> Any:
    return load_recognizer(recognizer_component(str(card)).name)


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# Input and answer


@pytest.mark.parametrize(
    ("colour", "layout", "mean", "std"),
    [("rgb", "nchw", 127.5, 128), ("bgr", "nchw", [10.0, 20.0, 30.0], [1.0, 2.0, 3.0]), ("bgr", "nhwc", 0, 255)],
)
def test_an_onnx_file_is_fed_as_its_card_says(tmp_path: Path, colour: str, layout: str, mean: Any, std: Any) -> None:
    file = write_onnx(tmp_path / "net.onnx", layout=layout)
    recognizer = loaded(write_card(tmp_path, file, colour=colour, layout=layout, mean=mean, std=std))
    pixels = faces().astype(np.float32)
    fed = pixels[:, ::-1] if colour == "bgr" else pixels
    fed = (fed - np.reshape(np.broadcast_to(mean, 3), (3, 1, 1))) / np.reshape(np.broadcast_to(std, 3), (3, 1, 1))
    embedded = recognizer.embed(to_float(faces()))
    assert embedded.dtype == torch.float32
    np.testing.assert_allclose(embedded.numpy(), unit(by_hand(fed, 16)), rtol=0, atol=2e-5)


def test_a_euclidean_embedding_keeps_its_length(tmp_path: Path) -> None:
    recognizer = loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx"), metric="euclidean", mean=0, std=255))
    expected = by_hand(faces().astype(np.float32) / 255, 16)
    np.testing.assert_allclose(recognizer.embed(to_float(faces())).numpy(), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("side", [56, 160])
def test_another_size_is_a_bilinear_resize(tmp_path: Path, side: int) -> None:
    """Against Pillow's of floats."""
    file = write_onnx(tmp_path / "net.onnx", side=side)
    recognizer = loaded(write_card(tmp_path, file, size=[side, side], metric="euclidean", mean=0, std=255))
    channels = faces().astype(np.float32).reshape(-1, 112, 112) / 255
    resized = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BILINEAR)) for one in channels]
    expected = by_hand(np.stack(resized).reshape(-1, 3, side, side), 16)
    np.testing.assert_allclose(recognizer.embed(to_float(faces())).numpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("made", "batch"), [({}, 16), ({"batch": 1}, 1), ({"flat": (1, -1)}, 1), ({"flat": (-1, 16)}, 16)]
)
def test_batches_where_the_graph_takes_any_number_and_the_same_bytes_either_way(
    tmp_path: Path, made: dict[str, Any], batch: int
) -> None:
    """A graph that declares any number and flattens to one row means one."""
    recognizer = loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", **made)))
    images = to_float(np.concatenate([faces(), example_faces().load(range(16))]))
    assert recognizer._batch == batch
    together = recognizer.embed(images)
    alone = torch.cat([recognizer.embed(images[index : index + 1]) for index in range(len(images))])
    assert torch.equal(together, alone) and together.shape == (21, 16)
    assert recognizer.embed(images[:0]).shape == (0, 16)


def test_a_graph_of_several_outputs_is_asked_for_the_one_of_the_card(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "net.onnx", outputs=2)
    with pytest.raises(UserError, match="no output '', it has embedding, row"):
        loaded(write_card(tmp_path, file))
    recognizer = loaded(write_card(tmp_path, file, output="embedding", mean=0, std=255))
    expected = unit(by_hand(faces().astype(np.float32) / 255, 16))
    np.testing.assert_allclose(recognizer.embed(to_float(faces())).numpy(), expected, rtol=0, atol=2e-5)


def test_a_black_image_has_an_embedding(tmp_path: Path) -> None:
    """Of zeros here: `blackout` is a control that every recognizer meets."""
    recognizer = loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx"), mean=0, std=255))
    assert torch.equal(recognizer.embed(torch.zeros(1, 3, 112, 112)), torch.zeros(1, 16))


@pytest.mark.assets
def test_a_real_network_behind_a_card_is_the_built_in_one(tmp_path: Path) -> None:
    """faceplugin's file, and its surrogate, to the rounding of one subtraction."""
    file = MANIFEST["faceplugin"]
    card = write_card(tmp_path, asset_path("faceplugin"), file=str(file.path), sha256=file.sha256, label="real",
                      colour="bgr", mean=127, std=128, dimension=512)  # fmt: skip
    built_in, recognizer, images = load_recognizer("faceplugin"), loaded(card), to_float(faces())
    torch.testing.assert_close(recognizer.embed(images), built_in.embed(images), rtol=0, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(recognizer.differentiable()(images), built_in.embed(images), rtol=0, atol=1e-5)


# What is refused


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sha256": "0" * 64}, "its sha256 is .*, the card says 0000"),
        ({"sha256": "abc"}, "sha256: String should match"),
        ({"colour": "RGB"}, "colour: Input should be 'rgb' or 'bgr'"),
        ({"std": 0}, "std"),
        ({"size": 112}, "size"),
        ({"dimensions": 16}, "unknown key 'dimensions'. Did you mean 'dimension'"),
        ({"dimension": None}, "dimension: Field required"),
        ({"label": "My net"}, "label: String should match"),
        ({"label": "dlib_resnet"}, "'dlib_resnet' belongs to a built-in"),
        ({"file": "other.onnx"}, "cannot read .*other.onnx"),
    ],
)
def test_a_wrong_card_is_refused_before_the_file_is_loaded(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx"), **changes)
    with pytest.raises(UserError, match=said):
        recognizer_component(str(card))


@pytest.mark.parametrize(
    ("made", "changes", "said"),
    [
        ({}, {"dimension": 17}, r"expected one embedding \(1, 17\), got float32 \(1, 16\)"),
        ({}, {"size": [64, 64]}, r"cannot be run on float32 \(1, 3, 64, 64\)"),
        ({}, {"layout": "nhwc"}, r"cannot be run on float32 \(1, 112, 112, 3\)"),
        ({}, {"output": "features"}, "no output 'features', it has embedding"),
        ({"external": True}, {}, "keeps weights in another file"),
        ({}, {"format": "torchscript"}, "is no TorchScript"),
    ],
)
def test_a_file_that_is_not_what_its_card_says_is_refused(
    tmp_path: Path, made: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", **made), **changes))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    file.write_bytes(b"\x80not a graph")
    with pytest.raises(UserError, match="no ONNX graph that can be run"):
        loaded(write_card(tmp_path, file))


def test_a_file_that_changes_after_it_was_hashed_is_refused(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "net.onnx", seed=11)
    name = recognizer_component(str(write_card(tmp_path, file, label="fickle"))).name
    write_onnx(file, seed=12)
    with pytest.raises(UserError, match="has changed since"):
        load_recognizer(name)


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        ("nowhere.toml", "no recognizer card at nowhere.toml", "bring_a_recognizer"),
        ("deepfake:Dlib", "no adapter for 'deepfake'", "Did you mean 'deepface'"),
        ("mobilfacenet", "unknown recognizer", "Did you mean 'mobilefacenet'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(source: str, said: str, hint: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        recognizer_component(source)
    assert hint in caught.value.hint


# Identity


def test_whatever_decides_the_embeddings_is_in_the_name_and_nothing_else(tmp_path: Path) -> None:
    file, other = write_onnx(tmp_path / "a.onnx"), write_onnx(tmp_path / "b.onnx", seed=1)
    moved = tmp_path / "elsewhere" / "c.onnx"
    moved.parent.mkdir()
    moved.write_bytes(file.read_bytes())
    names = [
        recognizer_component(str(write_card(tmp_path, net, **changes))).name
        for net, changes in [
            (file, {}), (moved, {"file": str(moved), "title": "Renamed", "licence": "other"}),
            (other, {}), (file, {"mean": 0}), (file, {"colour": "bgr"}), (file, {"metric": "euclidean"}),
        ]
    ]  # fmt: skip
    assert names[0] == names[1] and len(set(names)) == 5
    assert all(name.startswith("made_") and len(name) == len("made_") + 32 for name in names)


def test_two_files_under_one_label_share_no_cached_embedding(tmp_path: Path) -> None:
    store, images = EmbeddingStore(tmp_path / "e.sqlite"), faces(3)
    answers = []
    for seed in (0, 1):
        component = recognizer_component(str(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", seed=seed))))
        answers.append(store.embed(component.name, load_recognizer(component.name), images))
        assert component.label == "made" and store.usage[component.name].embedded == 3
    assert not np.allclose(*answers)


def revision(value: str, version: int = 1) -> FaceDataset:
    """All that a plan asks of a data set."""
    made: Any = type("Made", (), {"version": version, "revision": value, "card": SimpleNamespace(real_people=False)})()
    return made


def plan(**changes: Any) -> Plan:
    return make_plan(load_suite("smoke").model_copy(update=changes), revision("r"))


def test_a_card_stands_wherever_a_recognizer_is_named(tmp_path: Path) -> None:
    card = str(write_card(tmp_path, write_onnx(tmp_path / "net.onnx")))
    suite = load_suite("smoke")
    linkage = next(entry for entry in suite.attack if entry.name == "linkage")
    mine = linkage.model_copy(update={"label": "mine", "recognizers": ("made",)})
    cells = plan(recognizers=("dlib_resnet", card), surrogate=card, attack=(*suite.attack, mine))
    name = recognizer_component(card).name
    assert cells.setting.surrogate == name and cells.setting.external == (card,)
    labels = {cell.recognizer.label for cell in cells.cells if cell.recognizer and not cell.adapted}
    assert labels == {"dlib_resnet", "made"}
    only = {cell.recognizer.name for cell in cells.cells if cell.attack == cells.attacks["mine"] and cell.recognizer}
    assert only == {name}


def test_another_file_under_the_same_card_is_another_set_of_records(tmp_path: Path) -> None:
    keys = []
    for seed in (0, 1, 0):
        card = str(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", seed=seed)))
        of = [cell for cell in plan(recognizers=("dlib_resnet", card), surrogate="").cells if cell.recognizer]
        keys.append({label: {c.key for c in of if c.recognizer and c.recognizer.label == label}
                     for label in ("dlib_resnet", "made")})  # fmt: skip
    assert keys[0]["dlib_resnet"] == keys[1]["dlib_resnet"]
    assert keys[0]["made"].isdisjoint(keys[1]["made"]) and keys[0] == keys[2]


def test_two_recognizers_of_one_label_are_refused(tmp_path: Path) -> None:
    cards = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        cards.append(str(write_card(folder, write_onnx(folder / "net.onnx", seed=seed))))
    with pytest.raises(UserError, match="two recognizers are labelled 'made'"):
        plan(recognizers=tuple(cards), surrogate="")


def test_built_in_recognizers_keep_the_keys_of_the_committed_records() -> None:
    """Every cell of the first and the last defenses of a suite; of one of earlier attacks, what has no defense."""
    store = ResultStore(ROOT / "results")
    recorded, of = store.statuses("quick"), next(store.records("quick"))
    whole = load_suite("quick")
    some = whole.model_copy(update={"defense": whole.defense[:2] + whole.defense[-2:]})
    cells = make_plan(some, revision(of.dataset_revision, of.dataset.version)).cells
    plan_file = store.plan("quick")
    assert plan_file is not None
    awaited = bool(changes_of(plan_file))  # Then all is released anew, and only clear images are what they were.
    kept = {cell.key for cell in cells if cell.kind == "canary" or not awaited}
    assert len(kept) > (2 if awaited else 10) and kept <= set(recorded)


# Surrogates


def test_an_onnx_file_can_be_a_surrogate(tmp_path: Path) -> None:
    recognizer = loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", flat=(1, -1)), colour="bgr"))
    network, images = recognizer.differentiable(), to_float(faces(3)).requires_grad_()
    answer = network(images)
    torch.testing.assert_close(answer.detach(), recognizer.embed(images.detach()), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(answer[1, 0], images)
    assert gradient[1].abs().sum() > 0 and gradient[0].abs().sum() == 0
    assert not any(p.requires_grad for p in network.parameters())


def test_a_graph_that_torch_cannot_hold_is_no_surrogate(tmp_path: Path) -> None:
    recognizer = loaded(write_card(tmp_path, write_onnx(tmp_path / "net.onnx", operation="Shrink")))
    with pytest.raises(Unavailable, match="onnx2torch cannot translate"):
        recognizer.differentiable()
    found = examine_recognizer(str(tmp_path / "made.toml"))
    assert found.findings == [] and found.facts["surrogate"] is False


# TorchScript


def torchscript(path: Path) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(3)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 7, stride=5), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(),
        torch.nn.Linear(32, 16),
    ).eval()  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.trace(network, torch.rand(1, 3, 112, 112)), path)
    return path, network


def test_a_torchscript_file_answers_as_the_module_it_was_made_of(tmp_path: Path) -> None:
    file, network = torchscript(tmp_path / "net.pt")
    recognizer = loaded(write_card(tmp_path, file, label="script", format="torchscript"))
    images = to_float(faces())
    with torch.no_grad():
        rows = [network((image[None] * 255 - 127.5) / 128) for image in images]
    expected = torch.nn.functional.normalize(torch.cat(rows), dim=1)
    torch.testing.assert_close(recognizer.embed(images), expected, rtol=0, atol=1e-6)
    assert torch.equal(recognizer.embed(images)[2:3], recognizer.embed(images[2:3]))
    again = recognizer.differentiable()(images.requires_grad_())
    torch.testing.assert_close(again.detach(), expected, rtol=0, atol=1e-5)
    assert torch.autograd.grad(again.sum(), images)[0].abs().sum() > 0


def test_torchscript_of_another_dimension_is_refused(tmp_path: Path) -> None:
    file, _ = torchscript(tmp_path / "net.pt")
    with pytest.raises(UserError, match=r"expected one embedding \(1, 15\)"):
        loaded(write_card(tmp_path, file, label="script", format="torchscript", dimension=15))


# The command line


def test_check_says_what_a_card_comes_to(tmp_path: Path) -> None:
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx"))
    done = CliRunner().invoke(app, ["check", str(card), "--json"])
    found = json.loads(done.stdout)
    assert done.exit_code == 0 and found["findings"] == [] and found["label"] == "made" and found["surrogate"] is True
    assert found["dimension"] == 16 and found["auc"] > 0.9


def test_check_finds_what_breaks_the_contract(tmp_path: Path) -> None:
    card = write_card(tmp_path, write_onnx(tmp_path / "net.onnx", operation="Log"))  # of negative numbers: NaN
    assert next(finding.code for finding in examine_recognizer(str(card)).findings) == "not_finite"


def test_list_says_of_each_whether_it_runs_here() -> None:
    done = CliRunner().invoke(app, ["list", "recognizers", "--json"])
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    built_in = {name for name, row in rows.items() if row["kind"] == "built in"}
    assert built_in == {"dlib_resnet", "faceplugin", "faceres", "mobileface", "mobilefacenet"}
    assert {"path/to/card.toml", "deepface:MODEL", "frbench:MODEL", "insightface:MODEL"} <= set(rows)
    assert all(row["runs_here"] or row["hint"] for row in rows.values())
    assert [name for name in sorted(built_in) if rows[name]["surrogate"]] == ["dlib_resnet", "faceplugin"]


def test_the_card_of_a_recognizer_brought_along_is_known_by_its_name(tmp_path: Path) -> None:
    component = recognizer_component(str(write_card(tmp_path, write_onnx(tmp_path / "net.onnx"), title="Ours")))
    assert recognizer_card(component.name).title == "Ours"
    assert isinstance(load_recognizer(component.name), Recognizer)


def elsewhere(name: str) -> Any:
    """Weights (3, 16) that lie in a file of their own."""
    found = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[3, 16])
    found.data_location = onnx.TensorProto.EXTERNAL
    found.external_data.add(key="location", value="weights.bin")
    return found


def in_a_constant() -> list[Any]:
    return [
        onnx.helper.make_node("Constant", [], ["w"], value=elsewhere("w")),
        onnx.helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]


def in_a_branch() -> list[Any]:
    answer = [onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["n", 16])]
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["f", "w"], ["z"])], "branch", [], answer, [elsewhere("w")]
    )
    yes = onnx.helper.make_tensor("yes", onnx.TensorProto.BOOL, [], [True])
    return [
        onnx.helper.make_node("Constant", [], ["c"], value=yes),
        onnx.helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
    ]


@pytest.mark.parametrize("nodes", [in_a_constant, in_a_branch])
def test_no_weights_lie_in_a_file_that_the_hash_does_not_cover(tmp_path: Path, nodes: Any) -> None:
    image, answer = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["n", 3, 112, 112]), ("y", ["n", 16]))
    )
    before = [onnx.helper.make_node("GlobalAveragePool", ["x"], ["p"]), onnx.helper.make_node("Flatten", ["p"], ["f"])]
    graph = onnx.helper.make_graph([*before, *nodes()], "made", [image], [answer])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    (tmp_path / "made.onnx").write_bytes(model.SerializeToString())
    np.zeros((3, 16), np.float32).tofile(tmp_path / "weights.bin")
    with pytest.raises(UserError, match=r"keeps weights in another file, which its hash does not cover \(w\)"):
        loaded(write_card(tmp_path, tmp_path / "made.onnx"))
