# Where jobs run: "local" on this machine, "slurm" through sbatch. A site edits
# workflow/profiles/slurm, which takes the place of Kaldi's conf/slurm.conf.
cmd_backend=${cmd_backend:-local}

case $cmd_backend in
  local | slurm) export UAS_PROFILE="$UAS_ROOT/workflow/profiles/$cmd_backend" ;;
  *)
    echo "error: cmd_backend '$cmd_backend' is neither local nor slurm" >&2
    exit 2
    ;;
esac
