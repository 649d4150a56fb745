"""Recipes and settings."""

from table import Place, Row


def nothing(scene):
    """The folder stays empty."""


def recipe(content):
    return lambda scene: scene.text("my.toml", content)


FIT = "fit glyphs --recipe my.toml"

RECIPE = Place(
    "recipe",
    "A recipe file",
    "TOML; every key is checked before anything is opened.",
    (
        Row("no such file", FIT, nothing, "recipe my.toml: …; expected a TOML file…"),
        Row("a folder", FIT, lambda s: s.path("my.toml/x"), "recipe my.toml: …; expected a TOML file…"),
        Row("no TOML", FIT, recipe("[plan]\nepochs = \n"), "recipe my.toml: …; expected a TOML file…"),
        Row("a key twice", FIT, recipe("[plan]\nepochs = 3\nepochs = 4\n"), "recipe my.toml: …; expected a TOML file…"),
        Row(
            "not UTF-8",
            FIT,
            lambda s: s.content("my.toml", b"[data]\npath = '\xe9'\n"),
            "recipe my.toml: …; expected a TOML file…",
        ),
        Row(
            "brackets without an end",
            FIT,
            recipe(f"a = {'[' * 5000}\n"),
            "recipe my.toml: …; expected a TOML file…",
        ),
        Row(
            "an unknown key",
            FIT,
            recipe("[plan]\nepoch = 3\n"),
            'recipe: key "plan.epoch" is unknown; did you mean "plan.epochs"?',
        ),
        Row(
            "an unknown table",
            FIT,
            recipe("[plans]\nepochs = 3\n"),
            'recipe: key "plans" is unknown; did you mean "plan"?',
        ),
        Row("a value where a table belongs", FIT, recipe("plan = 3\n"), "recipe: plan = 3; expected a table"),
        Row(
            "a table where a value belongs",
            FIT,
            recipe("[seed]\na = 1\n"),
            "recipe: seed = {'a': 1}; expected …a valid integer…",
        ),
        Row(
            "a word where a number belongs",
            FIT,
            recipe('[plan]\nlr = "fast"\n'),
            "recipe: plan.lr = 'fast'; expected …a valid number…",
        ),
        Row(
            "a fraction where a whole number belongs",
            FIT,
            recipe("[plan]\nepochs = 2.5\n"),
            "recipe: plan.epochs = 2.5; expected …a valid integer…",
        ),
        Row(
            "a number that is none",
            FIT,
            recipe("[plan]\nlr = nan\n"),
            "plan.lr = nan; expected a number > 0 and <= 1000, such as 0.001",
        ),
        Row(
            "an endless number",
            FIT,
            recipe("checkpoint_seconds = inf\n"),
            "recipe: checkpoint_seconds = inf; expected a number >= 0",
        ),
        Row(
            "a number out of range",
            FIT,
            recipe("[plan]\nwarmup = 1.5\n"),
            "plan.warmup = 1.5; expected a share in [0, 1)",
        ),
        Row(
            "a huge number",
            FIT,
            recipe(f"[split]\nparts = {10**30}\n"),
            "1000000000000000000000000000000 parts; expected between 1 and the 100 classes",
        ),
        Row(
            "an unknown choice",
            FIT,
            recipe('[plan]\noptimizer = "adam"\n'),
            "recipe: plan.optimizer = 'adam'; expected …'adamw', 'sgd' or 'lamb'",
        ),
        Row(
            "an unknown method",
            FIT,
            recipe('[method]\nname = "osdwt"\n'),
            'method "osdwt" is unknown; did you mean "osdtw"?',
        ),
        Row(
            "a method that is no table",
            FIT,
            recipe('method = "ce"\n'),
            "recipe: method = 'ce'; expected a table [method] with a name",
        ),
        Row(
            "a key of another method",
            FIT,
            recipe('[method]\nname = "ce"\ndepth = 3\n'),
            'recipe: key "method.depth" is unknown; leave it out',
        ),
        Row(
            "a depth that the backbone does not have",
            FIT,
            recipe("[method]\ndepth = 99\n"),
            "method.depth = 99; expected 0 to 6, the units of the backbone",
            after_notes=True,
        ),
        Row(
            "tasks that the method cannot use",
            FIT,
            recipe("[split]\nparts = 3\n"),
            "split has 3 tasks; expected two for osdtw; use split.parts = 2",
            after_notes=True,
        ),
    ),
)

SETTINGS = Place(
    "settings",
    "--set and --method",
    "`--set key.name=value`, the value as in TOML or else a plain word.",
    (
        Row(
            "no value",
            "fit glyphs --set plan.epochs",
            nothing,
            "--set plan.epochs; expected key.name=value, such as plan.epochs=10",
        ),
        Row("no key", "fit glyphs --set =3", nothing, "--set =3; expected key.name=value, such as plan.epochs=10"),
        Row(
            "half a key",
            "fit glyphs --set plan.=3",
            nothing,
            "--set plan.=3; expected key.name=value, such as plan.epochs=10",
        ),
        Row(
            "a key below a value",
            "fit glyphs --set seed=1 --set seed.a=2",
            nothing,
            '--set seed.a=2: "seed" is a value; expected the name of a table before the dot',
        ),
        Row("a value over a table", "fit glyphs --set plan=3", nothing, "recipe: plan = 3; expected a table"),
        Row(
            "an unknown key",
            "fit glyphs --set plan.epoch=3",
            nothing,
            'recipe: key "plan.epoch" is unknown; did you mean "plan.epochs"?',
        ),
        Row(
            "an unknown method",
            "fit glyphs --method osdwt",
            nothing,
            'method "osdwt" is unknown; did you mean "osdtw"?',
        ),
        Row(
            "a word where a number belongs",
            "fit glyphs --set plan.batch_size=big",
            nothing,
            "recipe: plan.batch_size = 'big'; expected …a valid integer…",
        ),
        Row(
            "label smoothing of all",
            "fit glyphs --set plan.mix.smoothing=1",
            nothing,
            "plan.mix.smoothing = 1.0; expected a share in [0, 1)",
        ),
        Row(
            "mixup in a method that is unknown to the plan",
            "fit glyphs --set plan.mixup=0.8",
            nothing,
            'recipe: key "plan.mixup" is unknown; did you mean "plan.mix"?',
        ),
        Row(
            "falls of the learning rate in no order",
            'fit glyphs --set "plan.milestones=[0.9, 0.8]"',
            nothing,
            "plan.milestones = (0.9, 0.8); expected rising shares of the stage, each inside (0, 1)",
        ),
        Row(
            "a layer decay above 1",
            "fit glyphs --set plan.layer_decay=1.5",
            nothing,
            "plan.layer_decay = 1.5; expected a factor in (0, 1]",
        ),
        Row(
            "a number out of range",
            "fit glyphs --set plan.lr=-1",
            nothing,
            "plan.lr = -1.0; expected a number > 0 and <= 1000, such as 0.001",
        ),
        Row(
            "a number of the method out of range",
            "fit glyphs --set method.weight=2",
            nothing,
            "method.weight = 2.0; expected a number inside (0, 1), the head's weight",
        ),
        Row(
            "a number that is none",
            "fit glyphs --set method.tau=nan",
            nothing,
            "method.tau = nan; expected a …",
        ),
        Row(
            "brackets without an end",
            f"fit glyphs --set plan.betas={'[' * 5000}",
            nothing,
            "--set plan.betas=[…; expected …",
        ),
        Row(
            "a setting that pretraining does not have",
            "pretrain glyphs --out pre --set method.tau=1",
            nothing,
            "--set method.tau=1 with pretrain; expected settings of data, plan, seed or device",
        ),
    ),
)
