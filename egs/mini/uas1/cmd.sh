# Where jobs run: "local" on this machine, "slurm" through sbatch. What takes the place of Kaldi's
# conf/slurm.conf is workflow/profiles/site.yaml: see docs/cluster.md.
cmd_backend=${cmd_backend:-local}

case $cmd_backend in
  local | slurm) export UAS_PROFILE="$UAS_ROOT/workflow/profiles/$cmd_backend" ;;
  *)
    echo "error: cmd_backend '$cmd_backend' is neither local nor slurm" >&2
    exit 2
    ;;
esac
