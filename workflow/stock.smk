# Entry of the recipes of stock ESPnet models on our tokens (egs/mini/asr2, egs/mini/tts2). Their
# run.sh calls it: python -m uas_plugin.recipe.stock. The stages' table is
# uas_plugin/recipe/stock_stages.py.
#
#   snakemake --snakefile workflow/stock.smk --config conf=egs/mini/asr2/exp/mini/conf -n
import shlex
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.1")

# The checkout that is being run comes before any installed copy.
sys.path.insert(0, str(Path(workflow.basedir).parent))

from uas_plugin.errors import UASError
from uas_plugin.recipe.stock_run import SETS, StockRun

try:
    RUN = StockRun.load(config["conf"])
except UASError as error:
    raise WorkflowError(str(error)) from None

D, P, S, E, C = RUN.data, RUN.dump, RUN.source, RUN.exp, str(RUN.conf)

# Shell variables of every command; workflow/scripts/job.sh says what else precedes it.
SHELL_NAMES = {
    "PYTHON": sys.executable,
    "DATA": D,
    "DUMP": P,
    "SOURCE": S,
    "JUDGE": RUN.judge,
    "EXP": E,
    "CORPUS": RUN.corpus,
    "RECIPE": RUN.recipe,
    "RESULTS": RUN.results,
}
shell.prefix(
    "".join(
        f"{name}={shlex.quote(str(value))}; " for name, value in SHELL_NAMES.items()
    )
    + f". {shlex.quote(workflow.basedir)}/scripts/job.sh; "
)


# Snakemake works in the root of the repository, where a bare `snakemake` does too.
workdir: Path(workflow.basedir).parent


DUMPED = [f"{P}/tokenizer/{name}/info.json" for name in SETS]


include: f"rules/{RUN.kind}.smk"
