"""The face of a recipe: ``run.sh`` options, the table of stages, and the call of Snakemake.

Commands of the stages stand in ``workflow/rules`` only; here is what chooses and watches them.
"""
