"""``uas config show``: print the configuration that a run would use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uas_plugin.bin import Parser, make_parser
from uas_plugin.errors import UASError, suggest

DEFAULT_RECIPE = Path("egs/mini/uas1")


def get_parser() -> Parser:
    """Options of ``uas config``."""
    parser = make_parser(
        "Print the resolved configuration of a recipe as YAML.",
        "uas config show --recipe egs/mini/uas1 corpus=realmini trainer.max_steps=100\n"
        "uas config show --section tokenizer tokenizer.model.ctc_weight=0",
    )
    parser.prog = "uas config"
    parser.add_argument("action", choices=["show"], help="what to do")
    parser.add_argument("--recipe", type=Path, help=f"recipe folder (default: {DEFAULT_RECIPE})")
    parser.add_argument("--section", help="print only what this stage's command receives")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides: group=option, key=value")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Print the whole configuration, or one section of it.

    Raises:
        UASError: unknown recipe, section, key or option.
    """
    args, extra = get_parser().parse_known_intermixed_args(argv)
    if unknown := [word for word in extra if word.startswith("--")]:
        get_parser().error(f"unrecognized arguments: {' '.join(unknown)}")
    from uas_plugin.config.compose import compose
    from uas_plugin.config.sections import build_sections, to_yaml
    from uas_plugin.recipe.schema import validate_composed

    config = compose(args.recipe or _default_recipe(), [*args.overrides, *extra])
    if "recipe" in config:  # of stock ESPnet models: nothing but ESPnet's own options to check
        if args.section:
            raise UASError("sections of this recipe stand in exp/<corpus>/conf: run.sh writes them")
        print(to_yaml(config), end="")
        return
    validate_composed(config)
    if args.section:
        sections = build_sections(config)
        if args.section not in sections:
            hint = suggest(args.section, sections)
            raise UASError(f"unknown section '{args.section}' of {', '.join(sections)}.{hint}")
        config = sections[args.section]
    print(to_yaml(config), end="")


def _default_recipe() -> Path:
    """The mini recipe: from the current folder, else from the repository of this package."""
    if (Path("conf") / "config.yaml").exists():
        return Path()
    if DEFAULT_RECIPE.exists():
        return DEFAULT_RECIPE
    return Path(__file__).resolve().parents[2] / DEFAULT_RECIPE
