#!/bin/sh
# tests: run in a virtual machine by scripts/test-vm, which has made its disk: the tests that /tests/MACHINE names, a
# program and its arguments a line. `td.tests=MACHINE` is on the kernel's command line. In v1 are version 1 alone and,
# for the tests of /tests/hybrid, both; in the others is version 2 alone.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
unset TERM
read -r version </proc/version
read -r words </proc/cmdline
printf '%s\n' "$version" "$words"
machine=${words##*td.tests=}
machine=${machine%% *}
read -r checkout </checkout
cd "$checkout"
mkdir -p /dev/shm

# v1 CONTROLLERS: the hierarchy that has them.
v1() {
  mkdir -p "/sys/fs/cgroup/$1"
  mount -t cgroup -o "$1" cgroup "/sys/fs/cgroup/$1"
}

# try LIST: the tests that it names.
try() {
  while read -r line; do
    printf '== %s\n' "$line"
    # shellcheck disable=SC2086 # words
    $line --color never </dev/null 2>&1 || :
    read -r up _ </proc/uptime
    printf 'after %s seconds\n' "$up"
  done <"/tests/$1"
}

if [ "$machine" = v1 ]; then
  umount /sys/fs/cgroup
  mount -t tmpfs cgroup /sys/fs/cgroup
  for controllers in blkio cpu,cpuacct cpuset devices freezer memory pids; do v1 "$controllers"; done
  # First version 2 too, with the one controller that is left: then both are here. What was there for it needs a moment
  # to go.
  mkdir /sys/fs/cgroup/unified
  mount -t cgroup2 cgroup /sys/fs/cgroup/unified
  try hybrid
  umount /sys/fs/cgroup/unified
  rmdir /sys/fs/cgroup/unified
  tries=0
  until v1 hugetlb 2>/dev/null || [ "$tries" = 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
  done
fi
grep cgroup /proc/mounts
try "$machine"
echo 'done'
stty sane # waits until the console has sent it
