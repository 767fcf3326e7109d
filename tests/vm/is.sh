#!/bin/sh
# is.sh: how these tests say what they have seen, and that they have come to their end. They read it in.

# is NAME EXPECTED SEEN
is() {
  if [ "$2" = "$3" ]; then
    printf 'ok %s\n' "$1"
  else
    printf 'not ok %s\nexpected: %s\nseen: %s\n' "$1" "$2" "$3"
  fi
}

# The last word of a script. What the console has not sent yet is lost when the machine goes off: stty waits for it.
finish() {
  echo 'done'
  stty sane
}
