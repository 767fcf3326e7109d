#!/bin/sh
# is.sh: how these tests say what they have seen. They read it in.

# is NAME EXPECTED SEEN
is() {
  if [ "$2" = "$3" ]; then
    printf 'ok %s\n' "$1"
  else
    printf 'not ok %s\nexpected: %s\nseen: %s\n' "$1" "$2" "$3"
  fi
}
