"""functions.model and functions.package: what a package promises is what the graph does, or it is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eventing.errors import Misconfigured, Rejected
from functions import package
from functions.model import Manifest, Model, Signature, TensorSpec, nearly_equal, open_session, write_sums
from tests.functions import packages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return packages.build_package(tmp_path)


def _edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_the_telemetry_of_onnxruntime_is_off_before_it_is_imported() -> None:
    """In a fresh interpreter, a hook sees the variable at the moment onnxruntime is first looked for."""
    code = (
        "import os, sys\n"
        "class Hook:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'onnxruntime': sys.stdout.write(os.environ.get('ORT_DISABLE_TELEMETRY', 'unset'))\n"
        "sys.meta_path.insert(0, Hook())\n"
        "import functions.model\n"
    )
    environ = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == "1"


def test_a_package_answers_as_the_pipeline_it_was_made_of(folder: Path) -> None:
    data, _ = packages.frame()
    rows = data.astype(object).where(data.notna(), None).to_dict("records")
    answers = Model.load(folder).infer(packages.arrays(rows))
    fitted = packages.pipeline()
    assert answers["label"].tolist() == fitted.predict(data).tolist()
    np.testing.assert_allclose(answers["probabilities"], fitted.predict_proba(data), atol=1e-5)


def test_only_the_outputs_asked_for_are_given(folder: Path) -> None:
    assert list(Model.load(folder).infer(packages.arrays(packages.ROWS), ["label"])) == ["label"]


def test_inputs_that_do_not_fit_the_graph_are_rejected(folder: Path) -> None:
    inputs = packages.arrays(packages.ROWS)
    with pytest.raises(Rejected, match="do not fit"):
        Model.load(folder).infer(inputs | {"delay": inputs["delay"].astype(np.float64)})


def test_a_missing_input_is_rejected(folder: Path) -> None:
    with pytest.raises(Rejected, match="carrier"):
        Model.load(folder).infer({n: a for n, a in packages.arrays(packages.ROWS).items() if n != "carrier"})


def test_the_self_test_passes_for_what_was_published(folder: Path) -> None:
    Model.load(folder).self_test()


def test_the_self_test_names_the_row_that_differs(folder: Path) -> None:
    sample = json.loads((folder / "sample.json").read_text())
    sample["requests"][3]["outputs"]["label"] = 1 - sample["requests"][3]["outputs"]["label"]
    (folder / "sample.json").write_text(json.dumps(sample))
    with pytest.raises(Rejected, match="request 3 gives label"):
        Model.load(folder).self_test()


def test_the_self_test_bears_the_last_digit_of_a_float(folder: Path) -> None:
    sample = json.loads((folder / "sample.json").read_text())
    for request in sample["requests"]:
        request["outputs"]["probabilities"] = [p + 1e-7 for p in request["outputs"]["probabilities"]]
    (folder / "sample.json").write_text(json.dumps(sample))
    Model.load(folder).self_test()


@pytest.mark.parametrize(
    ("dtype", "given", "promised", "equal"),
    [
        (np.float32, 0.1, 0.1, True),
        (np.float32, 0.1, 0.10002, False),
        (np.float64, 0.1, 0.1 + 1e-7, True),
        (np.float16, 0.1, 0.1, True),  # which is 0.09998 as a half
        (np.float16, 100.0, 100.1, True),
        (np.float16, 100.0, 101.0, False),
        (np.float16, 60000.0, 70000.0, False),
        (np.float32, np.nan, np.nan, True),
        (np.float32, np.inf, -np.inf, False),
        (np.int64, 1, 1, True),
        (np.bool_, True, True, True),
    ],
)
def test_answers_are_compared_to_the_last_digits_of_their_own_type(
    dtype: type, given: float, promised: float, equal: bool
) -> None:
    assert nearly_equal(np.array([given], dtype), [promised]) is equal


def test_a_package_without_its_sample_is_rejected(folder: Path) -> None:
    (folder / "sample.json").unlink()
    with pytest.raises(Rejected, match=r"sample\.json is missing"):
        Model.load(folder)


def test_a_foreign_model_takes_its_signature_from_the_graph(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(packages.onnx_bytes())
    model = Model.load(tmp_path)
    assert model.manifest is None
    assert model.signature.differences(packages.SIGNATURE) == []


@pytest.mark.parametrize(
    "content", [b"", b"no model at all", packages.onnx_bytes()[:500]], ids=["empty", "text", "cut"]
)
def test_what_is_no_whole_onnx_model_is_rejected(content: bytes) -> None:
    with pytest.raises(Rejected, match="not a servable ONNX model"):
        Model.from_onnx(content)


def test_a_package_without_a_graph_is_rejected(folder: Path) -> None:
    (folder / "model.onnx").unlink()
    with pytest.raises(Rejected, match=r"no model\.onnx"):
        Model.load(folder)


def test_every_difference_between_signature_and_graph_is_named(folder: Path) -> None:
    signature = packages.SIGNATURE.to_json()
    signature["inputs"][0]["name"] = "miles"
    signature["inputs"][1] |= {"datatype": "FP64", "onnx_type": "tensor(double)"}
    signature["outputs"][1]["shape"] = [-1, 3]
    _edit(folder / "model.json", signature=signature)
    with pytest.raises(Rejected) as caught:
        Model.load(folder)
    for part in (
        "input 'miles' is not in the graph",
        "'distance' is not in the signature",
        "'delay' is FP64",
        "[-1, 3]",
    ):
        assert part in str(caught.value)


def test_a_signature_in_another_order_is_no_agreement() -> None:
    turned = Signature(packages.SIGNATURE.inputs[::-1], packages.SIGNATURE.outputs, packages.SIGNATURE.classes)
    assert "order" in turned.differences(packages.SIGNATURE)[0]


def test_an_output_that_is_no_tensor_is_rejected() -> None:
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(1)
    features = rng.normal(size=(20, 2)).astype(np.float32)
    fitted = LogisticRegression().fit(features, features[:, 0] > 0)
    with pytest.raises(Rejected, match="without ZipMap"):
        Model.from_onnx(to_onnx(fitted, features[:1]).SerializeToString())


def test_a_manifest_survives_its_json() -> None:
    manifest = packages.manifest(parent=packages.VERSION)
    assert Manifest.from_json(json.loads(json.dumps(manifest.to_json()))) == manifest


def test_a_manifest_names_every_fault_at_once() -> None:
    value = packages.manifest().to_json()
    del value["seed"]
    value["opset"] = "18"
    value["parity"] = {"rows": 3}
    value["signature"]["inputs"][0]["shape"] = ["?", 1]
    value["created"] = "yesterday"
    value["scores"]["accuracy"] = "good"
    with pytest.raises(Rejected) as caught:
        Manifest.from_json(value)
    named = " ".join(caught.value.faults)
    for part in (
        "seed is missing",
        "opset is '18'",
        "parity.tolerance",
        "inputs[0].shape",
        "created",
        "scores.accuracy",
    ):
        assert part in named


@pytest.mark.parametrize("value", [None, [], "text", {}], ids=str)
def test_what_is_no_manifest_is_rejected(value: object) -> None:
    with pytest.raises(Rejected):
        Manifest.from_json(value)


def test_a_tensor_spec_leaves_out_what_is_not_known() -> None:
    assert TensorSpec("x", "FP32", "tensor(float)", (-1, 1)).to_json() == {
        "name": "x", "datatype": "FP32", "onnx_type": "tensor(float)", "shape": [-1, 1],
    }  # fmt: skip


def test_every_input_that_is_missing_is_named(folder: Path) -> None:
    """onnxruntime's own run would go on without them."""
    with pytest.raises(Rejected, match=r"\['carrier', 'delay'\] are missing"):
        Model.load(folder).infer({"distance": np.zeros((1, 1), np.float32)})


def test_no_outputs_and_unknown_ones_are_rejected(folder: Path) -> None:
    for outputs in ([], ["unknown"]):
        with pytest.raises(Rejected, match="do not fit"):
            Model.load(folder).infer(packages.arrays(packages.ROWS), outputs)


def test_the_samples_inputs_are_rows_as_the_model_takes_them(folder: Path) -> None:
    model = Model.load(folder)
    rows = model.sample_inputs()
    together = model.infer({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})
    assert [answer["label"] for answer in (s["outputs"] for s in model.samples)] == together["label"].tolist()


@pytest.mark.parametrize("providers", [("NopeExecutionProvider",), ("CPUExecutionProvider", "Nope"), ()], ids=str)
def test_a_provider_that_is_not_here_is_refused_with_those_that_are(folder: Path, providers: tuple[str, ...]) -> None:
    with pytest.raises(Misconfigured, match=r"HEADRACE_PROVIDERS is .*; expected some of .*CPUExecutionProvider"):
        Model.load(folder, providers=providers)


def test_the_providers_asked_for_run_the_graph(folder: Path) -> None:
    assert open_session(folder / "model.onnx", providers=["CPUExecutionProvider"]).get_providers() == [
        "CPUExecutionProvider"
    ]


def test_a_session_uses_the_threads_it_is_given(folder: Path) -> None:
    assert open_session(folder / "model.onnx", threads=2).get_session_options().intra_op_num_threads == 2


def test_the_sums_are_those_of_sha256sum(folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)


def test_verification_names_every_file_that_differs(folder: Path) -> None:
    (folder / "model.json").write_text("{}")
    (folder / "sample.json").write_text("{}")
    (folder / "stranger.txt").write_text("hello")
    with pytest.raises(Rejected) as caught:
        package.verify(folder)
    for name in ("model.json has digest", "sample.json has digest", "stranger.txt is not listed"):
        assert name in str(caught.value)


@pytest.mark.parametrize("line", ["short  model.onnx", "0" * 64 + "  ../model.onnx", "0" * 64 + " model.onnx"])
def test_sums_of_another_form_are_rejected(line: str) -> None:
    with pytest.raises(Rejected, match="line 1"):
        package.read_sums(line.encode())


def test_the_same_files_have_the_same_digest(tmp_path: Path) -> None:
    first = packages.build_package(tmp_path / "a")
    second = packages.build_package(tmp_path / "b")
    assert write_sums(first) == write_sums(second)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is asked in glibc's way")
def test_what_reading_a_large_graph_took_is_given_back_to_the_system(tmp_path: Path) -> None:
    """A process of its own loads a forest; asking the C library once more brings next to nothing."""
    (tmp_path / "model.onnx").write_bytes(packages.large_forest())
    code = (
        "import ctypes, sys\n"
        "from pathlib import Path\n"
        "from functions.model import open_session\n"
        "def resident(): return int(Path('/proc/self/statm').read_text().split()[1])\n"
        "session = open_session(Path(sys.argv[1]))\n"
        "loaded = resident()\n"
        "trim = getattr(ctypes.CDLL(None), 'malloc_trim', lambda _: 0)\n"
        "trim(0)\n"
        "sys.stdout.write(str(resident() / loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.onnx")], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) > 0.95
