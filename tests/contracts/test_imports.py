"""The using side starts without torch, and the package itself without anything heavy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "funduscope"
USING = (
    *("vocabulary", "i18n", "imaging", "quality", "duplicates", "data", "metrics", "inference"),
    *("evaluation.score_photo", "evaluation.scores", "explain.class_activation", "explain.map_reliability"),
    *("explain.inpaint", "explain.counterfactual", "report.heatmap", "report.html", "report.outline"),
    *("report.overlay", "report.results_folder", "report.summary_csv", "report.write"),
)

IMPORT = """
import importlib, json, sys
loaded, heavy = {}, {"torch", "cv2", "numpy", "matplotlib", "onnxruntime", "timm", "pydantic"}
for name in sys.argv[1:]:
    importlib.import_module(name)
    loaded[name] = sorted(heavy & sys.modules.keys())
print(json.dumps(loaded))
"""


def _loaded(names: list[str]) -> dict[str, list[str]]:
    """What heavy packages are loaded after each of the modules, one after another in one process."""
    done = subprocess.run([sys.executable, "-c", IMPORT, *names], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _modules(part: str) -> list[str]:
    """A file's module, or all of a folder's."""
    folder = SOURCE / part.replace(".", "/")
    if not folder.is_dir():
        return [f"funduscope.{part}"]
    return [f"funduscope.{part}.{path.stem}" for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]


def test_the_using_side_never_loads_torch() -> None:
    names = [name for part in USING for name in _modules(part)]
    assert len(names) > 25
    for name, loaded in _loaded(names).items():
        assert not {"torch", "timm", "matplotlib", "onnxruntime", "pydantic"} & set(loaded), f"{name} loads {loaded}"


def test_every_public_name_is_there_where_only_photos_can_be_read() -> None:
    """`help`, completion and `from funduscope import *` ask for all of them."""
    missing = ("torch", "timm", "safetensors", "accelerate", "matplotlib", "onnx", "streamlit", "fastapi", "ray")
    missing += ("pydantic", "tomli_w")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing})); from funduscope import *; print(export_run)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_package_itself_loads_nothing_heavy() -> None:
    assert _loaded(["funduscope"]) == {"funduscope": []}


def test_words_and_recipes_need_no_numbers() -> None:
    loaded = _loaded(["funduscope.vocabulary", "funduscope.recipe"])
    assert loaded["funduscope.vocabulary"] == []
    assert loaded["funduscope.recipe"] == ["pydantic"]
