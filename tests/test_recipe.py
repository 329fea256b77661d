"""A recipe says what it means: strict in every key, equal after a round trip, changed by `--set` as by hand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from funduscope.recipe import Recipe, RecipeError, builtin_recipes
from funduscope.settings import Strict
from funduscope.vocabulary import PHOTO_TASKS

SMALL = 'name = "small"\n'


@pytest.mark.parametrize("name", builtin_recipes())
def test_every_recipe_of_the_package_loads_and_survives_a_round_trip(name: str) -> None:
    recipe = Recipe.load(name)
    assert recipe.name == name.removeprefix("published/"), "named after its design"
    assert recipe.about
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_toml_out_spells_every_default() -> None:
    """What a run folder keeps still says everything after a default was changed in the package."""
    tree = tomllib.loads(Recipe.from_toml(SMALL).to_toml())
    for section in Recipe.model_fields:
        held = getattr(Recipe(name="small"), section)
        if hasattr(held, "model_dump"):
            assert tree[section].keys() == type(held).model_fields.keys()


def test_every_setting_is_described() -> None:
    described = {task.name for task in PHOTO_TASKS}  # which Tasks and Loss describe together
    for name, section in Recipe.model_fields.items():
        kind = section.annotation
        for setting in kind.model_fields if isinstance(kind, type) and issubclass(kind, Strict) else ():
            assert setting in described or re.search(rf"\b{setting}\b", kind.__doc__ or ""), f"{name}.{setting}"


def test_every_kind_of_value_survives_a_round_trip() -> None:
    recipe = Recipe.from_toml(
        SMALL,
        [
            'tasks.structures=["EX", "MA"]',
            "tasks.dme=false",
            "tasks.landmarks=[]",
            'sampling.whole={"idrid-B" = 1, "name with.dot" = 0.25}',
            "training.learning_rate=3e-4",
            "augment.blur=1",
            "decoder.channels=[8, 8, 4, 4]",
        ],
    )
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert again.tasks.structures == ("EX", "MA"), "the order is the recipe's own"
    assert again.sampling.whole == {"idrid-B": 1.0, "name with.dot": 0.25}
    assert again.tasks.landmarks == ()


@pytest.mark.parametrize(
    ("change", "key", "came"),
    [
        ("training.epoch=3", "training.epoch", "3"),
        ("trainnig.epochs=3", "trainnig", "epochs"),
        ("training.epochs=-1", "training.epochs", "-1"),
        ("training.epochs=2.5", "training.epochs", "2.5"),
        ("training.epochs=many", "training.epochs", "many"),
        ("training.epochs=true", "training.epochs", "a number, not true or false"),
        ("decoder.rates=[true]", "decoder.rates", "no true or false"),
        ("training.learning_rate=true", "training.learning_rate", "a number, not true or false"),
        ("training.dropout=1.0", "training.dropout", "1.0"),
        ("training.learning_rate=0", "training.learning_rate", "0"),
        ("training.precision=float8", "training.precision", "float8"),
        ("views.whole_px=500", "views.whole_px", "500"),
        ("views.whole_px=32", "views.whole_px", "32"),
        ("views.close_px=8192", "views.close_px", "8192"),
        ("augment.mirror=1.5", "augment.mirror", "1.5"),
        ("augment.mirror=-0.1", "augment.mirror", "-0.1"),
        ("sampling.whole={idrid-B = -1}", "sampling.whole.idrid-B", "-1"),
        ("sampling.whole={idrid-B = true}", "sampling.whole", "not true or false"),
        ("encoder.weights=places", "encoder.weights", "places"),
        ("encoder.variant=v2", "encoder.variant", "v2"),
        ('tasks.structures=["XX"]', "tasks", "XX"),
        ('tasks.landmarks=["macula"]', "tasks", "macula"),
        ("decoder.channels=[8, 8]", "decoder.channels", "2"),
        ("loss.grade=-1", "loss.grade", "-1"),
        ("loss.label_smoothing=1", "loss.label_smoothing", "1"),
    ],
)
def test_what_does_not_fit_is_named_with_what_came(change: str, key: str, came: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(SMALL, [change])
    assert key in str(caught.value)
    assert came in str(caught.value)


@pytest.mark.parametrize(("change", "known"), [("trainnig.epochs=3", "training"), ("training.epoch=3", "epochs")])
def test_an_unknown_name_brings_the_known_ones(change: str, known: str) -> None:
    with pytest.raises(RecipeError, match=rf"known are .*\b{known}\b"):
        Recipe.from_toml(SMALL, [change])


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ("training.epoch=3", "was epochs meant"),
        ("epochs=3", r"was training\.epochs meant"),
        ("encoder.dropout=0.1", r"was training\.dropout meant"),
        ("training.whatever=3", "No setting has this name \\(came: 3"),
    ],
)
def test_an_unknown_name_brings_the_one_that_was_perhaps_meant(change: str, meant: str) -> None:
    with pytest.raises(RecipeError, match=meant):
        Recipe.from_toml(SMALL, [change])


@pytest.mark.parametrize(("kind", "widths"), [("deeplab", [8]), ("transposed_unet", [8, 8, 8])])
def test_a_decoder_that_needs_the_deepest_features_is_refused_without_them(kind: str, widths: list[int]) -> None:
    changes = ["encoder.levels=4", f"decoder.kind={kind}", f"decoder.channels={widths}", "decoder.skip_channels=[]"]
    with pytest.raises(RecipeError, match=f"decoder.kind {kind} needs: leave encoder.levels out"):
        Recipe.from_toml(SMALL, changes)


def test_every_fault_is_named_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_toml(SMALL, ["training.epochs=-1", "views.whole_px=500", "loss.lesions=1"])
    assert all(key in str(caught.value) for key in ("training.epochs", "views.whole_px", "loss.lesions"))


def test_a_recipe_needs_a_name_and_a_task() -> None:
    with pytest.raises(RecipeError, match="name"):
        Recipe.from_toml("")
    nothing = ["tasks.grade=false", "tasks.dme=false", "tasks.structures=[]", "tasks.landmarks=[]"]
    with pytest.raises(RecipeError, match="at least one task"):
        Recipe.from_toml(SMALL, nothing)
    for wanted in range(4):
        Recipe.from_toml(SMALL, nothing[:wanted] + nothing[wanted + 1 :])


def test_what_is_no_toml_is_said() -> None:
    with pytest.raises(RecipeError, match="no valid TOML"):
        Recipe.from_toml("name = plain = 3")


@pytest.mark.parametrize(
    ("change", "section", "key", "value"),
    [
        ("training.epochs=3", "training", "epochs", 3),
        (" training.epochs = 3", "training", "epochs", 3),
        ("training.learning_rate=1e-3", "training", "learning_rate", 1e-3),
        ("encoder.name=resnet18", "encoder", "name", "resnet18"),
        ('encoder.name="resnet18"', "encoder", "name", "resnet18"),
        ("encoder.name=tf_efficientnet_lite0.in1k", "encoder", "name", "tf_efficientnet_lite0.in1k"),
        ("tasks.dme=false", "tasks", "dme", False),
        ('tasks.structures=["EX"]', "tasks", "structures", ("EX",)),
        ("sampling.close.heimed=2", "sampling", "close", {"heimed": 2.0}),
    ],
)
def test_set_reads_toml_values_and_bare_words(change: str, section: str, key: str, value: object) -> None:
    assert getattr(getattr(Recipe.from_toml(SMALL, [change]), section), key) == value


def test_set_changes_one_key_and_the_last_one_counts() -> None:
    text = SMALL + "[training]\nepochs = 5\nbatch = 4\n"
    recipe = Recipe.from_toml(text, ["training.epochs=6", "training.epochs=7"])
    assert (recipe.training.epochs, recipe.training.batch) == (7, 4)
    assert recipe == Recipe.from_toml(text.replace("5", "7"))


@pytest.mark.parametrize("change", ["training.epochs", "=3", "training.=3", ".epochs=3", "", "name.x=3"])
def test_a_set_that_is_none_is_said(change: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        Recipe.from_toml(SMALL, [change])


def test_a_recipe_is_found_by_name_or_file_and_else_the_names_are_told(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(SMALL)
    assert Recipe.load(str(path)).name == "small"
    assert Recipe.load("plain", ["training.epochs=2"]).training.epochs == 2
    assert Recipe.load(Path("plain")) == Recipe.load("plain")
    with pytest.raises(RecipeError, match="plain"):
        Recipe.load("spline")


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SMALL, "utf-8-sig")
    assert Recipe.load(tmp_path / "mine.toml") == Recipe.from_toml(SMALL)


def test_a_recipe_cannot_be_changed_in_place() -> None:
    recipe = Recipe(name="small")
    with pytest.raises(ValueError, match="frozen"):
        recipe.training.epochs = 3  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("as_mapping", [False, True])
def test_a_setting_of_how_networks_learn_is_changed_in_every_stage(as_mapping: bool):
    """Otherwise who fine-tunes for two epochs would wait for the stage that has a number of its own."""
    changes = {"stages.whole.training.epochs": 4, "training.epochs": 2, "sampling.per_epoch": 50}
    recipe = Recipe.load("flagship", changes if as_mapping else [f"{name}={value}" for name, value in changes.items()])
    assert [recipe.stage(name).training.epochs for name in ("lesions", "whole")] == [2, 4], "the narrower one holds"
    assert {recipe.stage(name).sampling.per_epoch for name in recipe.stages} == {50}
    changed = Recipe.load("fast", ["encoder.name=resnet34"])
    assert changed.stage("whole").encoder.name == "mobilenetv2_100", "what a network is stays its own"
    with pytest.raises(RecipeError, match=r"set stages.lesions.decoder.channels, stages.whole.decoder.channels"):
        Recipe.load("fast", ["decoder.channels=[32, 32, 32]"])


@pytest.mark.parametrize(
    ("recipe", "change", "says"),
    [
        ("fast", "stages.whole.training.epoks=3", r"fit\. stages\.whole\.training\.epoks: .*known are epochs,"),
        ("fast", "stages.whole.sampling.whole=3", r"fit\. stages\.whole\.sampling\.whole: .*\(came: 3\)"),
        ("fast", "stages.whole.decoder.channels=[3]", r"fit\. stages\.whole\.decoder: [^(]*\(1\), it has 4\.$"),
        ("fast", "stages.hole.training.epochs=3", r"no stage hole; its stages are lesions, whole\."),
        ("plain", "stages.whole.training.epochs=3", r"no stage whole; it has none\."),
        ("plain", "training.seed=99999999999999999999", "less than 4294967296"),
    ],
)
def test_what_is_wrong_in_a_stage_is_named_with_it(recipe: str, change: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Recipe.load(recipe, [change])


def test_a_stage_whose_section_is_a_number_is_named_although_a_setting_of_all_stages_is_changed() -> None:
    with pytest.raises(RecipeError, match=r"stages\.lesions\.training: .*\(came: 3\)"):
        Recipe.from_toml('name = "x"\n[stages.lesions]\ntraining = 3\n', ["training.epochs=3"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("tasks.structures=['MA', 'MA']", "structures names something twice"),
        ("tasks.landmarks=['fovea', 'fovea']", "landmarks names something twice"),
        ("views.close=['MA', 'MA']", "views.close names something twice"),
        ("decoder.rates=[]", "rates"),
        ("decoder.channels=[128, 64, 32, -1]", "channels"),
    ],
)
def test_settings_that_make_no_network_are_refused(change: str, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        Recipe.load("plain", [change])


@pytest.mark.parametrize("name", ["published/attention_moe", "published/moe_deeplab", "moe_aspp"])
def test_experts_that_some_processes_skip_are_refused_with_statistics_that_wait_for_all(name: str) -> None:
    with pytest.raises(RecipeError, match="synchronized waits for every process"):
        Recipe.load(name, ["training.batch_norm=synchronized"])
    assert Recipe.load("soft_sharing", ["training.batch_norm=synchronized"])


def test_settings_of_close_crops_have_no_effect_where_nothing_is_learned_from_any() -> None:
    changes = ["sampling.close.mine=3", "loss.boxes=1", "sampling.hard_negatives=0.3"]
    named = ["sampling.close.mine", "sampling.hard_negatives", "loss.boxes"]
    assert [name for name in Recipe.load("unet34", changes).without_effect if name in named] == named
    assert Recipe.load("plain", ["sampling.close.mine=3"]).without_effect == []
    assert [name for name in builtin_recipes() if Recipe.load(name).without_effect] == []


def test_the_tasks_of_a_recipe_with_stages_are_changed_together_with_theirs() -> None:
    lesions = 'stages.lesions.tasks.structures=["MA", "EX"]'
    recipe = Recipe.load("fast", [lesions, 'tasks.structures=["MA", "EX", "OD"]'])
    assert recipe.tasks.structures == ("MA", "EX", "OD")
    assert recipe.stage("lesions").tasks.structures == ("MA", "EX")
    with pytest.raises(RecipeError, match="expected are those of the recipe"):
        Recipe.load("fast", [lesions])
