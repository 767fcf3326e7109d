#!/bin/sh
# td-exec in a virtual machine: a controlling terminal on the real console, and process 1 of a machine.
# As /init. What is tried at the end, `td.exec=WHAT` on the kernel's command line says. Prints `ok NAME` or
# `not ok NAME` for each check; how the machine ends is for the caller to see.
set -eu
export PATH=/bin:/sbin
[ -e /proc/self ] || exec td-mount --proc --sys-rw --devtmpfs / sh "$0"

says() {
  case $1 in
    *"$3"*) printf 'ok %s\n' "$2" ;;
    *) printf 'not ok %s: %s\n' "$2" "$1" ;;
  esac
}

# What /proc/PID/stat says behind the name: state, ppid, pgrp, session, tty_nr, tpgid.
# shellcheck disable=SC2016 # for the shell that td-exec starts
stat='read -r text </proc/$$/stat; set -- ${text##*) }; echo "$3 $4 $5 $6 is $$ $(tty)"'

terminal() {
  read -r active </sys/class/tty/console/active
  console=/dev/${active##* }
  td-init td-exec --ctty sh -c "$stat >/tmp/stat"
  read -r pgrp session number foreground _ pid tty </tmp/stat
  says "$pgrp $session $foreground" 'PROG leads session and foreground group' "$pid $pid $pid"
  says "$tty" 'the console is the real one' "$console"
  says "$number" 'it controls the session' "$(device "$console")"

  td-init td-exec --ctty="$console" sh -c "$stat >/tmp/stat; sleep 1000 & exit 0"
  td-init td-exec --ctty="$console" sh -c "$stat >/tmp/stat"
  read -r pgrp session number foreground _ pid tty </tmp/stat
  says "$foreground" 'the next session has the terminal after the last one' "$pid"

  td-init td-exec --ctty="$console" sh -c 'echo >/tmp/begun; exec sleep 1000' &
  until [ -e /tmp/begun ]; do sleep 0.1; done
  said=$(td-init td-exec --ctty="$console" true 2>&1) || :
  says "$said" 'a terminal of another session is refused' "$console controls the session of process "
  kill $!
  wait $! || :

  said=$(td-unshare -m sh -c 'umount -l /sys; td-exec --ctty true' 2>&1) || :
  says "$said" 'without /sys it says so' 'sysfs, which names the console, is not mounted on /sys'
  says "$said" 'and the way out' 'name the terminal: --ctty=/dev/ttyS0'
  # No device is behind a serial port that the kernel has not.
  mknod /tmp/ttyS99 c 4 163
  said=$(td-exec --ctty=/tmp/ttyS99 true 2>&1) || :
  says "$said" 'a device without a driver is named' 'the device of /tmp/ttyS99 does not exist'
}

# The number of a device, as tty_nr has it.
device() {
  number=$(stat -c '%t %T' "$1")
  echo $((0x${number% *} << 8 | 0x${number#* }))
}

# A file system on a disk, which is read-only when the machine ends. Its journal needs no recovery then.
disk() {
  [ -b /dev/vda ] || return 0
  mkdir -p /tmp/disk
  mount -t ext4 /dev/vda /tmp/disk
  echo written >/tmp/disk/file
}

echo # behind what the firmware has printed
terminal
disk
echo 'done' # but for the end
read -r line </proc/cmdline
case " $line " in
  *' td.exec=poweroff '*)
    # Not even a PROG that is not there ends process 1. Orphans that ignore SIGTERM end all the same.
    sh -c 'trap "" TERM; while :; do sleep 1000; done' &
    exec td-init --on-exit poweroff td-exec --ctty /nowhere
    ;;
  *' td.exec=reboot '*)
    # Nor a command line that is wrong.
    exec td-init --on-exit reboot --no-such-option true
    ;;
  *' td.exec=halt '*)
    # Nor a user who is not there.
    exec td-init --on-exit halt td-exec --user nobody-of-this-name true
    ;;
  *' td.exec=respawn '*)
    # shellcheck disable=SC2016 # for the shell that td-exec starts
    exec td-init --on-exit respawn td-exec --ctty sh -c '
      echo x >>/tmp/times
      [ "$(wc -l </tmp/times)" = 3 ] || exit 7
      echo "ok respawn: $(tty)"
      poweroff -f'
    ;;
  *' td.exec=keys '*)
    # Ctrl-Alt-Del, from outside: the machine restarts in order.
    exec td-init --on-exit respawn sh -c 'echo ready for Ctrl-Alt-Del; exec sleep 1000'
    ;;
  *' td.exec=shell '*)
    # From there a container with a terminal of its own; its state is on a tmpfs, on which an overlay can have its upper.
    while read -r module; do insmod "/lib/modules/$module"; done </lib/modules/order
    mkdir -p /run /image/bin /image/dev /image/proc /image/sys
    cp "$(which busybox)" /image/bin/busybox
    for applet in sh sleep stty tty; do ln -s busybox "/image/bin/$applet"; done
    exec td-mount --tmpfs /run / td-init --on-exit respawn td-exec --ctty -- sh -i
    ;;
esac
exec td-init --on-exit poweroff echo "not ok: td.exec=WHAT is missing on the kernel's command line"
