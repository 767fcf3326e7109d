#!/bin/sh
# boot.sh: start a virtual machine, wait for what it prints, and end it when it prints nothing any more. scripts/test-vm
# reads this file, and so does tests/vm.rs with a qemu that is a script.
#
# The caller sets $vm, where the kernels and the logs are, $machine and $architecture. $pid is qemu's while it runs.
# shellcheck disable=SC2154 # these

# A machine that prints nothing for so many seconds is ended. How long it runs has no bound, for that depends on the
# machine it runs on. Of a test that takes more than 60 seconds libtest prints a line then, and another at its end. A
# program that hangs is ended by its test after 300 seconds (LIMIT).
silence=600
# So many lines are printed only by what begins again and again. The tests print some hundred.
most_lines=20000

# start NAME WORDS ARG...: boot a machine of $architecture with WORDS for the kernel's command line and arguments for
# qemu. What it prints goes into $log, what is written to descriptor 3 is typed at its console (see
# enter).
start() {
  name=$1 log=$vm/$machine.$1.log words=$2
  shift 2
  case $architecture in
    # Of this machine's processors one is used: when two have to invalidate what each other remembers of memory,
    # emulation is several times as slow. The kernel's guards cost time, and are not what is tested.
    amd64)
      set -- qemu-system-x86_64 -machine pc -cpu qemu64 \
        -append "console=ttyS0 quiet panic=-1 mitigations=off init_on_alloc=0 no_timer_check $words" "$@" ;;
    arm64)
      set -- qemu-system-aarch64 -machine virt -cpu cortex-a57 -append "console=ttyAMA0 quiet panic=-1 $words" "$@" ;;
  esac
  for kernel in "$vm/$architecture/root/boot"/vmlinuz-*; do :; done
  printf 'boot %s %s with Linux %s\n' "$machine" "$name" "${kernel##*/vmlinuz-}" >"$log"
  rm -f "$log.typed"
  mkfifo "$log.typed"
  ended=''
  # By exec, for else yash starts qemu as a child of the process with that pid.
  exec "$@" -accel tcg,thread=single -smp 2 -kernel "$kernel" -nic none -nographic -no-reboot \
    <"$log.typed" >>"$log" 2>&1 &
  pid=$!
  exec 3>"$log.typed"
  rm "$log.typed"
}

# enter FORMAT: type it at the machine's console. One that has ended reads nothing, and SIGPIPE is not for us then.
enter() {
  # shellcheck disable=SC2059 # it is one of ours
  (trap '' PIPE && printf "$1" >&3) 2>/dev/null || :
}

# say FORMAT WORD...: a line behind what the machine has printed.
say() {
  format=$1
  shift
  # shellcheck disable=SC2059 # it is one of ours
  printf "\n$format\n" "$@" >>"$log"
}

# watch COMMAND...: until COMMAND succeeds or the machine has ended. What the kernel complains of, "[  123.456789] ...",
# is no progress: a machine that hangs does so again and again.
watch() {
  quiet=0 last=''
  while kill -0 "$pid" 2>/dev/null && ! "$@"; do
    sleep 1
    lines=$(grep -acv '^\[' "$log") || :
    quiet=$((quiet + 1))
    [ "$lines" = "$last" ] || quiet=0 last=$lines
    if [ "$quiet" -ge "$silence" ]; then
      end "it has printed nothing for $silence seconds"
    elif [ "$lines" -gt "$most_lines" ]; then
      end "it has printed more than $most_lines lines"
    fi
  done
}

# end WHY: what the machine was doing, the last line shows. qemu ends on SIGTERM, if it can.
end() {
  [ ! "$ended" ] || return 0
  ended=yes
  doing=$(tr -d '\r' <"$log" | sed -n '/[^[:space:]]/h; ${ x; p; }')
  kill "$pid" 2>/dev/null || :
  tries=0
  while sleep 1 && kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 5 ]; do tries=$((tries + 1)); done
  kill -KILL "$pid" 2>/dev/null || :
  say 'not ok %s: %s and was ended; the last line is: %s' "$name" "$1" "$doing"
}

# await TEXT: until the machine has printed it.
await() {
  watch grep -aq -e "$1" "$log"
  grep -aq -e "$1" "$log" || say 'not ok %s: it has not printed: %s' "$name" "$1"
}

# ends TEXT: its last words, which the kernel says.
ends() {
  reap
  case $status:$(tail -n 3 "$log") in
    0:*"$1"*) say 'ok %s: %s' "$name" "$1" ;;
    *) say 'not ok %s: qemu ended with %s, and not after: %s' "$name" "$status" "$1" ;;
  esac
}

# End a machine that does not end by itself: Ctrl-A x is for qemu.
quit() {
  enter '\001x'
  reap
}

# Wait for its end, and see that its script has come to its own.
reap() {
  watch false
  status=0
  wait "$pid" || status=$?
  pid=''
  exec 3>&-
  tr -d '\r' <"$log" | grep -aqx 'done' || say 'not ok %s: its script has not come to its end' "$name"
}
