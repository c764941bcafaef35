"""Whole ONNX files: of exporters of every age, with what they leave open, and what is no sound file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgectl.errors import ModelError, UsageError
from edgectl.frontends.onnx import from_onnx_file
from edgectl.graph import Model
from edgectl.interpreter import interpret
from edgectl.loading import load

onnx = pytest.importorskip("onnx", reason="onnx is not installed (extra `onnx`)")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

FLOAT, INTEGER = TensorProto.FLOAT, TensorProto.INT64
RANDOM = np.random.default_rng(1)


def array(name: str, *shape: int) -> Any:
    """Always the same numbers for the same name."""
    generator = np.random.default_rng(list(name.encode()))
    return numpy_helper.from_array(generator.normal(0.6, 0.5, shape).astype(np.float32), name)


def integers(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def network(opset: int = 17, batch: int | str = "batch", size: int | str = 9, ceil: bool = True) -> Any:
    """A network in the small with what exporters write: computed shapes, separate padding, folded constants."""
    node = helper.make_node
    # Attributes became operands.
    pads = (["pads"], {}) if opset >= 11 else ([], {"pads": [0, 0, 1, 0, 0, 0, 2, 1]})
    limits = (["zero", "six"], {}) if opset >= 11 else ([], {"min": 0.0, "max": 6.0})
    axes = (["axis"], {}) if opset >= 13 else ([], {"axes": [0]})
    pool = {"ceil_mode": 1} if ceil else {}
    nodes = [
        node("Pad", ["image", *pads[0]], ["padded"], **pads[1]),
        node("Conv", ["padded", "w1", "b1"], ["c1"], "first", strides=[2, 2], kernel_shape=[3, 3]),
        node("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"], "norm", epsilon=1e-3),
        node("Clip", ["n1", *limits[0]], ["r1"], **limits[1]),
        node("Conv", ["r1", "w2"], ["c2"], "second", group=8, auto_pad="SAME_UPPER", kernel_shape=[3, 3]),
        node("Identity", ["c2"], ["same"]),
        node("Add", ["same", "r1"], ["sum"], "add"),
        node("AveragePool", ["sum"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2], **pool),
        node("GlobalAveragePool", ["pooled"], ["mean"]),
        node("Shape", ["mean"], ["shape"]),
        node("Gather", ["shape", "first_index"], ["n"], axis=0),
        node("Unsqueeze", ["n", *axes[0]], ["n1d"], **axes[1]),
        node("Concat", ["n1d", "minus"], ["target"], axis=0),
        node("Reshape", ["mean", "target"], ["flat"]),
        node("Transpose", ["w3"], ["w3t"], perm=[1, 0]),
        node("MatMul", ["flat", "w3t"], ["product"], "product"),
        node("Add", ["b3", "product"], ["scores"], "bias"),
    ]  # fmt: skip
    stored = [
        array("w1", 8, 3, 3, 3), array("b1", 8), array("g", 8), array("b", 8), array("m", 8), array("w2", 8, 1, 3, 3),
        numpy_helper.from_array(np.linspace(0.5, 2, 8, dtype=np.float32), "v"), array("w3", 5, 8), array("b3", 5),
        numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.float32(6), "six"),
        numpy_helper.from_array(np.int64(0), "first_index"), integers("axis", 0), integers("minus", -1),
        integers("pads", 0, 0, 1, 0, 0, 0, 2, 1),
    ]  # fmt: skip
    image = helper.make_tensor_value_info("image", FLOAT, [batch, 3, size, size])
    scores = helper.make_tensor_value_info("scores", FLOAT, [batch, 5])
    graph = helper.make_graph(nodes, "net", [image], [scores], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(tmp_path: Path, proto: Any, **options: Any) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(proto, path, **options)
    return path


def check(model: Model, proto: Any) -> None:
    """The same scores as ONNX's reference implementation."""
    shapes = {name: kind.shape for name, kind in model.inputs.items()}
    inputs = {name: RANDOM.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    expected = ReferenceEvaluator(proto).run(None, inputs)
    for name, values in zip((output.name for output in proto.graph.output), expected, strict=True):
        np.testing.assert_allclose(interpret(model, inputs)[name], values, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 17, 21])
def test_files_of_every_age(tmp_path: Path, opset: int) -> None:
    ceil = opset >= 10
    model, report = load(saved(tmp_path, network(opset, ceil=ceil)))
    assert (report.kind, model.name, model.outputs) == ("checkpoint", "net", ("scores",))
    assert model.inputs["image"].shape == (1, 3, 9, 9)
    # ONNX's own evaluator of old versions normalises by the batch's statistics, which only training does.
    check(model, network(17, ceil=ceil))


def test_names_are_the_files(tmp_path: Path) -> None:
    model = from_onnx_file(saved(tmp_path, network()))
    labels = [node.label for node in model.nodes]
    assert labels == ["first", "norm", "r1", "second", "add", "pool", "mean", "flat", "product", "bias"]
    assert {"w1", "b1", "g", "b", "m", "v", "w2", "w3", "b3"} <= model.parameters.keys()
    first = model.nodes[0].operator.attributes()
    assert first["padding"] == (1, 0, 2, 1), "the padding is the convolution's"
    types = model.types()
    assert types[model.nodes[3].name].shape == types["r1"].shape, "SAME keeps the size"


def test_weights_that_are_inputs_too(tmp_path: Path) -> None:
    """Files before version 4 of the format declare every stored array as an input."""
    proto = network(17)
    proto.ir_version = 3
    for stored in proto.graph.initializer:
        proto.graph.input.append(helper.make_tensor_value_info(stored.name, stored.data_type, stored.dims))
    model = from_onnx_file(saved(tmp_path, proto))
    assert list(model.inputs) == ["image"]
    check(model, proto)


def test_external_data(tmp_path: Path) -> None:
    proto = network()
    path = saved(tmp_path, proto, save_as_external_data=True, location="net.data", size_threshold=0)
    check(from_onnx_file(path), onnx.load(path))
    (tmp_path / "net.data").write_bytes((tmp_path / "net.data").read_bytes()[:100])
    with pytest.raises(ModelError, match=r"net\.onnx is damaged"):
        from_onnx_file(path)
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelError, match=r"net\.(onnx|data)"):
        from_onnx_file(path)


def test_external_data_elsewhere_is_not_read(tmp_path: Path) -> None:
    proto = network()
    path = saved(tmp_path, proto, save_as_external_data=True, location="net.data", size_threshold=0)
    proto = onnx.load(path, load_external_data=False)
    (tmp_path / "net.data").rename(tmp_path.parent / "net.data")
    for stored in proto.graph.initializer:
        for entry in stored.external_data:
            if entry.key == "location":
                entry.value = "../net.data"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError):
        from_onnx_file(path)


def test_what_a_file_leaves_open(tmp_path: Path) -> None:
    path = saved(tmp_path, network(size="size"))
    with pytest.raises(ModelError, match=r"leaves the shape of input 'image' open, \[\?, 3, \?, \?\]"):
        load(path)
    assert load(path, input_shapes=(1, 3, 12, 12))[0].inputs["image"].shape == (1, 3, 12, 12)
    with pytest.raises(ModelError, match=r"given shape \[1, 4, 12, 12\], the model declares \[\?, 3, \?, \?\]"):
        load(path, input_shapes=(1, 4, 12, 12))
    with pytest.raises(ModelError, match="no input 'picture'; its inputs are"):
        load(saved(tmp_path, network()), input_shapes={"picture": (1, 3, 9, 9)})
    fixed = load(saved(tmp_path, network(batch=4)), input_shapes=(1, 3, 9, 9))[0]
    assert fixed.inputs["image"].shape == (4, 3, 9, 9)
    assert fixed.with_batch(2).types()["scores"].shape == (2, 5)


def small(nodes: list[Any], opset: int = 17, stored: tuple[Any, ...] = ()) -> Any:
    x = helper.make_tensor_value_info("x", FLOAT, (2, 3, 6, 6))
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], FLOAT, None)]
    graph = helper.make_graph(nodes, "small", [x], outputs, list(stored))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


GEMM = {"alpha": 0.5, "beta": 2.0}
CEIL = {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1, "pads": [1, 0, 0, 1]}
HALF = {"value": numpy_helper.from_array(np.array([0.5], np.float32))}


@pytest.mark.parametrize(
    ("nodes", "opset", "stored"),
    [
        ([("ReduceMean", ["x"], {"axes": [2, 3], "keepdims": 0})], 13, ()),
        ([("ReduceMean", ["x", "axes"], {})], 18, (integers("axes", -1, -2),)),
        ([("ReduceMax", ["x"], {"axes": [2, 3]})], 13, ()),
        ([("PRelu", ["x", "s"], {})], 16, (array("s", 3, 1, 1),)),
        ([("PRelu", ["x", "s"], {})], 16, (array("s", 1),)),
        ([("Mul", ["x", "s"], {}), ("Sub", ["s", "y0"], {})], 14, (array("s", 1, 3, 1, 1),)),
        ([("Div", ["x", "s"], {}), ("Max", ["y0", "zero"], {})], 13, (array("s", 3, 1, 1), array("zero", 1))),
        ([("Softmax", ["x"], {"axis": 2})], 13, ()),
        ([("Split", ["x"], {"axis": 1, "split": [1, 2]})], 11, ()),
        ([("Gather", ["x", "i"], {"axis": 2})], 13, (numpy_helper.from_array(np.int64(-2), "i"),)),
        ([("Slice", ["x"], {"axes": [2, 3], "starts": [1, 0], "ends": [9999, -1]})], 9, ()),
        ([("Flatten", ["x"], {}), ("Gemm", ["y0", "w", "c"], GEMM)], 13, (array("w", 108, 4), array("c", 1, 4))),
        ([("AveragePool", ["x"], {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER", "strides": [2, 2]})], 19, ()),
        ([("MaxPool", ["x"], CEIL)], 12, ()),
        ([("Dropout", ["x"], {}), ("Cast", ["y0"], {"to": 1}), ("Relu", ["y1"], {})], 13, ()),
        ([("Constant", [], {"value_float": 2.5}), ("Mul", ["x", "y0"], {})], 13, ()),
        ([("ConstantOfShape", ["s"], HALF), ("Add", ["x", "y0"], {})], 13, (integers("s", 3, 1, 1),)),
    ],
)  # fmt: skip
def test_operators_in_small_networks(tmp_path: Path, nodes: list[Any], opset: int, stored: tuple[Any, ...]) -> None:
    made = [helper.make_node(kind, inputs, [f"y{place}"], **extra) for place, (kind, inputs, extra) in enumerate(nodes)]
    if made[-1].op_type == "Split":
        made[-1].output.append("rest")
    proto = small(made, opset, stored)
    check(from_onnx_file(saved(tmp_path, proto)), proto)


def test_softmax_of_old_versions_is_over_all_axes_from_one_on(tmp_path: Path) -> None:
    """ONNX's own evaluator takes it as of version 13."""
    model = from_onnx_file(saved(tmp_path, small([helper.make_node("Softmax", ["x"], ["y"])], 11)))
    x = RANDOM.normal(0, 1, (2, 3, 6, 6)).astype(np.float32)
    exponentials = np.exp(x.astype(np.float64))
    expected = exponentials / exponentials.sum(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(interpret(model, {"x": x})["y"], expected, rtol=1e-5)


def test_quantized_weights_are_computed(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(RANDOM.integers(-99, 99, (4, 3, 1, 1)).astype(np.int8), "q")
    scale, zero = numpy_helper.from_array(np.float32(0.02), "s"), numpy_helper.from_array(np.int8(3), "z")
    nodes = [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    for opset in (13, 21):
        # The reference knows the operator from version 19 on.
        model = from_onnx_file(saved(tmp_path, small(nodes, opset, (weight, scale, zero))))
        check(model, small(nodes, 21, (weight, scale, zero)))


def test_quantized_values_are_refused(tmp_path: Path) -> None:
    scale, zero = numpy_helper.from_array(np.float32(0.02), "s"), numpy_helper.from_array(np.int8(3), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["n"], "quant"),
        helper.make_node("DequantizeLinear", ["n", "s", "z"], ["m"], "dequant"),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    with pytest.raises(ModelError) as caught:
        from_onnx_file(saved(tmp_path, small(nodes, stored=(scale, zero))))
    assert "'QuantizeLinear' is not supported (layer quant)" in str(caught.value)
    assert "'DequantizeLinear' is not supported (layer dequant)" in str(caught.value)
    assert "give the network in floating point" in str(caught.value)


def test_all_that_is_not_supported_is_told_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], "det one"),
        helper.make_node("Conv", ["a", "w"], ["b"], "conv"),
        helper.make_node("Det", ["b"], ["c"], "det two"),
        helper.make_node("MaxPool", ["x"], ["d"], "pool", kernel_shape=[2, 2], dilations=[2, 2]),
        helper.make_node("Special", ["c", "d"], ["e"], "special", domain="com.example"),
    ]
    proto = small(nodes, stored=(array("w", 3, 3, 1, 1),))
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    path = saved(tmp_path, proto)
    with pytest.raises(ModelError) as caught:
        from_onnx_file(path)
    assert str(caught.value).splitlines() == [
        f"{path}: 3 problems",
        "  operator 'Det' is not supported (layer det one, det two)",
        "  operator 'com.example.Special' is not supported (layer special)",
        "  operator 'MaxPool' of layer 'pool': a dilation of (2, 2) is not supported",
    ]


def test_versions_out_of_range(tmp_path: Path) -> None:
    for version in (6, 999):
        proto = network()
        proto.opset_import[0].version = version
        with pytest.raises(ModelError, match=f"uses version {version} of ONNX's operators, supported are 7 to"):
            from_onnx_file(saved(tmp_path, proto))


def test_weights_of_other_kinds(tmp_path: Path) -> None:
    path = saved(tmp_path, network())
    assert load(path, "random", seed=1)[1].kind == "random"
    with pytest.raises(UsageError, match="which has its own"):
        load(path, "pretrained")


@pytest.mark.parametrize("content", [b"", b"\x08\x07", b"nonsense" * 10, b"\0" * 1000, b"PK\x03\x04"])
def test_what_is_no_onnx_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.onnx is damaged or no ONNX file"):
        load(tmp_path / "net.onnx")
    with pytest.raises(ModelError, match=r"cannot read .*nowhere\.onnx: No such file"):
        load(tmp_path / "nowhere.onnx")


@settings(max_examples=80)
@given(data=st.data())
def test_damaged_files(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Cut or with a flipped bit: an error of ours, or a model whose types fit."""
    content = bytearray(network().SerializeToString())
    offset = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[offset] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[offset:]
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(content)
    try:
        model = from_onnx_file(path, (1, 3, 9, 9))
    except ModelError:
        return
    model.types()


@pytest.mark.torch
@pytest.mark.parametrize("opset", [9, 11, 13, 17])
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "mobilenet, hardswish", "inception", "squeezenet", "shuffle"])
def test_what_pytorch_exports(tmp_path: Path, name: str, opset: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra `torch`)")
    from tests.edgectl.frontends.test_torch import check as check_with_torch
    from tests.edgectl.frontends.test_torch import made

    module, shapes = made(name)
    example = tuple(torch.randn(shape) for shape in shapes.values())
    torch.onnx.export(
        module, example, tmp_path / "net.onnx", opset_version=opset, dynamo=False, input_names=["image"],
        dynamic_axes={"image": {0: "batch"}},
    )  # fmt: skip
    check_with_torch(from_onnx_file(tmp_path / "net.onnx"), module)
