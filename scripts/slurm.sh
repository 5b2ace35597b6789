#!/usr/bin/env bash
# A Slurm cluster of one node on this machine, with accounting, for tests/sweeps/test_slurm.py. Debian or Ubuntu, as root; without systemd or cgroups.
#   scripts/slurm.sh up      starts it (and installs it the first time); then: export SLURM_CONF=/var/lib/innerloop-slurm/slurm.conf
#   scripts/slurm.sh down    ends and deletes it
# All it has is in that folder, and it listens on the loopback interface alone, on ports of its own: a Slurm that is here already is left alone.
set -euo pipefail
HOME_OF_ALL=/var/lib/innerloop-slurm
export SLURM_CONF=$HOME_OF_ALL/slurm.conf MYSQL_UNIX_PORT=$HOME_OF_ALL/db.sock
SERVERS="slurmd slurmctld slurmdbd mariadbd munged" # in the order in which they end

wait_for() { # half a minute or so for a command to succeed
  for _ in $(seq 30); do timeout 5 "$@" >/dev/null 2>&1 && return; sleep 0.5; done
  echo "slurm.sh: gave up on: $*" >&2; return 1
}

installed() {
  for program in slurmctld slurmdbd slurmd munged mariadbd; do command -v $program >/dev/null || return 1; done
}

configure() {
  local host; host=$(hostname -s)
  mkdir -p $HOME_OF_ALL/{ctld,d,db,munge}
  chown munge: $HOME_OF_ALL/munge
  chown mysql: $HOME_OF_ALL/db
  cat > $SLURM_CONF <<CONF
ClusterName=innerloop
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$HOME_OF_ALL/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort=26817
SlurmdPort=26818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=5,batch_sched_delay=0
StateSaveLocation=$HOME_OF_ALL/ctld
SlurmdSpoolDir=$HOME_OF_ALL/d
SlurmctldPidFile=$HOME_OF_ALL/slurmctld.pid
SlurmdPidFile=$HOME_OF_ALL/slurmd.pid
SlurmctldLogFile=$HOME_OF_ALL/slurmctld.log
SlurmdLogFile=$HOME_OF_ALL/slurmd.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=26819
AccountingStoragePass=$HOME_OF_ALL/munge/socket
ReturnToService=2
KillWait=5
JobRequeue=1
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  cat > $HOME_OF_ALL/slurmdbd.conf <<CONF
AuthType=auth/munge
AuthInfo=socket=$HOME_OF_ALL/munge/socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=26819
CommunicationParameters=NoInAddrAny
SlurmUser=root
LogFile=$HOME_OF_ALL/slurmdbd.log
PidFile=$HOME_OF_ALL/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
CONF
  chmod 600 $HOME_OF_ALL/slurmdbd.conf
}

up() {
  installed || {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm slurmdbd munge mariadb-server >/dev/null
  }
  down
  configure
  head -c 1024 /dev/urandom > $HOME_OF_ALL/munge/key
  chown munge: $HOME_OF_ALL/munge/key && chmod 400 $HOME_OF_ALL/munge/key
  local m=$HOME_OF_ALL/munge
  runuser -u munge -- munged --key-file=$m/key --socket=$m/socket --pid-file=$m/munged.pid --log-file=$m/log --seed-file=$m/seed
  ln -sf munge/munged.pid $HOME_OF_ALL/munged.pid
  mariadb-install-db --user=mysql --datadir=$HOME_OF_ALL/db --auth-root-authentication-method=normal >$HOME_OF_ALL/install.log 2>&1
  chmod 777 $HOME_OF_ALL
  mariadbd --no-defaults --user=mysql --datadir=$HOME_OF_ALL/db --socket=$MYSQL_UNIX_PORT --pid-file=$HOME_OF_ALL/mariadbd.pid \
    --skip-networking --innodb-buffer-pool-size=32M >$HOME_OF_ALL/mariadbd.log 2>&1 &
  wait_for mariadb-admin --socket=$MYSQL_UNIX_PORT ping
  slurmdbd
  wait_for sacctmgr --noheader list cluster
  sacctmgr --immediate add cluster innerloop >/dev/null
  slurmctld
  slurmd
  wait_for srun --ntasks=1 --time=1 true
  echo "Slurm is up; export SLURM_CONF=$SLURM_CONF"
}

down() {
  for server in $SERVERS; do
    [ -f $HOME_OF_ALL/$server.pid ] || continue
    local pid; pid=$(cat $HOME_OF_ALL/$server.pid)
    kill "$pid" 2>/dev/null || continue
    wait_for bash -c "! kill -0 $pid"
  done
  rm -rf $HOME_OF_ALL
}

case ${1:-} in up | down) "$1" ;; *) sed -n '2,5s/^# //p' "$0"; exit 1 ;; esac
