#!/usr/bin/env bash
# A small Slurm on this machine, for tests: one controller and several node daemons, each a node of
# its own (own name, port and spool folder), with their own munge. Everything lives in one folder and
# listens on ports chosen at start; a Slurm that the host already has is neither used nor changed.
set -euo pipefail

usage() {
  cat <<'HELP'
usage: local/slurm/cluster.sh <verb> [options]

verbs:
  install            install the Debian packages (root and apt; else it says what is missing)
  up                 start the cluster; prints the line to `source` for its commands
  down               stop its daemons (jobs end) and remove its folder
  kill-node NAME     end a node's daemon and all jobs on it, as a power cut would
  start-node NAME    start that daemon again and return the node to service

options:
  --dir DIR          folder of the cluster (/tmp/uas-slurm-<user>)
  --nodes N          nodes of `up`: node1 ... nodeN (3)
  --cpus N           CPUs that a node claims, whatever the machine has (8)
  --gpus N           GPUs that a node claims; no device is behind them (2)
  --accounting       also slurmdbd on a MariaDB of its own: sacct answers (default: squeue only)

Two partitions: `main` (the default), whose jobs are requeued when one of `urgent` needs the place.

example:
  local/slurm/cluster.sh install
  local/slurm/cluster.sh up --nodes 2
  . /tmp/uas-slurm-$USER/env.sh && srun -N 2 hostname
HELP
}

user=$(id -un)
dir=${UAS_SLURM_DIR:-/tmp/uas-slurm-$user}
nodes=3 cpus=8 gpus=2 accounting=false
PACKAGES=(munge slurmctld slurmd slurm-client)
ACCOUNTING_PACKAGES=(slurmdbd mariadb-server-core mariadb-client-core)
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "error: $*" >&2
  exit 2
}

# --- packages ------------------------------------------------------------------------------------

missing() {
  local program
  for program in munged slurmctld slurmd srun; do
    command -v "$program" >/dev/null || return 0
  done
  $accounting || return 1
  for program in slurmdbd mariadbd; do
    command -v "$program" >/dev/null || return 0
  done
  return 1
}

install() {
  missing || return 0
  local wanted=("${PACKAGES[@]}") as_root=()
  $accounting && wanted+=("${ACCOUNTING_PACKAGES[@]}")
  command -v apt-get >/dev/null ||
    fail "no apt-get here: install Slurm 22.05 or later and munge (Debian: ${wanted[*]})"
  [ "$(id -u)" -eq 0 ] || as_root=(sudo -n)
  "${as_root[@]}" true 2>/dev/null || fail "not root: ask for 'apt-get install ${wanted[*]}'"
  # A package would start its own daemons, for which there is no configuration: tell it not to.
  local policy=/usr/sbin/policy-rc.d made=false
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy" && made=true
  fi
  local status=0
  { timeout 120 "${as_root[@]}" apt-get update -q &&
    timeout 400 "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
      apt-get install -q -y --no-install-recommends "${wanted[@]}"; } >&2 || status=$?
  if $made; then "${as_root[@]}" rm -f "$policy"; fi
  [ "$status" -eq 0 ] || fail "apt-get could not install ${wanted[*]}"
}

# --- configuration -------------------------------------------------------------------------------

free_ports() { # free_ports N: N free TCP ports below the range that the kernel gives to clients
  local port=$((20000 + ($$ * 37) % 8000)) found=0
  while [ "$found" -lt "$1" ]; do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      found=$((found + 1))
    fi
    port=$((port + 1))
  done
}

write_slurm_conf() {
  local ports memory i
  mapfile -t ports < <(free_ports $((nodes + 2)))
  # A quarter of the machine for a node: the jobs of the tests are small, and only one runs hot.
  memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
  {
    cat <<CONF
ClusterName=uas
SlurmctldHost=localhost
SlurmctldPort=${ports[0]}
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
CredType=cred/munge
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/%n/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/%n/slurmd.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/%n/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
# A node has the CPUs and the memory that stand here, not those that the daemon finds.
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
# Start jobs at once, and see a dead node in seconds instead of minutes.
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
KillWait=5
MinJobAge=600
# A job of \`urgent\` puts one of \`main\` back into the queue: SIGTERM, 10 s later SIGKILL.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
CONF
    if $accounting; then
      cat <<CONF
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort=${ports[1]}
AccountingStorageUser=$user
# Where slurmdbd is asked, this names the socket of munge; AuthInfo does not count.
AccountingStoragePass=$dir/munge.socket
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=5
CONF
    fi
    for ((i = 1; i <= nodes; i++)); do
      echo "NodeName=node$i NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[i + 1]}" \
        "CPUs=$cpus RealMemory=$memory Gres=gpu:$gpus State=UNKNOWN"
    done
    echo "PartitionName=main Nodes=node[1-$nodes] Default=YES MaxTime=1-0 PriorityTier=1 GraceTime=10"
    echo "PartitionName=urgent Nodes=node[1-$nodes] MaxTime=1-0 PriorityTier=2 PreemptMode=OFF"
  } >"$dir/slurm.conf"
  # A GPU is a file to Slurm; an empty one will do, since no cgroup guards devices here.
  : >"$dir/gres.conf"
  if [ "$gpus" -gt 0 ]; then
    for ((i = 0; i < gpus; i++)); do : >"$dir/gpu$i"; done
    echo "NodeName=node[1-$nodes] Name=gpu File=$dir/gpu[0-$((gpus - 1))]" >"$dir/gres.conf"
  fi
  cat >"$dir/env.sh" <<ENV
export SLURM_CONF='$dir/slurm.conf' UAS_SLURM_DIR='$dir'
export PATH='$dir/bin':"\$PATH:/usr/sbin"
ENV
  write_commands
  if $accounting; then write_slurmdbd_conf "${ports[1]}"; fi
}

# Snakemake's job step removes SLURM_CONF from the environment of the srun that it calls: commands that
# are found first and know their configuration.
write_commands() {
  local name
  mkdir -p "$dir/bin"
  for name in sacct sacctmgr salloc sbatch scancel scontrol sinfo squeue srun; do
    printf '#!/bin/sh\nSLURM_CONF=%q exec %q "$@"\n' "$dir/slurm.conf" "$(command -v $name)" \
      >"$dir/bin/$name"
  done
  chmod +x "$dir"/bin/*
}

write_slurmdbd_conf() { # write_slurmdbd_conf PORT
  cat >"$dir/slurmdbd.conf" <<CONF
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
DbdHost=localhost
DbdPort=$1
SlurmUser=$user
PidFile=$dir/slurmdbd.pid
LogFile=$dir/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=$user
StorageLoc=slurm_acct
CONF
  chmod 600 "$dir/slurmdbd.conf"
}

# --- daemons -------------------------------------------------------------------------------------

# await SECONDS WHAT COMMAND...: wait until the command succeeds
await() {
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "$what did not come up; its log is in $dir"
    sleep 0.2
  done
}

start_munge() {
  dd if=/dev/urandom of="$dir/munge.key" bs=128 count=1 status=none
  chmod 600 "$dir/munge.key"
  # --force: a folder below /tmp is writable by others, which munged takes for a mistake.
  munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
    --pid-file="$dir/munged.pid" --log-file="$dir/log/munged.log" --seed-file="$dir/munge.seed"
  await 10 munged munge -n -S "$dir/munge.socket"
}

start_database() {
  mariadb-install-db --no-defaults --user="$user" --datadir="$dir/mysql" \
    --auth-root-authentication-method=socket --auth-root-socket-user="$user" \
    >"$dir/log/mariadb-install.log" 2>&1 || fail "mariadb-install-db: $dir/log/mariadb-install.log"
  mariadbd --no-defaults --user="$user" --datadir="$dir/mysql" --socket="$dir/mysql.socket" \
    --pid-file="$dir/mariadbd.pid" --skip-networking --innodb-buffer-pool-size=64M \
    >"$dir/log/mariadbd.log" 2>&1 8>&- &
  await 30 mariadbd mariadb --no-defaults --socket="$dir/mysql.socket" -e 'select 1'
  mariadb --no-defaults --socket="$dir/mysql.socket" -e "create database slurm_acct;
    create user if not exists '$user'@localhost identified via unix_socket;
    grant all on slurm_acct.* to '$user'@localhost;"
  # The socket of a client library that is given no path; slurmdbd has no option for it.
  MYSQL_UNIX_PORT="$dir/mysql.socket" slurmdbd
  await 30 slurmdbd sacctmgr -n list cluster
  sacctmgr -i add cluster uas >"$dir/log/sacctmgr.log" 2>&1 || true
  sacctmgr -i add account uas >>"$dir/log/sacctmgr.log" 2>&1 || true
  sacctmgr -i add user "$user" account=uas >>"$dir/log/sacctmgr.log" 2>&1 || true
}

start_slurmd() { # start_slurmd NAME
  mkdir -p "$dir/$1/spool"
  slurmd -N "$1"
}

start_node() {
  start_slurmd "$1"
  # Back from "down"; right after a kill the controller may not have noticed yet, and refuses.
  scontrol update NodeName="$1" State=RESUME 2>/dev/null || true
}

# descendants PID...: these processes and all that they started
descendants() {
  local pid children
  for pid in "$@"; do
    echo "$pid"
    mapfile -t children < <(pgrep -P "$pid" || true)
    descendants "${children[@]}"
  done
}

kill_node() {
  local pid pids=()
  # A node's slurmd and the slurmstepds that it starts work in the folder of its log.
  for pid in $(pgrep -u "$user" -x 'slurmd|slurmstepd'); do
    [ "$(readlink "/proc/$pid/cwd")" != "$dir/$1" ] || pids+=("$pid")
  done
  mapfile -t pids < <(descendants "${pids[@]}")
  kill -KILL "${pids[@]}" 2>/dev/null || true
  rm -f "$dir/$1/slurmd.pid"
}

ready() { [ "$(sinfo -h -N -t idle,mix,alloc -p main | wc -l)" -eq "$nodes" ]; }

up() {
  missing && install
  [ ! -e "$dir/slurm.conf" ] || fail "$dir holds a cluster already: 'cluster.sh down --dir $dir' first"
  mkdir -p "$dir"/{log,state}
  chmod 755 "$dir"
  write_slurm_conf
  # shellcheck disable=SC1091
  . "$dir/env.sh"
  start_munge
  if $accounting; then start_database; fi
  slurmctld
  local i
  for ((i = 1; i <= nodes; i++)); do start_slurmd "node$i"; done
  await 60 "the cluster" ready
  echo ". '$dir/env.sh'"
}

# end_pid FILE: end the process that a pid file names, and wait for it
end_pid() {
  local pid i
  [ -s "$1" ] || return 0
  pid=$(cat "$1")
  kill "$pid" 2>/dev/null || return 0
  for ((i = 0; i < 50; i++)); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL "$pid" 2>/dev/null || true
}

down() {
  [ -e "$dir/slurm.conf" ] || return 0
  # shellcheck disable=SC1091
  . "$dir/env.sh"
  local path
  for path in "$dir"/node*/; do kill_node "$(basename "$path")"; done
  for path in "$dir"/{slurmctld,slurmdbd,mariadbd,munged}.pid; do end_pid "$path"; done
  rm -rf "$dir"
}

[ $# -gt 0 ] || { usage && exit 2; }
verb=$1
shift
node=
while [ $# -gt 0 ]; do
  case $1 in
    --dir | --nodes | --cpus | --gpus)
      [ $# -gt 1 ] || fail "option $1 wants a value"
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    --accounting) accounting=true ;;
    -h | --help) usage && exit 0 ;;
    -*) fail "unknown option '$1'; see --help" ;;
    *) node=$1 ;;
  esac
  shift
done
case $verb in
  install) install ;;
  up) up ;;
  down) down ;;
  kill-node | start-node)
    [ -e "$dir/slurm.conf" ] || fail "no cluster in $dir: 'cluster.sh up' first"
    # shellcheck disable=SC1091
    . "$dir/env.sh"
    scontrol show node "${node:-?}" >/dev/null 2>&1 || fail "no node '$node'; there are node1 and so on"
    "${verb/-/_}" "$node"
    ;;
  -h | --help | help) usage ;;
  *) fail "unknown verb '$verb'; see --help" ;;
esac
