import pytest
from hypothesis import given
from hypothesis import strategies as st

from forktail.errors import InputError
from forktail.methods.logit_adjustment import LogitAdjustment
from forktail.recipe import Recipe, apply_settings, make_recipe, read_recipe


def made(*settings):
    return make_recipe(apply_settings({"data": {"path": "glyphs"}}, settings))


def test_the_default_is_osdtw_on_two_ranks():
    recipe = made()
    assert recipe.method.name == "osdtw"
    assert (recipe.split.rule, recipe.split.parts, recipe.seed) == ("rank", 2, 0)


def test_settings_reach_every_table_with_the_right_type():
    recipe = made("method.name=logit_adjustment", "method.tau=2", "plan.epochs=7", "plan.betas=[0.9, 0.95]", "seed=3")
    assert recipe.method == LogitAdjustment(tau=2.0)
    assert (recipe.plan.epochs, recipe.plan.betas, recipe.seed) == (7, (0.9, 0.95), 3)


def test_a_recipe_survives_being_written_and_read(tmp_path):
    recipe = made("method.depth=2", "method.weight=0.3", "data.n_max=20", "plan.flops=1e12", 'data.root="Ünï\\"x"')
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert make_recipe(read_recipe(tmp_path / "recipe.toml")) == recipe


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("plan.epoch=3", 'key "plan.epoch" is unknown; did you mean "plan.epochs"?'),
        ("plann.epochs=3", 'key "plann" is unknown; did you mean "plan"?'),
        ("method.dept=3", 'key "method.dept" is unknown; did you mean "method.depth"?'),
        ("method.name=osdwt", 'method "osdwt" is unknown; did you mean "osdtw"?'),
        ("plan.epochs=many", "plan.epochs = 'many'; expected a valid integer"),
        ("plan.epochs=2.5", "plan.epochs = 2.5"),
        ("plan.lr=-1", "plan.lr = -1"),
        ("method.rule=best", "method.rule = 'best'; expected 'margin' or 'posterior'"),
        ("method.weight=1.5", "method.weight = 1.5; expected a number inside (0, 1)"),
        ("data.imbalance=x", "data.imbalance = 'x'"),
        ("seed=x", "seed = 'x'"),
        ("plan=3", "plan = 3; expected a table"),
        ("method=3", "method = 3; expected a table [method] with a name"),
        ("epochs", "--set epochs; expected key.name=value"),
        (".=3", "--set .=3; expected key.name=value"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(setting, message):
    with pytest.raises(InputError) as caught:
        made(setting)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_cannot_run_through_a_value():
    with pytest.raises(InputError, match='"path" is a value'):
        made("data.path.x=3")


def test_a_recipe_file_that_is_missing_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml: No such file"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(InputError, match=r"bad\.toml"):
        read_recipe(tmp_path / "bad.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"bytes\.toml"):
        read_recipe(tmp_path / "bytes.toml")


def test_a_recipe_without_data_says_so():
    with pytest.raises(InputError, match=r"no data\.path"):
        make_recipe({})


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_setting_ends_in_anything_but_a_recipe_or_an_input_error(key, value):
    def outcome():
        try:
            return made(f"{key}={value}")
        except InputError as error:
            return error

    assert isinstance(outcome(), Recipe | InputError)
