"""What `deploy` does: from a model's name to measured answers on a board."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace

from edge_agent.boards import BoardProfile, profile
from edgectl.accuracy import check_fit
from edgectl.accuracy_gate import check_options, require
from edgectl.boards.board import Board, Built, model_inputs, open_bundle
from edgectl.boards.choosing import SimulatedChoice, choose
from edgectl.build_cache import BuildCache
from edgectl.building import Build, build
from edgectl.datasets import Data, read_data
from edgectl.errors import UsageError
from edgectl.images import read_pixels
from edgectl.measuring import Measurement, measure
from edgectl.sources import Prepared, Source, is_bundle, prepare
from edgectl.stages import Stages
from edgectl.tensors import is_tensor_file, read_tensor


def deploy(
    source: Source | str,
    board: str = "sim",
    image: str | os.PathLike[str] | None = None,
    number: int = 1,
    repeat: int = 5,
    top: int = 5,
    stages: Stages | None = None,
    cache: BuildCache | None = None,
    data: Data | None = None,
    min_agreement: float | None = None,
    wait: float | None = None,
) -> Measurement:
    """Compile `source` for `board` (with a `cache`, unless that was done before), upload, activate, self-test, and
    measure on `image` (see `measure` for None).

    On `data`, accuracy is measured and recorded before; nothing is uploaded where fewer answers than `min_agreement`
    (0..1) are float's. Of a bundle, what is recorded counts.

    `source` may be the name of a model, or the path of a bundle, which is taken as it is. A simulated board is started
    if it does not run, and ended again if anything fails. From the upload on, the board is leased; see `Board.leased`
    for `wait`. Raises EdgectlErrors.
    """
    stages = stages or Stages()
    choice = choose(board)
    # What is wrong with the image must show before the work, and before anything goes live.
    if image is not None:
        read_tensor(image) if is_tensor_file(image) else read_pixels(image)
    with ExitStack() as stack:
        if isinstance(choice, SimulatedChoice):
            # Compile first: a board must not be started for a model that does not exist.
            bundle, prepared = _bundle(source, choice.simulated.profile, image, stages, cache, data, min_agreement)
            with stages.stage("start the board"):
                opened = stack.enter_context(Board(board))
        else:
            with stages.stage("connect"):
                opened = stack.enter_context(Board(board))
            bundle, prepared = _bundle(source, opened.target, image, stages, cache, data, min_agreement)
        stack.enter_context(opened.leased("deploy", wait, stages.remark))
        with stages.stage("upload"):
            digest = opened.upload(bundle, stages.progress)
        with stages.stage("activate and self-test"):
            opened.connection.activate(digest)
        notices = prepared.notices if prepared else ()
        banner = prepared.weights.banner if prepared else ""
        measurement = measure(opened, image, number, repeat, top, stages, notices, banner)
        return replace(measurement, cached=isinstance(bundle, Build) and bundle.cached)


def _bundle(
    source: Source | str,
    board: str | BoardProfile,
    image: str | os.PathLike[str] | None,
    stages: Stages,
    cache: BuildCache | None,
    data: Data | None,
    min_agreement: float | None,
) -> tuple[Built, Prepared | None]:
    """The bundle of `source`, for whose model `image`, if there is one, is an input."""
    bundle: Built
    if isinstance(source, str) and is_bundle(source):
        if data is not None:
            raise UsageError(
                f"{source} is compiled already: --data cannot apply to it; measure it with `edgectl evaluate {source} "
                "--data FILE.npz`, or compile the model again with --data"
            )
        check_options(min_agreement, True)
        bundle, prepared = open_bundle(source), None
        require(bundle.manifest, min_agreement)
    else:
        source = Source(source) if isinstance(source, str) else source
        bundle, prepared = compile_source(source, board, stages, cache, data, min_agreement)
    if image is not None:
        model_inputs(bundle.manifest, image)
    return bundle, prepared


def compile_source(
    source: Source,
    board: str | BoardProfile,
    stages: Stages,
    cache: BuildCache | None = None,
    data: Data | None = None,
    min_agreement: float | None = None,
) -> tuple[Build, Prepared]:
    """Import and build `source` for a kind of board, and what to know of both. See `build` for `data`
    and `min_agreement`."""
    check_options(min_agreement, data is not None)
    with stages.stage("import"):
        kind = profile(board) if isinstance(board, str) else board
        prepared = prepare(source, simulated=kind.simulated)
        calibration = prepared.calibration(source.calibration)
        dataset = None if data is None else read_data(data, prepared.model)
        if dataset is not None:
            check_fit(dataset, prepared.model, prepared.model.types()[prepared.model.outputs[0]].shape)
    options = (source.offload, dataset, min_agreement, source.pixels)
    built = build(prepared.model, kind, calibration, prepared.origin, stages, cache, *options)
    return built, replace(prepared, notices=(*prepared.notices, *built.notices))
