"""What `edgectl run` does and shows: on a board, or on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.bundle import read_bundle
from edgectl.boards.board import LLVM, PIXELS, Board, best_classes
from edgectl.cli.options import cache_unless, source_or_bundle
from edgectl.cli.report import show_top
from edgectl.cli.terminal import banner, milliseconds, notices, output, print_json, stages, waiting
from edgectl.errors import UsageError
from edgectl.files import atomic_file
from edgectl.images import DEFAULT_IMAGE
from edgectl.local import LocalModel, build_source, check_target
from edgectl.measuring import random_weights_banner, takes_photographs
from edgectl.named_inputs import named_files, read_inputs
from edgectl.sources import Source
from edgectl.tensors import is_tensor_file


def run_live(image: str, board: str, wait: float | None, top: int, as_json: bool) -> None:
    """Classify `image` (empty: the cat) with what is live on `board`, after at most `wait` seconds for its lease."""
    path = image or str(DEFAULT_IMAGE)
    with Board(board, start=False) as opened, opened.leased("run", wait, waiting):
        manifest = opened.connection.manifest()
        prediction = opened.run(path, top)
    batch = manifest["inputs"][0]["shape"][0]
    reply = prediction.reply
    banner(random_weights_banner(manifest))
    if as_json:
        print_json(
            {
                "model": manifest["model"]["name"],
                "image": path,
                "preprocessing": manifest["preprocessing"],
                "top": [asdict(score) for score in prediction.top],
                "latency": {"per_sample_ms": reply.seconds * 1e3 / batch, "vta_ms": reply.vta_seconds * 1e3 / batch},
                "predicted_cycles": manifest["predicted"]["vta_cycles"],
                "counters": dict(reply.counters),
            }
        )
        return
    show_top(path, prediction.top)
    output().print(
        f"[dim]{manifest['model']['name']}: {milliseconds(reply.seconds * 1e3 / batch)} per sample, of it VTA "
        f"{milliseconds(reply.vta_seconds * 1e3 / batch)}[/dim]"
    )
    _show_preprocessing(manifest)


def run_local(model: str, given: Sequence[str], options: Mapping[str, Any], top: int, as_json: bool) -> None:
    """Compile `model` for this machine (or take a bundle), and run it on the inputs `given` as `--input` takes them.
    `options` are the verb's other ones, by name."""
    target = options["target"] or LLVM
    check_target(target)
    keep = Path(options["output"]) if options["output"] else None
    if keep is not None and keep.suffix not in (".npy", ".npz"):
        raise UsageError(f"--output {keep}: results are kept as .npy (the first) or .npz (all); name one so")
    names = ("weights", "calibration", "shape", "mean", "std", "labels", "seed")
    source = source_or_bundle(model, **{name: options[name] for name in names})
    said: tuple[str, ...] = ()
    warning = ""
    with stages() as progress:
        if isinstance(source, str):
            if options["softmax"] or options["int8"] or options["output-layer"]:
                raise UsageError(f"{source} is compiled already: --softmax, --int8 and --output-layer need the model")
            bundle: bytes | str = source
        else:
            edits = {"softmax": options["softmax"], "layer": options["output-layer"], "int8": options["int8"]}
            edits["target"] = target
            cache = cache_unless(options["no-cache"])
            bundle, prepared = build_source(source, **edits, stages=progress, cache=cache)
            said, warning = prepared.notices, prepared.weights.banner
        with progress.stage("run"), LocalModel.open(bundle) as loaded:
            manifest = loaded.manifest
            files = _files(manifest, given)
            inputs = read_inputs(manifest, files)
            # The first run also reads the weights from disk.
            loaded.infer(inputs)
            inference = loaded.infer(inputs)
    results = {spec["name"]: inference.outputs[spec["name"]] for spec in manifest["outputs"]}
    if keep is not None:
        _keep(results, keep)
    notices(said)
    banner(warning or random_weights_banner(manifest))
    first = next(iter(results.values()))
    classes = first.ndim > 1 and first[0].size == max(first.shape[1:]) and not options["output-layer"]
    scores = best_classes(first, manifest["labels"], top) if classes else ()
    batch = manifest["inputs"][0]["shape"][0]
    photographs = [path for path in files.values() if not is_tensor_file(path)]
    if as_json:
        print_json(
            {
                "model": manifest["model"]["name"],
                "target": manifest["board"],
                "computed_in": manifest["model"].get("computed_in", "int8"),
                "inputs": files,
                "preprocessing": manifest["preprocessing"] if photographs else None,
                "top": [asdict(score) for score in scores],
                "outputs": {name: _statistics(array) for name, array in results.items()},
                "latency": {"per_sample_ms": inference.seconds * 1e3 / batch},
                **({"output": str(keep)} if keep else {}),
            }
        )
        return
    if scores:
        show_top(", ".join(files.values()), scores)
    for name, array in () if scores else results.items():
        found = _statistics(array)
        shape = ", ".join(map(str, found["shape"]))
        numbers = ", ".join(f"{key} {found[key]:.6g}" for key in ("minimum", "maximum", "mean"))
        output().print(f"{name}: {found['dtype']}[{shape}], {numbers}", markup=False, soft_wrap=True)
    if keep is not None:
        output().print(f"kept in {keep}", markup=False)
    cpu, computed = manifest["cpu"]["name"], manifest["model"].get("computed_in", "int8")
    output().print(
        f"[dim]{manifest['model']['name']}: {milliseconds(inference.seconds * 1e3 / batch)} per sample on this machine "
        f"({cpu}, {computed})[/dim]"
    )
    if photographs:
        _show_preprocessing(manifest)


def compile_for_host(
    source: Source, path: str, softmax: bool, int8: bool, cached: bool, as_json: bool, target: str
) -> None:
    """Compile for this machine, to a bundle in the file `path` (default: MODEL.bundle)."""
    with stages() as progress:
        cache = cache_unless(not cached)
        data, prepared = build_source(source, softmax, int8=int8, stages=progress, cache=cache, target=target)
    bundle = read_bundle(data)
    name, cpu = bundle.manifest["model"]["name"], bundle.manifest["cpu"]["name"]
    kept = Path(path or f"{name}.bundle")
    with atomic_file(kept) as file:
        file.write(data)
    notices(prepared.notices)
    banner(prepared.weights.banner)
    computed = bundle.manifest["model"]["computed_in"]
    if as_json:
        print_json(
            {
                "model": name,
                "weights": {**bundle.manifest["model"]["weights"], "banner": prepared.weights.banner},
                "target": target,
                "computed_in": computed,
                "cpu": cpu,
                "output": str(kept),
                "bundle": {"digest": bundle.digest, "bytes": len(data)},
                "timings": progress.seconds,
            }
        )
        return
    output().print(
        f"{kept}: {name} for this machine ({cpu}, {computed}), {len(data) / 1e6:.1f} MB, "
        f"digest {bundle.digest[:12]}, in {sum(progress.seconds.values()):.1f} s\n"
        f"run it with: edgectl run {kept} --local",
        markup=False,
        soft_wrap=True,
    )


def _files(manifest: Mapping[str, Any], given: Sequence[str]) -> dict[str, str]:
    if not given and takes_photographs(manifest):
        given = [str(DEFAULT_IMAGE)]
    return named_files(given, [spec["name"] for spec in manifest["inputs"]])


def _keep(results: Mapping[str, np.ndarray], path: Path) -> None:
    with atomic_file(path) as file:
        if path.suffix == ".npz":
            np.savez(file, **dict(results))  # type: ignore[arg-type]
        else:
            np.save(file, next(iter(results.values())), allow_pickle=False)


def _statistics(array: np.ndarray) -> dict[str, Any]:
    numbers = {"minimum": array.min(), "maximum": array.max(), "mean": array.mean(dtype=np.float64)}
    return {
        "shape": list(array.shape),
        "dtype": array.dtype.name,
        **{name: float(value) for name, value in numbers.items()},
    }


def _show_preprocessing(manifest: Mapping[str, Any]) -> None:
    """How a photograph became the input: a wrong channel order, for example, shows here."""
    if how := manifest["preprocessing"]:
        where = "normalised on the board: " if manifest["inputs"][0]["dtype"] == PIXELS else ""
        size = f"short side {how['resize']}" if how["resize"] else "stretched"
        output().print(
            f"[dim]input: {size}, crop {how['crop'][0]}x{how['crop'][1]}, {how['channel_order']}, "
            f"{where}mean {tuple(how['mean'])}, std {tuple(how['std'])}[/dim]"
        )
