#!/bin/sh
# tests: run in a virtual machine by scripts/test-vm, which has made its disk: every test program that /tests names,
# with the one version of cgroups that the kernel's command line asks for; with both, what is for both.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
unset TERM
cat /proc/version /proc/cmdline

# v1 CONTROLLERS: the hierarchy that has them.
v1() {
  mkdir -p "/sys/fs/cgroup/$1"
  mount -t cgroup -o "$1" cgroup "/sys/fs/cgroup/$1"
}

other=v1
case $(cat /proc/cmdline) in
  *td.cgroups=v1*)
    other=v2
    umount /sys/fs/cgroup
    mount -t tmpfs cgroup /sys/fs/cgroup
    for controllers in blkio cpu,cpuacct cpuset devices freezer memory pids; do v1 "$controllers"; done ;;
esac
mkdir -p /dev/shm

# try PROGRAM ARG...: a test program, of those that are asked for.
try() {
  program=$1
  shift
  printf '== %s %s\n' "$program" "$*"
  (cd "${program%/target/*}" && exec "$program" --color never "$@" </dev/null 2>&1) || :
  read -r up _ </proc/uptime
  printf 'after %s seconds\n' "$up"
}

# First version 2 too, with the one controller that is left: then both are here. What was there for it needs a moment
# to go.
if [ "$other" = v2 ]; then
  mkdir /sys/fs/cgroup/unified
  mount -t cgroup2 cgroup /sys/fs/cgroup/unified
  try "$(grep '/cgroup-' /tests)" hybrid::
  umount /sys/fs/cgroup/unified
  rmdir /sys/fs/cgroup/unified
  tries=0
  until v1 hugetlb 2>/dev/null || [ "$tries" = 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
fi
grep cgroup /proc/mounts
while read -r file; do
  try "$file" --skip "$other::" --skip hybrid::
done </tests
echo 'done'
stty sane # waits until the console has sent it
