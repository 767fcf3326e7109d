#!/bin/sh
# root.sh: what runs in the root that rootfs/init has made, whose kind `td.kind=` of the kernel's command line says.
set -u

# Not one of the directories that td-mkinitramfs makes.
# shellcheck disable=SC1091 # a file of the machine
. /usr/bin/is.sh

echo # behind what the firmware has printed
read -r words </proc/cmdline
kind=${words##*td.kind=}
kind=${kind%% *}
is "the root is $kind" "$kind" "$(awk '$2 == "/" { kind = $3 } END { print kind }' /proc/mounts)"
is 'it can be written' written "$(echo written >/written; cat /written)"
is 'the mounts of the machine are there' '/dev /dev/pts /dev/shm /proc /run /sys /sys/fs/cgroup' \
  "$(awk '$2 ~ "^/(dev|proc|run|sys)" && $2 != "/dev/mqueue" { print $2 }' /proc/mounts | sort | tr '\n' ' ' | sed 's/ $//')"
behind=''
case $words in *' -- '*) behind=${words##* -- } ;; esac
is 'its arguments are those behind --' "$behind" "$*"
is 'process 1 is td-exec' td-init "$(cat /proc/1/comm)"
is 'the shell has the console' yes "$(tty >/dev/null && echo yes)"
# The state is on a tmpfs, for an overlay takes no upper layer from another overlay.
mkdir -p /run/td
cp -a /var/lib/td/images /run/td/
# shellcheck disable=SC2016 # for the container's shell
is 'a container runs' 'hello
1 td-init' "$(td-run --state /run/td --memory 64M --pids 20 hello sh -c 'hostname; echo 1 "$(cat /proc/1/comm)"' 2>&1)"
is 'its limit holds' 137 "$(td-run --state /run/td -m 16M hog tail /dev/zero >/run/said 2>&1; echo $?)"
is 'and is named' 'td-unshare: PROG was killed by the memory limit of 16M' "$(grep -v '^Killed' /run/said)"
is 'nothing is left of them' '' "$(find /run/td/containers /sys/fs/cgroup/td -name 'c-*' -o -name hello -o -name hog)"
finish
