"""One run of `predict`: every photo answered in order, written, and told on the terminal or as JSON lines."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from funduscope.cli.terminal import complain, sentence, shown, tracked
from funduscope.explain.class_activation import SHOWN, TASK_OF
from funduscope.imaging.photo import Photo
from funduscope.inference.findings import Failure, Findings
from funduscope.inference.predictor import Predictor
from funduscope.inference.runtime import TorchRuntime
from funduscope.report.outline import Traced
from funduscope.report.pdf_outputs import Papers, PdfOptions
from funduscope.report.results_folder import (
    SUMMARY,
    OutputOptions,
    Written,
    answers,
    internal,
    new_folder,
    open_results,
)

NO_PAPER = PdfOptions()
NO_MAP = (
    "--explain: not every answer was explained, since this model has no exact map of it: with its checkpoint as "
    "--model (best.safetensors in its run's folder) Grad-CAM is drawn, an approximation"
)
ExtraOutputs = Callable[[Findings, Traced, Path], None]


def predict_all(
    answer: Callable[[Photo], Findings],
    paths: list[Path],
    out: Path | None,
    options: OutputOptions,
    *,
    as_json: bool,
    paper: PdfOptions = NO_PAPER,
) -> int:
    """Answers for all paths; the exit code is 1 where any photo failed.

    out: where results go; None is a new folder named after the time or, with `as_json`, nowhere. paper: what else. A
    folder that was made for nothing goes again.
    """
    is_new = out is None or not out.exists()
    folder = new_folder(datetime.now()) if out is None and not as_json else out
    many = len(paths) > 1
    failed = 0
    bare = False
    last: Written = {}, None
    maps = _from_weights(answer) if options.explain and folder else None
    with _stopped_alike(), ExitStack() as held:
        if folder and is_new:
            held.callback(_drop_empty, folder)
        papers = held.enter_context(Papers(paper, folder, len(paths))) if folder else None
        extra_outputs = _each([papers.extra_outputs if papers else None, maps])
        put = held.enter_context(open_results(folder, many, options, extra_outputs)) if folder else _only_said
        stream = answers(answer, paths)
        for path, said in stream if as_json else tracked(stream, "Reading", len(paths)):
            bare = bare or (isinstance(said, Findings) and _lacks_maps(said))
            last = put(path, said)
            if "error" in last[0]:
                refused = Failure(last[0]["photo"]["name"], **last[0]["error"])
                if papers:
                    _on_paper(papers, refused, said if "schema" in last[0] else refused)
                complain(f"{path}: {refused.code}: {refused.says}")
                failed += 1
            if as_json:
                # Escapes keep the line whole in every terminal's encoding, whatever the photo is called.
                print(json.dumps(last[0], separators=(",", ":"), allow_nan=False), flush=True)
    if options.explain and folder and bare and maps is None:
        complain(NO_MAP)
    if folder and not as_json:
        _conclude(folder, len(paths), failed, last)
    return 1 if failed else 0


def _on_paper(papers: Papers, refused: Failure, said: Findings | Failure) -> None:
    """The page of a photo without results: with the answer where there is one, and only its folder was not free."""
    if isinstance(said, Findings):
        try:
            papers.answered(said)
        except OSError:
            raise
        except Exception as error:
            refused = internal(Path(refused.photo_name), error)
        else:
            return
    papers.refused(refused)


def _from_weights(answer: Callable[[Photo], Findings]) -> ExtraOutputs | None:
    """What draws maps by the network itself, where the model is one checkpoint; torch is there already then."""
    if not isinstance(answer, Predictor) or not isinstance(answer.runtime, TorchRuntime):
        return None
    from funduscope.network.network import Network
    from funduscope.report.checkpoint_maps import FromWeights

    network = answer.runtime.network
    return FromWeights(network, answer.card) if isinstance(network, Network) else None


def _lacks_maps(said: Findings) -> bool:
    """Whether something was answered of which the model has no exact map."""
    answers = {"grade": said.grade, "dme": said.dme}
    return any(answers[TASK_OF[target]] is not None and TASK_OF[target] not in said.cams for target in SHOWN)


def _each(extras: list[ExtraOutputs | None]) -> ExtraOutputs | None:
    """All that add files to a photo's folder as one."""
    there = [one for one in extras if one is not None]

    def beside(findings: Findings, traced: Traced, folder: Path) -> None:
        for one in there:
            one(findings, traced, folder)

    return beside if there else None


@contextmanager
def _stopped_alike() -> Iterator[None]:
    """SIGTERM, which a system sends that shuts down or a scheduler whose time is over, ends the run as Ctrl+C does."""
    if threading.current_thread() is not threading.main_thread():  # only there a signal can be told what to do
        yield
        return
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier or signal.SIG_DFL)


def _drop_empty(folder: Path) -> None:
    with suppress(OSError):  # it holds something, or was never made
        folder.rmdir()


def _only_said(path: Path, said: Findings | Failure) -> Written:
    """What is said where nothing is written. As there, a photo's lesions are measured only now, and may cost it."""
    try:
        found = said.to_dict()
        json.dumps(found, allow_nan=False)
    except Exception as error:
        found = internal(path, error).to_dict()
    return found, None


def _conclude(folder: Path, count: int, failed: int, last: tuple[dict[str, Any], Path | None]) -> None:
    found, place = last
    if count == 1:
        if place is not None:
            print(sentence(found))
            print(shown(f"Open {place / 'report.html'}"))
        return
    print(f"{count - failed} of {count} photos read" + (f", {failed} failed." if failed else "."))
    print(shown(f"Results are in {folder}; {SUMMARY} there has a row for each photo."))
