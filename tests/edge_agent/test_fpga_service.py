"""The FPGA as clients see it: flashing over RPC, one at a time, while inference waits, and back from degradation."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from edge_agent.boards import profile
from edge_agent.errors import AgentError, BusyError, DegradedError, IncompatibleError, InputError, VerificationError
from edge_agent.fpga.flashing import Flasher
from edge_agent.fpga.programmer import DirectProgrammer
from edge_agent.fpga_service import FpgaService
from edge_agent.image import describe_image
from edge_agent.rpc.session import FUNCTIONS
from edge_agent.self_test.running import SelfTest
from tests.edge_agent import fakes
from tests.edge_agent.fpga.bitfiles import bit_file, configuration
from tests.edge_agent.fpga.kernel import Kernel, running_kernel

CONFIG = "1x16_i8w8a32_15_15_18_17"
FILES = [bit_file(configuration(seed=seed)) for seed in range(2)]


@dataclass
class Bench:
    board: fakes.Board
    kernel: Kernel
    fpga: FpgaService
    flasher: Flasher

    def call(self, name: str, *arguments: object) -> object:
        """A function of the RPC table, on a session that has this board's FPGA."""

        class Session:
            endpoint = replace(self.board.endpoint, fpga=self.fpga)

            def check_lease(self) -> None: ...

        return FUNCTIONS[name].call(Session(), *arguments)

    def upload(self, file: bytes) -> str:
        sha256 = hashlib.sha256(file).hexdigest()
        self.call("edge.flash.begin", len(file), sha256)
        self.call("edge.flash.chunk", sha256, 0, file)
        return str(self.call("edge.flash.commit", sha256))

    def flash(self, number: int) -> dict[str, object]:
        sha256 = self.upload(FILES[number])
        answer = self.call("edge.flash.program", sha256, f"vta-{number}.bit", CONFIG, "0.0.2")
        return json.loads(str(answer))  # type: ignore[no-any-return]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    tests: list[fakes.FakeAccelerator] = []

    def passes(accelerator: fakes.FakeAccelerator) -> SelfTest:
        tests.append(accelerator)
        if accelerator.problem:
            raise VerificationError(f"the self-test does not end: {accelerator.problem}")
        return SelfTest({"GEMM": 0.1})

    monkeypatch.setattr("edge_agent.fpga_service.self_test", passes)
    kind = profile("pynq")
    with running_kernel(tmp_path / "root") as kernel, fakes.board(tmp_path / "state") as board:
        system = kernel.system
        flasher = Flasher(kind, tmp_path / "state", system, DirectProgrammer(system, kind))
        board.service._fpga_problem = lambda: flasher.problem
        yield Bench(board, kernel, FpgaService(kind, flasher, board.service, board.accelerator), flasher)


def test_a_flash_over_rpc(bench: Bench) -> None:
    account = bench.flash(0)
    assert account["previous"] is None and account["self_test"]["cases"] == {"GEMM": 0.1}  # type: ignore[index]
    loaded = bench.fpga.status()
    assert loaded is not None and loaded["bitstream"]["id"] == "vta-0.bit"
    assert (loaded["bitstream"]["part"], loaded["bitstream"]["built"]) == ("7z020clg484", "2020/06/30 18:11:16")
    assert bench.flash(1)["previous"]["id"] == "vta-0.bit"  # type: ignore[index]
    assert len(bench.kernel.programmed) == 2
    image = describe_image(bench.kernel.system)
    assert (image["fpga_manager"], image["fpga_state"]) == ("Xilinx Zynq FPGA Manager", "operating")
    assert image["python"].startswith("3.") and image["kernel"]


def test_what_is_refused(bench: Bench) -> None:
    sha256 = bench.upload(FILES[0])
    for arguments, error, message in (
        (("0" * 64, "vta.bit", CONFIG, "0.0.2"), InputError, "there is no bitstream 000000000000 on this board"),
        (("../../etc", "vta.bit", CONFIG, "0.0.2"), InputError, "is not a SHA-256"),
        ((sha256, "", CONFIG, "0.0.2"), InputError, "1 to 200 printable"),
        ((sha256, "a\nb", CONFIG, "0.0.2"), InputError, "1 to 200 printable"),
        ((sha256, "vta.bit", CONFIG, "0.0.1"), IncompatibleError, r"instruction set 0.0.1, board 'pynq' is for 0.0.2"),
    ):
        with pytest.raises(error, match=message):
            bench.call("edge.flash.program", *arguments)
    assert not bench.kernel.programmed
    wrong = bit_file(configuration(), "7z010clg400")
    with pytest.raises(IncompatibleError, match="is for 7z010clg400, board 'pynq' has a 7z020"):
        bench.upload(wrong)


def test_the_catalogues_word_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_agent.catalogue import catalogue, find_bitstream

    old = replace(find_bitstream(catalogue(), "pynq-0.0.1-1x16"), sha256=hashlib.sha256(FILES[0]).hexdigest())
    monkeypatch.setattr("edge_agent.fpga_service.catalogue", lambda: [old])
    sha256 = bench.upload(FILES[0])
    with pytest.raises(IncompatibleError, match=r"bitstream pynq-0.0.1-1x16 has instruction set 0.0.1"):
        bench.call("edge.flash.program", sha256, "mine.bit", CONFIG, "0.0.2")


def test_one_at_a_time_and_never_beside_an_inference(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()
    real = DirectProgrammer.program

    def slow(self: DirectProgrammer, file: object, sha256: str) -> float:
        entered.set()
        assert leave.wait(30)
        return real(self, file, sha256)  # type: ignore[arg-type]

    monkeypatch.setattr(DirectProgrammer, "program", slow)
    sha256 = bench.upload(FILES[0])
    threads = [threading.Thread(target=bench.fpga.flash, args=(sha256, "vta.bit", CONFIG, "0.0.2"))]
    threads[0].start()
    assert entered.wait(30)
    with pytest.raises(BusyError, match="is being programmed already"):
        bench.fpga.flash(sha256, "vta.bit", CONFIG, "0.0.2")
    done: list[str] = []
    threads.append(threading.Thread(target=lambda: done.append(bench.board.deploy(fakes.bundle_bytes()))))
    threads[1].start()
    threads[1].join(0.2)
    assert not done, "the accelerator belongs to the flash"
    leave.set()
    for thread in threads:
        thread.join(30)
    assert len(done) == 1 and len(bench.kernel.programmed) == 1


def test_without_a_good_bitstream_nothing_runs(bench: Bench) -> None:
    bench.board.deploy(fakes.bundle_bytes())
    bench.board.accelerator.reprogrammed = lambda: None  # type: ignore[method-assign]
    bench.board.accelerator.problem = "it never finishes"
    sha256 = bench.upload(FILES[0])
    with pytest.raises(VerificationError, match=r"there was no bitstream before vta.bit"):
        bench.fpga.flash(sha256, "vta.bit", CONFIG, "0.0.2")
    bench.board.accelerator.problem = ""
    with pytest.raises(DegradedError, match=r"vta.bit failed .*program the FPGA again: `edgectl flash BOARD`"):
        bench.board.service.infer({})
    status = bench.board.service.status()
    assert not status["ready"] and "vta.bit failed" in status["degraded"]
    bench.flash(1)
    assert bench.board.service.status()["ready"]


def test_a_degraded_accelerator_is_programmed_again(bench: Bench) -> None:
    bench.flash(0)
    bench.fpga.recover()
    assert len(bench.kernel.programmed) == 1, "nothing is wrong with it"
    bench.board.accelerator.problem = "a run did not finish"
    bench.fpga.recover()
    assert len(bench.kernel.programmed) == 2 and bench.board.accelerator.condition() == ""
    bench.board.accelerator.problem = "again"
    bench.fpga.recover()
    assert len(bench.kernel.programmed) == 2, "not more than once a minute"


def test_somebody_elses_board_is_not_flashed(bench: Bench) -> None:
    sha256 = bench.upload(FILES[0])

    class Session:
        endpoint = replace(bench.board.endpoint, fpga=bench.fpga)

        def check_lease(self) -> None:
            raise BusyError("anna has the board")

    with pytest.raises(BusyError, match="anna has the board"):
        FUNCTIONS["edge.flash.program"].call(Session(), sha256, "vta.bit", CONFIG, "0.0.2")  # type: ignore[arg-type]
    assert not bench.kernel.programmed


def test_what_could_not_be_programmed_at_start_is_tried_again(bench: Bench) -> None:
    """A helper that starts later than the agent."""
    bench.flash(0)
    bench.kernel.restart()
    folder = bench.kernel.folder
    folder.rename(folder.with_name("hidden"))
    bench.fpga.restore()
    assert "could not be brought back: the kernel has no FPGA manager" in bench.flasher.problem
    folder.with_name("hidden").rename(folder)
    bench.fpga.recover()
    assert bench.flasher.problem == "" and len(bench.kernel.programmed) == 2


def test_boards_without_an_fpga(bench: Bench) -> None:
    none = FpgaService(profile("sim"), None, bench.board.service, bench.board.accelerator)
    none.restore()
    none.recover()
    assert none.status() is None
    for call in (lambda: none.uploads, lambda: none.flash("0" * 64, "vta", CONFIG, "0.0.2")):
        with pytest.raises(IncompatibleError, match=r"board 'sim' .* has no FPGA to program"):
            call()
    with pytest.raises(AgentError, match="this board has no FPGA to program"):
        bench.fpga = None  # type: ignore[assignment]
        bench.upload(FILES[0])
