#!/bin/sh
# initramfs.sh: what only the first process of a machine can show, from the initramfs on. It is the /init that
# `td-mkinitramfs --init` packs: nothing is mounted. One line a test, `ok NAME` or `not ok NAME`; then the machine is
# powered off.
set -eu

# shellcheck disable=SC1091 # a file of the machine
. /bin/is.sh

# has NAME PART WHOLE
has() {
  case $3 in
    *"$2"*) printf 'ok %s\n' "$1" ;;
    *) printf 'not ok %s\nexpected: %s\nseen: %s\n' "$1" "$2" "$3" ;;
  esac
}

# busybox and the tools, in a new directory.
tree() {
  mkdir -p "$1/bin" "$1/proc" "$1/dev" "$1/sys" "$1/run" "$1/tmp"
  cp "$(which busybox)" "$1/bin/busybox" # it is also a command of its own shell
  "$1/bin/busybox" --list | while read -r applet; do
    [ -e "$1/bin/$applet" ] || ln -s busybox "$1/bin/$applet"
  done
  for tool in td-cgroup td-enter td-exec td-lock td-mount td-overlay td-pivot td-run td-unshare; do
    cp "$(command -v "$tool")" "$1/bin/$tool"
  done
}

available() {
  while read -r name kilobytes _; do
    if [ "$name" = MemAvailable: ]; then printf '%s\n' "$kilobytes"; fi
  done </proc/meminfo
}

said='the root is the initramfs, which cannot be pivoted'
script=$0

# As the kernel starts it: no /proc, no /dev. It ends in the next step, which has them.
bare() {
  echo # behind what the firmware has printed
  is 'nothing is mounted' no "$([ -e /proc/self ] && echo yes || echo no)"
  tree /image
  inside='mount -t proc p /proc; cut -d" " -f4,5 /proc/self/mountinfo'
  seen=$(td-unshare -m td-pivot /image sh -c "$inside" 2>&1) || :
  is 'a directory of the initramfs becomes the root of a container' "td-pivot: $said: /image was moved onto it
/image /
/ /proc" "$seen"
  has 'only PID 1 pivots in its mount namespace' 'this is the mount namespace of PID 1' "$(td-pivot /image true 2>&1)"
  has 'without /proc a failure has its cause' 'the current root is the initramfs, which has no parent mount' \
    "$(td-unshare -m td-pivot --put-old tmp /image true 2>&1)"
  has 'the initramfs is not freed where the new root lies on it' 'would be emptied' \
    "$(td-unshare -m td-pivot --free-initramfs /image true 2>&1)"
  mkdir -p /proc /dev /sys /run /new
  # /a covers /a/b: both must go for the initramfs to be freed.
  exec td-mount --proc --dev --sys-rw --cgroup --tmpfs /run --tmpfs /new --tmpfs /a/b --tmpfs /a / sh "$script" mounted
}

mounted() {
  # What td-mkinitramfs has put there, in the order in which they load.
  while read -r module; do insmod "/lib/modules/$module"; done </lib/modules/order
  tree /new
  cp "$script" /new/initramfs.sh
  cp /bin/is.sh /new/bin/
  has 'the initramfs is not freed by another than PID 1' "only PID 1 of the machine may free the initramfs" \
    "$(td-unshare -m td-pivot --free-initramfs /new true 2>&1)"
  has 'nor by PID 1 of a container' "only PID 1 of the machine may free the initramfs" \
    "$(td-unshare -m -p td-pivot --free-initramfs /new true 2>&1)"
  escape='mkdir -p /x/bin; cp /bin/busybox /x/bin; nsenter -r/x -w/ /bin/busybox ls ../../../..; rm -r /x'
  has 'a chroot in a container is no way to the initramfs' "bin
dev
initramfs.sh
proc
run
sys
tmp
x" "$(td-unshare -m td-pivot /new sh -c "$escape" 2>&1)"
  unmount='unshare -r -m sh -c "umount -l /; ls /"'
  has 'a user namespace in a container is no way to it' "umount: can't unmount /: Invalid argument
bin" "$(td-unshare -m td-pivot --move /proc /new sh -c "$unmount" 2>&1)"
  is 'the mounts of the machine stay when a container has taken one along' / \
    "$(td-unshare -m td-pivot --move /proc /new true 2>/dev/null; cut -d' ' -f4 /proc/self/mountinfo | sort -u)"
  policy
  container 'the initramfs' /run/state
  # What is mounted on the initramfs is let go of: the new root has it in another place, with its files.
  mkdir /other /new/other
  mount -t tmpfs t /other
  mkdir -p /other/a/b
  echo kept >/other/a/b/file
  mount --bind /other /new/other
  # A file of 64 MiB, which only --free-initramfs gives back.
  dd if=/dev/zero of=/ballast bs=1M count=64 2>/dev/null
  exec td-pivot --move /dev,/proc,/sys,/run --free-initramfs /new sh /initramfs.sh pivoted "$(available)"
}

# The default policy, by the numbers of this machine: what it refuses, and that the rest goes.
policy() {
  # shellcheck disable=SC2016 # for the shell that is under it
  seen=$(td-exec --no-new-privs --cap-keep none --seccomp default sh -c '
    grep ^Seccomp: /proc/self/status
    unshare -U true
    mount -t tmpfs t /run
    mknod /run/pipe p && mkdir /run/dir && mv /run/pipe /run/dir && rm -r /run/dir && sleep 0.1 | cat && kill -0 $$
    echo $?' 2>&1) || :
  is 'a policy holds' "Seccomp:	2
unshare: unshare(0x10000000): Operation not permitted
mount: permission denied (are you root?)
0" "$seen"
  printf 'default\nENOSYS mkdir mkdirat\n' >/run/policy
  seen=$(td-exec --no-new-privs --seccomp /run/policy td-init sh -c 'mkdir /run/x' 2>&1) || :
  has 'a policy from a file holds' "can't create directory '/run/x': Function not implemented" "$seen"
  printf 'default\nEPERM wait4\n' >/run/policy
  has 'what process 1 needs is checked' 'the policy refuses wait4(2), which process 1 needs' \
    "$(td-exec --no-new-privs --seccomp /run/policy td-init true 2>&1)"
  has 'without a right to it there is no policy' 'this process has neither no_new_privs nor CAP_SYS_ADMIN' \
    "$(td-exec --user 1000 --cap-keep none td-exec --seccomp default true 2>&1)"
}

# td-run's whole flow. Its state is on a tmpfs, on which an overlay can have its upper.
container() {
  mkdir -p "$2/images"
  tree "$2/images/default"
  seen=$(td-run --state "$2" one sh -c 'echo $$; hostname; echo in >/file; cat /file; ls -d /..' 2>&1) || :
  has "the default policy is on in it" 'unshare(0x10000000): Operation not permitted' \
    "$(td-run --state "$2" one unshare -U true 2>&1)"
  has "td-run runs a container from $1" '2
one
in
/..' "$seen"
  seen=$(td-run --state "$2" --privileged two sh -c \
    'mkdir -p /tmp/up; mount -t tmpfs t /tmp/up; mkdir -p /tmp/up/u /tmp/up/w /tmp/up/m
    td-unshare -m -p -n -i -u td-overlay --lower / --upper /tmp/up/u --work /tmp/up/w /tmp/up/m \
      td-mount --proc /tmp/up/m td-pivot /tmp/up/m td-exec td-init sh -c "echo \$\$; ls -d /.."' 2>&1) || :
  has "and a container inside a container" '2
/..' "$seen"
  is 'and removes what it made' '' "$(ls "$2/containers")"
}

pivoted() {
  freed=$(($(available) - $1))
  has "the initramfs is freed ($freed kB)" yes "$([ "$freed" -ge 60000 ] && echo yes)"
  is 'its mounts went along' '/
/dev
/dev/mqueue
/dev/pts
/dev/shm
/other
/proc
/run
/sys
/sys/fs/cgroup' "$(cut -d' ' -f5 /proc/self/mountinfo | sort)"
  is 'and have their files' kept "$(cat /other/a/b/file)"
  is 'PID 1 is in the new root' 1 "$$"
  is 'a root that is a mount on another is pivoted' /.. \
    "$(td-unshare -m td-pivot --move /proc /run/state/images/default ls -d /.. 2>&1)"
  container 'a pivoted root' /run/second
}

# The first process must not end.
trap 'echo "not ok initramfs.sh has ended"; poweroff -f' EXIT
case ${1-} in
  '') bare ;;
  mounted) mounted ;;
  pivoted)
    pivoted "$2"
    sync
    finish
    exec poweroff -f
    ;;
esac
