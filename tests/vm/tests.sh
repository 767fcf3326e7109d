#!/bin/sh
# tests: run in a virtual machine by scripts/test-vm, which has made its disk: every test program that /tests names,
# with the one version of cgroups that the kernel's command line asks for; with both, what is for both.
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
unset TERM
cat /proc/version /proc/cmdline

other=v1
case $(cat /proc/cmdline) in
  *td.cgroups=v1*)
    other=v2
    umount /sys/fs/cgroup
    mount -t tmpfs cgroup /sys/fs/cgroup
    for controllers in blkio cpu,cpuacct cpuset devices freezer hugetlb memory pids; do
      mkdir "/sys/fs/cgroup/$controllers"
      mount -t cgroup -o "$controllers" cgroup "/sys/fs/cgroup/$controllers"
    done ;;
esac
mkdir -p /dev/shm
grep cgroup /proc/mounts

# try PROGRAM ARG...: a test program, of those that are asked for.
try() {
  program=$1
  shift
  printf '== %s %s\n' "$program" "$*"
  (cd "${program%/target/*}" && exec "$program" --color never "$@" </dev/null 2>&1) || :
  read -r up _ </proc/uptime
  printf 'after %s seconds\n' "$up"
}

while read -r file; do
  try "$file" --skip "$other::" --skip hybrid::
done </tests
# Version 2 too, with the controller that nothing uses any more: then both are here.
if [ "$other" = v2 ]; then
  find /sys/fs/cgroup/hugetlb -mindepth 1 -depth -type d -exec rmdir {} +
  umount /sys/fs/cgroup/hugetlb
  mkdir /sys/fs/cgroup/unified
  mount -t cgroup2 cgroup /sys/fs/cgroup/unified
  try "$(grep '/cgroup-' /tests)" hybrid::
fi
echo 'done'
stty sane # waits until the console has sent it
