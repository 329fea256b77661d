"""One run of `predict`: reads the photos in order, writes their results, and prints sentences or JSON lines."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from funduscope.cli.terminal import complain, sentence, shown, tracked
from funduscope.explain.class_activation import SHOWN, TASK_OF
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
from funduscope.report.outline import Traced
from funduscope.report.pdf_outputs import PdfOutputs
from funduscope.report.results_folder import (
    SUMMARY,
    OutputOptions,
    Written,
    answers,
    internal,
    new_folder,
    open_results,
)

NO_MAP = (
    "--explain: this model has no exact map of some answers; with its checkpoint as --model (best.safetensors in its "
    "run's folder) Grad-CAM, an approximation, is drawn for them"
)
ExtraOutputs = Callable[[Findings, Traced, Path], None]


def predict_all(
    answer: Callable[[Photo], Findings],
    paths: list[Path],
    out: Path | None,
    options: OutputOptions,
    *,
    as_json: bool,
) -> int:
    """Reads all paths and returns the exit code: 1 if any photo failed.

    out: folder for the results; None means a new folder named after the time or, with `as_json`, none. A new folder
    that stays empty is removed.
    """
    is_new = out is None or not out.exists()
    folder = new_folder(datetime.now()) if out is None and not as_json else out
    many, failed, lacks_maps = len(paths) > 1, 0, False
    last: Written = {}, None
    maps = _checkpoint_maps(answer) if options.explain and folder else None
    with _sigterm_as_interrupt(), ExitStack() as stack:
        if folder and is_new:
            stack.callback(_remove_if_empty, folder)
        pdfs = stack.enter_context(PdfOutputs(options, folder, len(paths))) if folder else None
        extra_outputs = _all_of([pdfs.extra_outputs if pdfs else None, maps])
        write = stack.enter_context(open_results(folder, many, options, extra_outputs)) if folder else _unwritten
        stream = answers(answer, paths)
        for path, result in stream if as_json else tracked(stream, "Reading", len(paths)):
            lacks_maps = lacks_maps or (isinstance(result, Findings) and _lacks_maps(result))
            last = write(path, result)
            if "error" in last[0]:
                failure = Failure(last[0]["photo"]["name"], **last[0]["error"])
                if pdfs:
                    _add_page(pdfs, failure, result if "schema" in last[0] else failure)
                complain(f"{path}: {failure.code}: {failure.says}")
                failed += 1
            if as_json:
                # ASCII escapes, so that any file name can be printed in any terminal's encoding.
                print(json.dumps(last[0], separators=(",", ":"), allow_nan=False), flush=True)
    if options.explain and folder and lacks_maps and maps is None:
        complain(NO_MAP)
    if folder and not as_json:
        _conclude(folder, len(paths), failed, last)
    return 1 if failed else 0


def _add_page(pdfs: PdfOutputs, failure: Failure, result: Findings | Failure) -> None:
    """Adds the page of a photo without results: with its findings, if they only could not be written to the folder."""
    if isinstance(result, Findings):
        try:
            pdfs.add_findings(result)
        except OSError:
            raise
        except Exception as error:
            failure = internal(Path(failure.photo_name), error)
        else:
            return
    pdfs.add_failure(failure)


def _checkpoint_maps(answer: Callable[[Photo], Findings]) -> ExtraOutputs | None:
    """What draws maps with the network itself, if the model is one checkpoint; torch is loaded already in that case."""
    if not isinstance(answer, Predictor) or not isinstance(answer.runtime, TorchRuntime):
        return None
    from funduscope.network.joined import Joined
    from funduscope.network.network import Network
    from funduscope.report.checkpoint_maps import CheckpointMaps

    network = answer.runtime.network
    return CheckpointMaps(network, answer.card) if isinstance(network, Network | Joined) else None


def _lacks_maps(findings: Findings) -> bool:
    """Whether the findings have an answer without an exact map."""
    answers = {"grade": findings.grade, "dme": findings.dme}
    return any(answers[TASK_OF[target]] is not None and TASK_OF[target] not in findings.cams for target in SHOWN)


def _all_of(extras: list[ExtraOutputs | None]) -> ExtraOutputs | None:
    """One function that writes all the extra outputs; None if there are none."""
    known = [extra for extra in extras if extra is not None]

    def write_all(findings: Findings, traced: Traced, folder: Path) -> None:
        for extra in known:
            extra(findings, traced, folder)

    return write_all if known else None


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM, sent at a system's shutdown or by a scheduler at its time limit, ends the run as Ctrl+C does."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set signal handlers
        yield
        return
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier or signal.SIG_DFL)


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # not empty, or never made
        folder.rmdir()


def _unwritten(path: Path, result: Findings | Failure) -> Written:
    """The JSON object of a result that is not written. Lesions are measured only here, and an error fails the photo."""
    try:
        found = result.to_dict()
        json.dumps(found, allow_nan=False)
    except Exception as error:
        found = internal(path, error).to_dict()
    return found, None


def _conclude(folder: Path, count: int, failed: int, last: Written) -> None:
    found, photo_folder = last
    if count == 1:
        if photo_folder is not None:
            print(sentence(found))
            print(shown(f"Open {photo_folder / 'report.html'}"))
        return
    print(f"{count - failed} of {count} photos read" + (f", {failed} failed." if failed else "."))
    print(shown(f"Results are in {folder}; its {SUMMARY} has one row per photo."))
