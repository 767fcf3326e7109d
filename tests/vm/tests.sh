#!/bin/sh
# tests: run in a virtual machine by scripts/test-vm, which has made its disk: every test program that /tests names,
# with the one version of cgroups that the kernel's command line asks for.
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
while read -r file; do
  printf '== %s\n' "$file"
  cd "${file%/target/*}"
  "$file" --color never --skip "$other::" --skip hybrid:: </dev/null 2>&1 || :
  read -r up _ </proc/uptime
  printf 'after %s seconds\n' "$up"
done </tests
echo 'done'
stty sane # waits until the console has sent it
